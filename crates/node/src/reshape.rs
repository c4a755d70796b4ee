//! What operators want of groups, slots and replicas: asked of the controller and told to it, from
//! any node.
//!
//! A call is stamped like a client's write, so that it takes effect once, through changes of
//! leaders. What is decided here (which nodes, which slots) is a function of one state of the
//! controller, and the controller refuses what was decided on another one.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_kv::{Proposal, Reply as KvReply, WriteRequest};
use kontiki_net::proto::{self, reshape_request::Change};
use kontiki_net::{Failure, FailureCode, Outcome};
use kontiki_replica::steward::{self, CONTROLLER, StewardError};
use kontiki_replica::{
    Answer as Answered, Ask, Atlas, Caller, Host, RETENTION_MILLIS, SessionWrite, Target,
};
use kontiki_shard::balance::{self, Cut, Loads, Wishes};
use kontiki_shard::{
    Answer, Call, Configuration, GroupRef, Move, Observed, Op, Phase, Query, Refusal, Reply,
    SlotSet, Then, Told, Why,
};
use kontiki_types::{Epoch, GroupId, LogTime, NodeId, Seq, Slot};
use tokio::sync::oneshot;
use tonic::Status;

use crate::event_loop::Input;
use crate::native::told;
use crate::shared::Shared;

/// Replicas of a group for which no nodes are named.
const REPLICAS: usize = 3;

/// How long a controller may take to begin, and how often it is looked whether it has.
const SHARDING_TIMEOUT: Duration = Duration::from_secs(20);
const SHARDING_LOOK: Duration = Duration::from_millis(20);

/// How long a node that is named may take to be heard, and how often it is looked whether it is.
const HEARD_TIMEOUT: Duration = Duration::from_secs(3);
const HEARD_LOOK: Duration = Duration::from_millis(20);

/// How often a decision is made again that met another configuration than it was made on.
const DECISIONS_MAX: usize = 8;

/// The controller's state at one moment.
pub(crate) struct Overview {
    pub(crate) configuration: Configuration,
    moves: Vec<Move>,
    pub(crate) observed: BTreeMap<GroupId, Observed>,
}

fn refused(why: impl Into<String>) -> Status {
    Failure::not_applied(FailureCode::Conflict, why.into()).into()
}

fn invalid(why: impl Into<String>) -> Status {
    Failure::not_applied(FailureCode::Invalid, why.into()).into()
}

fn unexpected() -> Status {
    Failure::unknown(FailureCode::Internal, "a group gave an unexpected answer").into()
}

fn not_sharded() -> Status {
    refused(
        "the store is not sharded: it was made with one group\n\
         hint: `kontiki cluster enable-sharding` gives it a controller",
    )
}

async fn request(node: &Shared, to: GroupId, ask: Ask) -> Result<KvReply, Status> {
    let (sender, receiver) = oneshot::channel();
    let caller = Caller { connection: 0, ticket: node.registry.call(sender) };
    node.events.send(Input::Ask { to: Target::Group(to), caller, ask });
    match receiver.await {
        Ok(Answered::Reply(reply)) => Ok(reply),
        Ok(Answered::Failed(failure)) => Err(told(failure).into()),
        Err(_) => {
            let message = "the node is shutting down";
            Err(Failure::unknown(FailureCode::ShuttingDown, message).into())
        }
    }
}

fn no_answer(error: &StewardError) -> Status {
    match error {
        StewardError::Refused(line) => refused(line.clone()),
        StewardError::Unreadable(_) => {
            Failure::unknown(FailureCode::Internal, error.to_string()).into()
        }
    }
}

async fn ask(node: &Shared, query: &Query) -> Result<Answer, Status> {
    let reply = request(node, CONTROLLER, Ask::Read(steward::ask(query))).await?;
    steward::answered(&reply).map_err(|error| no_answer(&error))
}

/// Has the controller decide.
pub(crate) async fn decide(node: &Shared, op: Op) -> Result<Reply, Status> {
    match tell(node, CONTROLLER, &Call::Decide { op }).await? {
        Told::Decided { reply, .. } => Ok(reply),
        _ => Err(unexpected()),
    }
}

/// Tells a group something, once.
pub(crate) async fn tell(node: &Shared, to: GroupId, call: &Call) -> Result<Told, Status> {
    let mut command = Vec::new();
    steward::tell(call).encode(&mut command);
    // A session for one call.
    let (client, seq) = (node.client_id(node.registry.number()), Seq(1));
    let write = WriteRequest {
        client,
        seq,
        low: seq,
        deadline: LogTime(node.log_time().0.saturating_add(RETENTION_MILLIS)),
        after: None,
        slot: Slot::default(),
        command: command.into(),
    };
    let proposal = Proposal::write(LogTime(0), write).to_bytes();
    let reply = request(node, to, Ask::Write(SessionWrite { client, seq, proposal })).await?;
    steward::told(&reply).map_err(|error| no_answer(&error))
}

