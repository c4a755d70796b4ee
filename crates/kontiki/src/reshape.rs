//! cluster slots, query, join, leave, move, rebalance, add-node, drain: which groups there are, which
//! slots they have, and where their replicas are.
//!
//! The controller takes a change at once; slots and replicas then move by themselves, whoever
//! watches. Waiting for it is for people: Ctrl-C asks to give up what has not moved yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stderr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kontiki_client::blocking::Client;
use kontiki_client::{
    CancelMoves, Change, DrainNode, Error, ForgetNode, MovePhase, SlotMove, SlotRange, Slots,
};
use kontiki_shard::SlotSet;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ReshapeArgs;
use crate::keys::{connect, told};

/// Between two looks at the controller: at first, since a few slots with little in them move in some
/// 20 ms, and at the most.
const LOOK_MIN: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(100);

/// Between two lines about the progress where there is no terminal.
const LINE: u32 = 20;

/// How long the controller may be out of reach before the waiting ends.
const SILENCE_MAX: u32 = 600;

/// Slots as people write them.
pub(crate) fn parse_ranges(text: &str) -> Result<Vec<SlotRange>> {
    let slots: SlotSet = text.parse().with_context(|| format!("--slots {text}"))?;
    let ranges = slots.ranges().map(|(first, last)| SlotRange {
        first: first.get().into(),
        last: last.get().into(),
        group: 0,
    });
    Ok(ranges.collect())
}

/// Has the controller make a change, and waits until it has come about.
pub(crate) fn run(change: Change, how: &ReshapeArgs) -> Result<()> {
    let client = connect(&how.address)?;
    let drained = match &change {
        Change::Drain(drain) => Some(drain.node),
        _ => None,
    };
    let done = client.reshape(change).map_err(told)?;
    let ids: BTreeSet<u64> = done.moves.iter().copied().collect();
    let groups: BTreeSet<u32> = done.groups.iter().copied().collect();
    let outcome = match how.no_wait {
        true => Outcome::default(),
        false => wait(&client, &Goal { ids: ids.clone(), groups: groups.clone(), drained })?,
    };
    if how.json {
        let value = json!({
            "epoch": done.epoch,
            "moves": ids,
            "groups": groups,
            "cancelled": outcome.cancelled.keys().collect::<Vec<_>>(),
        });
        println!("{value}");
    } else {
        println!("{}", told_outcome(done.epoch, &ids, &groups, how.no_wait));
    }
    match outcome.cancelled.into_iter().next() {
        None => Ok(()),
        Some((id, why)) => bail!(
            "move {id} was cancelled ({why}); its slots stay where they were\n\
             hint: `kontiki cluster slots` shows who has which slots; the same command again moves \
             the rest"
        ),
    }
}

/// Drains a node, and ends its membership when it has nothing any more.
pub(crate) fn remove_node(id: u64, how: &ReshapeArgs) -> Result<()> {
    if how.no_wait {
        bail!(
            "remove-node waits until the node has nothing any more\n\
             hint: `kontiki cluster drain --no-wait` does not; remove-node after it"
        );
    }
    run(Change::Drain(DrainNode { node: id }), how)?;
    let client = connect(&how.address)?;
    client.reshape(Change::Forget(ForgetNode { node: id })).map_err(told)?;
    if !how.json {
        println!("node {id} is removed");
    }
    Ok(())
}

fn told_outcome(
    epoch: u64,
    ids: &BTreeSet<u64>,
    groups: &BTreeSet<u32>,
    is_pending: bool,
) -> String {
    let mut text = format!("configuration {epoch}");
    if !ids.is_empty() {
        let _ = write!(text, ", {} moves", ids.len());
    }
    if !groups.is_empty() {
        let _ = write!(text, ", replicas of {} groups", groups.len());
    }
    if is_pending && !(ids.is_empty() && groups.is_empty()) {
        text.push_str(" under way");
    }
    text
}

/// What is waited for.
struct Goal {
    /// These moves are over.
    ids: BTreeSet<u64>,
    /// These groups have their replicas where they are wanted.
    groups: BTreeSet<u32>,
    /// No group has a replica here.
    drained: Option<u64>,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    /// Moves that were given up, and why.
    cancelled: BTreeMap<u64, String>,
}