pub(crate) async fn overview(node: &Shared) -> Result<Overview, Status> {
    if !node.atlas().is_sharded() {
        return Err(not_sharded());
    }
    match ask(node, &Query::Overview).await? {
        Answer::Overview { configuration, moves, observed, .. } => {
            Ok(Overview { configuration, moves, observed })
        }
        _ => Err(unexpected()),
    }
}

/// A configuration, and what is under way.
pub(crate) async fn slots(
    node: &Shared,
    request: &proto::SlotsRequest,
) -> Result<proto::SlotsResponse, Status> {
    let now = overview(node).await?;
    let at = request.epoch.map(Epoch);
    let Answer::Configuration { found, oldest } = ask(node, &Query::Configuration { at }).await?
    else {
        return Err(unexpected());
    };
    let current = now.configuration.epoch();
    let Some(configuration) = found else {
        return Err(Failure::not_applied(
            FailureCode::NotFound,
            format!(
                "there is no configuration {}; {oldest} to {current} can be asked for",
                request.epoch.unwrap_or_default()
            ),
        )
        .into());
    };
    let groups = configuration.groups().map(|(id, group)| proto::SlotGroup {
        id: id.0,
        nodes: group.nodes.iter().map(|node| node.0).collect(),
        members: now
            .observed
            .get(&id)
            .map(|observed| observed.nodes.iter().map(|node| node.0).collect())
            .unwrap_or_default(),
        leaving: group.is_leaving,
        slots: configuration.slots_of(Some(id)).len() as u32,
    });
    let ranges = configuration
        .runs()
        .filter_map(|(first, last, owner)| owner.map(|owner| range((first, last), owner)));
    Ok(proto::SlotsResponse {
        epoch: configuration.epoch().0,
        oldest_epoch: oldest.0,
        current_epoch: current.0,
        groups: groups.collect(),
        ranges: ranges.collect(),
        moves: now.moves.iter().map(slot_move).collect(),
        controller_nodes: controller_nodes(node),
    })
}

/// Nodes with a vote in the controller.
fn controller_nodes(node: &Shared) -> Vec<u64> {
    let atlas = node.atlas();
    let place = atlas.groups.get(&CONTROLLER);
    place.into_iter().flat_map(|place| &place.nodes).map(|node| node.0).collect()
}

fn range((first, last): (Slot, Slot), group: GroupId) -> proto::SlotRange {
    proto::SlotRange { first: first.get().into(), last: last.get().into(), group: group.0 }
}

fn slot_move(found: &Move) -> proto::SlotMove {
    let (phase, why) = match found.phase {
        Phase::Planned => (proto::MovePhase::Planned, String::new()),
        Phase::Committed => (proto::MovePhase::Committed, String::new()),
        Phase::Cancelled { why } => (proto::MovePhase::Cancelled, why_text(why)),
    };
    let from = found.from.map_or(GroupId(0), |from| from.id);
    proto::SlotMove {
        id: found.tag.id.0,
        attempt: found.tag.attempt.0,
        from: from.0,
        to: found.to.id.0,
        ranges: found.slots.ranges().map(|one| range(one, from)).collect(),
        phase: phase.into(),
        why,
        part_of: found.part_of.0,
    }
}

fn why_text(why: Why) -> String {
    match why {
        Why::Asked => "asked for".to_owned(),
        Why::Late => "it took too long".to_owned(),
        Why::SumsDiffer => "what arrived was not what was sent".to_owned(),
        Why::Unreadable => "what arrived cannot be read".to_owned(),
        Why::Skew { millis } => format!(
            "the target's log time is {millis} ms ahead of the source's: look at the nodes' clocks"
        ),
        Why::TooManyChanges => "more was written meanwhile than is kept track of".to_owned(),
    }
}