fn wait(client: &Client, goal: &Goal) -> Result<Outcome> {
    let interrupts = interrupts()?;
    let is_terminal = stderr().is_terminal();
    let (mut asked, mut silent, mut looks) = (false, 0, 0u32);
    let mut pause = LOOK_MIN;
    let mut seen: BTreeMap<u64, SlotMove> = BTreeMap::new();
    let mut outcome = Outcome::default();
    loop {
        match client.slots(None) {
            Ok(now) => {
                silent = 0;
                note(&now, goal, &mut seen, &mut outcome);
                let open = open_moves(&now, goal);
                let misplaced = misplaced(&now, goal);
                if open == 0 && misplaced == 0 {
                    break judge(&now, &seen, outcome);
                }
                if is_terminal {
                    let _ = write!(stderr(), "\r\x1b[K{}", line(goal, open, misplaced, asked));
                } else if looks % LINE == LINE - 1 {
                    let _ = writeln!(stderr(), "{}", line(goal, open, misplaced, asked));
                }
                looks += 1;
            }
            // Its leader may have changed, or its node stopped: the moves go on all the same.
            Err(Error::MayRetry { .. } | Error::Unknown { .. }) if silent < SILENCE_MAX => {
                silent += 1;
            }
            Err(error) => return Err(told(error)),
        }
        pause = (pause * 3 / 2).min(LOOK);
        match interrupts.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) if !asked && !goal.ids.is_empty() => {
                asked = true;
                let ids = goal.ids.iter().copied().collect();
                client.reshape(Change::Cancel(CancelMoves { ids })).map_err(told)?;
            }
            _ => bail!(
                "not waited for the end: what is under way goes on\n\
                 hint: `kontiki cluster slots` shows it"
            ),
        }
    }
}

/// Ctrl-C and SIGTERM.
fn interrupts() -> Result<Receiver<()>> {
    let (sender, receiver) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                if sender.send(()).is_err() {
                    return;
                }
            }
        });
    })?;
    Ok(receiver)
}

/// Remembers the moves as they were last seen.
fn note(now: &Slots, goal: &Goal, seen: &mut BTreeMap<u64, SlotMove>, outcome: &mut Outcome) {
    for found in now.moves.iter().filter(|found| goal.ids.contains(&found.part_of)) {
        if found.phase() == MovePhase::Cancelled {
            outcome.cancelled.insert(found.id, found.why.clone());
        }
        seen.insert(found.id, found.clone());
    }
}

/// Moves that are not over; one that was split is when all its parts are.
fn open_moves(now: &Slots, goal: &Goal) -> usize {
    let parts = now.moves.iter().filter(|found| goal.ids.contains(&found.part_of));
    parts.map(|found| found.part_of).collect::<BTreeSet<_>>().len()
}

/// Groups of the goal whose replicas are not where they are wanted, and those with a replica where
/// none is to be, the controller too.
fn misplaced(now: &Slots, goal: &Goal) -> usize {
    let sorted = |nodes: &[u64]| nodes.iter().copied().collect::<BTreeSet<_>>();
    let is_there = |nodes: &[u64]| goal.drained.is_some_and(|node| nodes.contains(&node));
    let is_misplaced = |group: &&kontiki_client::SlotGroup| {
        let differs = sorted(&group.nodes) != sorted(&group.members);
        is_there(&group.members) || goal.groups.contains(&group.id) && differs
    };
    let groups = now.groups.iter().filter(is_misplaced).count();
    groups + usize::from(is_there(&now.controller_nodes))
}

/// A move whose end was missed between two looks is done if its slots are where they were to go.
fn judge(now: &Slots, seen: &BTreeMap<u64, SlotMove>, mut outcome: Outcome) -> Result<Outcome> {
    for (id, found) in seen {
        let owner = |slot: u32| {
            let range = now.ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
            range.map_or(0, |range| range.group)
        };
        let arrived = found.ranges.iter().all(|range| owner(range.first) == found.to);
        if !arrived && found.phase() == MovePhase::Planned {
            outcome.cancelled.entry(*id).or_insert_with(|| "its slots are elsewhere".to_owned());
        }
    }
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[K");
    }
    Ok(outcome)
}