/// Changes what an operator wants changed.
pub(crate) async fn reshape(
    node: &Shared,
    change: Change,
) -> Result<proto::ReshapeResponse, Status> {
    match change {
        Change::Join(join) => {
            let now = overview(node).await?;
            let nodes = match join.nodes.is_empty() {
                true => balance::choose(&now.configuration, &alive(&node.atlas()), REPLICAS),
                false => known(node, &join.nodes).await?,
            };
            let op = Op::Join { groups: vec![(GroupId(join.group), nodes)] };
            let epoch = done(decide(node, op).await?)?;
            Ok(changed(epoch, [], [GroupId(join.group)]))
        }
        Change::Leave(leave) => {
            let group = GroupId(leave.group);
            done(decide(node, Op::Leave { groups: vec![group] }).await?)?;
            rebalance(node).await
        }
        Change::Move(wanted) => move_slots(node, &wanted).await,
        Change::Rebalance(_) => rebalance(node).await,
        Change::EnableSharding(_) => enable_sharding(node).await,
        Change::Cancel(cancel) => cancel_moves(node, &cancel.ids).await,
        Change::Forget(forgotten) => forget(node, NodeId(forgotten.node)).await,
        Change::AddNode(add) => {
            known(node, &[add.node]).await?;
            let plan = |now: &Configuration, nodes: &[NodeId]| Ok(balance::spread(now, nodes));
            wish(node, plan).await
        }
        Change::Drain(drain) => {
            let leaver = NodeId(drain.node);
            wish(node, |now, nodes| {
                balance::drain(now, leaver, nodes).map_err(|group| {
                    refused(format!(
                        "no other node can take the replica of group {group}: each has one\n\
                         hint: start another node with --join first"
                    ))
                })
            })
            .await
        }
    }
}

/// Ends the membership of a node that has nothing any more.
async fn forget(node: &Shared, id: NodeId) -> Result<proto::ReshapeResponse, Status> {
    let atlas = node.atlas();
    let Some((info, _)) = atlas.nodes.get(&id) else {
        let now = overview(node).await?.configuration;
        if now.gone().iter().any(|(gone, _)| *gone == id) {
            return Ok(changed(now.epoch(), [], []));
        }
        let message = format!("there is no node {id}");
        return Err(Failure::not_applied(FailureCode::NotFound, message).into());
    };
    if atlas.groups.get(&CONTROLLER).is_some_and(|place| place.nodes.contains(&id)) {
        let message = format!("node {id} has a replica of the controller: drain it first");
        return Err(Failure::may_retry(FailureCode::Conflict, message).into());
    }
    let op = Op::Forget { node: id, incarnation: info.incarnation };
    Ok(changed(done(decide(node, op).await?)?, [], []))
}

/// Has a controller begin here, unless there is one, and waits until it says who has which slots.
async fn enable_sharding(node: &Shared) -> Result<proto::ReshapeResponse, Status> {
    node.placing.enable_sharding();
    let deadline = tokio::time::Instant::now() + SHARDING_TIMEOUT;
    while !node.atlas().is_sharded() {
        if tokio::time::Instant::now() >= deadline {
            let message = "no controller has begun yet; if this node goes on, it will";
            return Err(Failure::unknown(FailureCode::Timeout, message).into());
        }
        tokio::time::sleep(SHARDING_LOOK).await;
    }
    Ok(changed(overview(node).await?.configuration.epoch(), [], []))
}

/// The nodes that are heard, in order.
fn alive(atlas: &Atlas) -> Vec<NodeId> {
    atlas.nodes.iter().filter(|(_, (_, alive))| *alive).map(|(id, _)| *id).collect()
}

/// These nodes, if all are heard; one that has only just been started soon is.
async fn known(node: &Shared, wanted: &[u64]) -> Result<Vec<NodeId>, Status> {
    let deadline = tokio::time::Instant::now() + HEARD_TIMEOUT;
    let wanted: Vec<NodeId> = wanted.iter().copied().map(NodeId).collect();
    let missing = || {
        let alive = alive(&node.atlas());
        wanted.iter().copied().find(|node| !alive.contains(node))
    };
    while missing().is_some() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(HEARD_LOOK).await;
    }
    match missing() {
        None => Ok(wanted),
        Some(missing) => Err(Failure::not_applied(
            FailureCode::NotFound,
            format!(
                "node {missing} is not heard from; start it with --join and the gRPC address of a \
                 node of this cluster"
            ),
        )
        .into()),
    }
}

fn changed(
    epoch: Epoch,
    moves: impl IntoIterator<Item = u64>,
    groups: impl IntoIterator<Item = GroupId>,
) -> proto::ReshapeResponse {
    proto::ReshapeResponse {
        epoch: epoch.0,
        moves: moves.into_iter().collect(),
        groups: groups.into_iter().map(|group| group.0).collect(),
    }
}

/// The configuration after a decision.
fn done(reply: Reply) -> Result<Epoch, Status> {
    match reply {
        Reply::Done { epoch } | Reply::Planned { epoch, .. } => Ok(epoch),
        Reply::Refused { why } => Err(refused(why.to_string())),
        Reply::Busy => {
            let message = "the controller has too much to remember; try again later";
            Err(Failure::may_retry(FailureCode::Overloaded, message).into())
        }
        Reply::Unknown => Err(unexpected()),
    }
}