fn line(goal: &Goal, open: usize, misplaced: usize, asked: bool) -> String {
    let mut text = String::new();
    if !goal.ids.is_empty() {
        let _ = write!(text, "moves: {} of {} done", goal.ids.len() - open, goal.ids.len());
    }
    if misplaced > 0 {
        let between = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{between}groups whose replicas are on their way: {misplaced}");
    }
    if asked {
        text.push_str("; asked to give up the rest");
    }
    text
}

/// Prints who has which slots, and what is on its way.
pub(crate) fn print_slots(client: &Client, json: bool) -> Result<()> {
    let slots = client.slots(None).map_err(told)?;
    let text = if json {
        format!("{}\n", serde_json::to_string_pretty(&as_json(&slots))?)
    } else {
        let mut text = String::new();
        for range in &slots.ranges {
            let _ = writeln!(text, "{}  group {}", range_text(range), range.group);
        }
        moves_text(&slots, &mut text);
        text
    };
    print(&text)
}

/// Prints a configuration.
pub(crate) fn print_configuration(client: &Client, epoch: Option<u64>, json: bool) -> Result<()> {
    let slots = client.slots(epoch).map_err(told)?;
    let text = if json {
        format!("{}\n", serde_json::to_string_pretty(&as_json(&slots))?)
    } else {
        let Slots { epoch, oldest_epoch, current_epoch, .. } = &slots;
        let mut text = format!("configuration {epoch} of {oldest_epoch} to {current_epoch}\n");
        for group in &slots.groups {
            let leaving = if group.leaving { "  leaving" } else { "" };
            let _ = writeln!(
                text,
                "group {}  {} slots  nodes {:?}  members {:?}{leaving}",
                group.id, group.slots, group.nodes, group.members
            );
            for range in slots.ranges.iter().filter(|range| range.group == group.id) {
                let _ = writeln!(text, "  {}", range_text(range));
            }
        }
        moves_text(&slots, &mut text);
        text
    };
    print(&text)
}

fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read has had enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn range_text(range: &SlotRange) -> String {
    match range.first == range.last {
        true => range.first.to_string(),
        false => format!("{}-{}", range.first, range.last),
    }
}

fn phase_text(phase: MovePhase) -> &'static str {
    match phase {
        MovePhase::Planned => "under way",
        MovePhase::Committed => "done, tidying up",
        MovePhase::Cancelled => "cancelled, tidying up",
        MovePhase::Unspecified => "unknown",
    }
}

fn moves_text(slots: &Slots, text: &mut String) {
    for found in &slots.moves {
        let ranges: Vec<_> = found.ranges.iter().map(range_text).collect();
        let _ = writeln!(
            text,
            "move {}  attempt {}  slots {}  group {} to {}  {}",
            found.id,
            found.attempt,
            ranges.join(","),
            found.from,
            found.to,
            phase_text(found.phase())
        );
    }
}

fn as_json(slots: &Slots) -> Value {
    let range = |range: &SlotRange| json!([range.first, range.last]);
    let groups = slots.groups.iter().map(|group| {
        let ranges = slots.ranges.iter().filter(|range| range.group == group.id);
        json!({
            "id": group.id,
            "slots": group.slots,
            "ranges": ranges.map(range).collect::<Vec<_>>(),
            "nodes": group.nodes,
            "members": group.members,
            "leaving": group.leaving,
        })
    });
    let moves = slots.moves.iter().map(|found| {
        json!({
            "id": found.id,
            "attempt": found.attempt,
            "from": Some(found.from).filter(|from| *from != 0),
            "to": found.to,
            "ranges": found.ranges.iter().map(range).collect::<Vec<_>>(),
            "phase": match found.phase() {
                MovePhase::Planned => "planned",
                MovePhase::Committed => "committed",
                MovePhase::Cancelled => "cancelled",
                MovePhase::Unspecified => "unknown",
            },
            "part_of": found.part_of,
            "why": Some(&found.why).filter(|why| !why.is_empty()),
        })
    });
    json!({
        "epoch": slots.epoch,
        "oldest_epoch": slots.oldest_epoch,
        "current_epoch": slots.current_epoch,
        "groups": groups.collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
    })
}