async fn move_slots(
    node: &Shared,
    wanted: &proto::MoveSlots,
) -> Result<proto::ReshapeResponse, Status> {
    let (mut slots, to) = (Vec::new(), GroupId(wanted.to));
    for range in &wanted.ranges {
        let slot = |number: u32| {
            let slot = u16::try_from(number).ok().and_then(Slot::new);
            slot.ok_or_else(|| invalid(format!("{number} is no slot: 0 to 16383")))
        };
        slots.extend(SlotSet::range(slot(range.first)?, slot(range.last)?).iter());
    }
    let slots: SlotSet = slots.into_iter().collect();
    let now = overview(node).await?;
    // Slots that are there already stay; the others go from each of their owners.
    let configuration = &now.configuration;
    let owners = configuration.groups().map(|(id, _)| Some(id)).chain([None]);
    let parts: Vec<(SlotSet, GroupId)> = owners
        .filter(|owner| *owner != Some(to))
        .map(|owner| configuration.slots_of(owner))
        .map(|owned| slots.iter().filter(|slot| owned.contains(*slot)).collect::<SlotSet>())
        .filter(|part| !part.is_empty())
        .map(|part| (part, to))
        .collect();
    open_moves(node, configuration.epoch(), &parts).await
}

/// Opens the moves of a plan that was made on a configuration, cut into what is moved at a time.
async fn open_moves(
    node: &Shared,
    at: Epoch,
    parts: &[(SlotSet, GroupId)],
) -> Result<proto::ReshapeResponse, Status> {
    let parts = balance::cut(parts, &Loads::new(), Cut::default());
    if parts.is_empty() {
        return Ok(changed(at, [], []));
    }
    let count = parts.len() as u64;
    let reply = decide(node, Op::Plan { at: Some(at), parts }).await?;
    let Reply::Planned { first, epoch } = reply else { return Err(again(reply)) };
    Ok(changed(epoch, first.0..first.0 + count, []))
}

/// A decision that met another configuration may be made again.
fn again(reply: Reply) -> Status {
    match reply {
        Reply::Refused { why: why @ Refusal::OtherEpoch { .. } } => {
            Failure::may_retry(FailureCode::Conflict, why.to_string()).into()
        }
        other => done(other).err().unwrap_or_else(unexpected),
    }
}

async fn rebalance(node: &Shared) -> Result<proto::ReshapeResponse, Status> {
    let mut decisions = 0;
    loop {
        let now = overview(node).await?;
        let plan = balance::plan(&now.configuration, now.moves.iter(), &Loads::new());
        let opened = open_moves(node, now.configuration.epoch(), &plan).await;
        decisions += 1;
        match opened {
            Err(status) if decisions < DECISIONS_MAX && may_retry(&status) => {}
            opened => return opened,
        }
    }
}

fn may_retry(status: &Status) -> bool {
    Failure::from_status(status).is_some_and(|failure| {
        failure.outcome == Outcome::MayRetry && failure.code == FailureCode::Conflict
    })
}

/// Gives up the attempts of moves that are not decided.
async fn cancel_moves(node: &Shared, ids: &[u64]) -> Result<proto::ReshapeResponse, Status> {
    let now = overview(node).await?;
    let open = now.moves.iter().filter(|found| ids.contains(&found.part_of.0));
    let mut cancelled = Vec::new();
    let mut epoch = now.configuration.epoch();
    for found in open.filter(|found| found.phase == Phase::Planned) {
        let (tag, then, why) = (found.tag, Then::Cancel, Why::Asked);
        // One that was committed meanwhile is refused, as it should be.
        if let Reply::Done { epoch: after } = decide(node, Op::Abort { tag, then, why }).await? {
            epoch = after;
            cancelled.push(tag.id.0);
        }
    }
    Ok(changed(epoch, cancelled, []))
}

/// Sets the nodes that are wanted for groups, as `plan` has them.
async fn wish(
    node: &Shared,
    plan: impl Fn(&Configuration, &[NodeId]) -> Result<Wishes, Status>,
) -> Result<proto::ReshapeResponse, Status> {
    let now = overview(node).await?;
    let wishes = plan(&now.configuration, &alive(&node.atlas()))?;
    let mut epoch = now.configuration.epoch();
    let mut groups = Vec::new();
    for (id, nodes) in wishes {
        let Some(entry) = now.configuration.group(id) else { continue };
        let group = GroupRef { id, joined: entry.joined };
        let instead_of = entry.nodes.clone();
        epoch = done(decide(node, Op::Want { group, instead_of, nodes }).await?)?;
        groups.push(id);
    }
    Ok(changed(epoch, [], groups))
}
