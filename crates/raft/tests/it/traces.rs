//! Golden traces: protocol stories that can be read. Each file under `tests/traces/` shows one
//! behaviour, and its name says which. Lines that begin with `> ` are commands, those with `! `
//! commands whose outcome is not shown; below a command stands what it led to, line by line.
//! `UPDATE_TRACES=1 cargo test -p kontiki-raft traces` rewrites the outcomes; review the difference.
//!
//! ```text
//! nodes 1 2 3 [+4 +5] [chunk=BYTES] [lease=PPM] [quiesce=MS] [commits-wait]
//!                                               those with a plus are not in the group
//! elect N | win N | timeout N                     win stops at the moment of election
//! propose N WORD… | read N TOKEN | transfer N to M
//! await N for M INDEX                           M waits for this to be committed; N leads
//! change N voters N… [learners N…]
//! deliver [A->B] | lose [A->B] | run MS [without N] | wait MS
//! auto persist|apply on|off | persist N [COUNT] | break N | full N
//! silent N for M                                M has not heard the node N for long
//! crash N | start N | compact N | build N | status N
//! inject A->B tT append prev=I@T [commit=I] [I@T=WORD]… | vote last=I@T [transfer] | timeoutnow
//!                | quiesce last=I@T [commit=I]
//! ```

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kontiki_raft::{Body, Entry, EntryData, Lease};
use kontiki_types::{LogId, Member};

use crate::cluster::{Cluster, isolate, log_id, ms, n};
use crate::show;

#[test]
fn traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let update = std::env::var_os("UPDATE_TRACES").is_some();
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "traces are missing");
    let mut wrong = Vec::new();
    for file in files {
        let expected = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        assert!(expected.starts_with("# "), "{name} does not begin with its story");
        let actual = replay(&expected);
        if update {
            fs::write(&file, &actual).unwrap();
        } else if actual != expected {
            let line = actual.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
            wrong.push(format!(
                "{name}:{}: expected {:?}, got {:?}",
                line + 1,
                expected.lines().nth(line),
                actual.lines().nth(line)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn replay(script: &str) -> String {
    let mut cluster = Cluster::new(&[]);
    let mut text = String::new();
    for line in script.lines() {
        let command = line.strip_prefix("> ").or(line.strip_prefix("! "));
        if let Some(command) = command {
            cluster.trace.clear();
            execute(&mut cluster, command);
            writeln!(text, "{line}").unwrap();
            if line.starts_with('>') {
                for event in &cluster.trace {
                    writeln!(text, "    {event}").unwrap();
                }
            }
        } else if !line.starts_with("    ") {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}

fn execute(cluster: &mut Cluster, command: &str) {
    let words: Vec<&str> = command.split_whitespace().collect();
    let number = |at: usize| -> u64 {
        words.get(at).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{command}"))
    };
    let now = cluster.now;
    match words[0] {
        "nodes" => *cluster = create(&words[1..]),
        "elect" => cluster.elect(number(1)),
        "win" => cluster.win(number(1)),
        "timeout" => cluster.time_out(number(1)),
        "propose" => {
            for word in &words[2..] {
                let result = cluster.raft(number(1)).propose(now, word.as_bytes().to_vec());
                if let Err(refused) = result {
                    cluster.trace.push(format!("refused: {refused}"));
                }
            }
            drain(cluster, number(1));
        }
        "read" => match cluster.raft(number(1)).read(now, number(2)) {
            Ok(()) => {
                cluster.invariants.read_asked(number(2));
                drain(cluster, number(1));
            }
            Err(refused) => cluster.trace.push(format!("refused: {refused}")),
        },
        "transfer" => {
            if let Err(refused) = cluster.raft(number(1)).transfer(now, number(3).into()) {
                cluster.trace.push(format!("refused: {refused}"));
            }
            drain(cluster, number(1));
        }
        "await" => {
            cluster.raft(number(1)).commit_is_awaited(number(3).into(), number(4).into());
            drain(cluster, number(1));
        }
        "change" => change(cluster, number(1), &words[2..]),
        "deliver" => match words.get(1) {
            None => cluster.deliver_all(),
            Some(link) => {
                while let Some(place) = find(cluster, link) {
                    cluster.deliver_at(place);
                }
            }
        },
        "lose" => match words.get(1) {
            None => cluster.net.clear(),
            Some(link) => {
                while let Some(place) = find(cluster, link) {
                    let message = cluster.net.remove(place).unwrap();
                    cluster.trace.push(format!("lost: {}", show::message(&message)));
                }
            }
        },
        "run" if words.len() > 3 => cluster.run(ms(number(1)), isolate(number(3))),
        "run" => cluster.run_all(ms(number(1))),
        "wait" => cluster.now = cluster.now + ms(number(1)),
        "auto" => {
            let on = words[2] == "on";
            match words[1] {
                "persist" => cluster.auto.persist = on,
                "apply" => cluster.auto.apply = on,
                _ => panic!("{command}"),
            }
        }
        "persist" => {
            let at = cluster.at(n(number(1)));
            let count = words.get(2).map_or(usize::MAX, |word| word.parse().unwrap());
            cluster.persist(at, count);
            cluster.drain(at);
        }
        "silent" => {
            let silent = n(number(1));
            cluster.raft(number(3)).peer_down(now, silent);
            drain(cluster, number(3));
        }
        "break" => cluster.node(number(1)).disk.broken = true,
        "full" => cluster.raft(number(1)).set_storage_full(true),
        "crash" => cluster.crash_node(number(1)),
        "start" => cluster.start_node(number(1)),
        "compact" => cluster.compact(number(1)),
        "build" => {
            let at = cluster.at(n(number(1)));
            cluster.build_snapshot(at);
            cluster.drain(at);
        }
        "status" => {
            let status = cluster.status(number(1));
            cluster.trace.push(format!(
                "n{} {} t{} commit={} last={} durable={} {}",
                number(1),
                show::role(status.role),
                status.term,
                status.commit,
                status.last,
                status.durable,
                show::membership(&status.membership)
            ));
        }
        "inject" => {
            let (from, to) = ends(words[1]);
            let term = words[2].strip_prefix('t').unwrap().parse().unwrap();
            let replies = cluster.inject(from, to, term, body(&words[3..]));
            cluster.net.extend(replies);
        }
        _ => panic!("unknown command: {command}"),
    }
}

fn drain(cluster: &mut Cluster, node: u64) {
    let at = cluster.at(n(node));
    cluster.drain(at);
}

fn create(words: &[&str]) -> Cluster {
    let (mut nodes, mut voters) = (Vec::new(), Vec::new());
    let (mut chunk, mut lease, mut quiesce) = (None, None, None);
    let mut commits_can_wait = false;
    for word in words {
        if let Some(bytes) = word.strip_prefix("chunk=") {
            chunk = bytes.parse().ok();
        } else if let Some(drift) = word.strip_prefix("lease=") {
            lease = drift.parse().ok();
        } else if let Some(millis) = word.strip_prefix("quiesce=") {
            quiesce = millis.parse().ok();
        } else if *word == "commits-wait" {
            commits_can_wait = true;
        } else {
            let node = word.trim_start_matches('+').parse().unwrap();
            nodes.push(node);
            if !word.starts_with('+') {
                voters.push(node);
            }
        }
    }
    Cluster::with(&nodes, &voters, |config| {
        config.snapshot_chunk_bytes = chunk.unwrap_or(config.snapshot_chunk_bytes);
        config.lease = lease.map(|drift_ppm| Lease { drift_ppm });
        config.quiesce_after = quiesce.map(ms);
        config.commits_can_wait = commits_can_wait;
    })
}

fn change(cluster: &mut Cluster, node: u64, words: &[&str]) {
    let (mut voters, mut learners) = (Vec::new(), Vec::new());
    let mut list = &mut voters;
    for word in words {
        match *word {
            "voters" => list = &mut voters,
            "learners" => list = &mut learners,
            node => list.push(n(node.parse().unwrap())),
        }
    }
    let now = cluster.now;
    let replaces = cluster.status(node).membership_id;
    if let Err(refused) = cluster.raft(node).change_membership(now, voters, learners, replaces) {
        cluster.trace.push(format!("refused: {refused}"));
    }
    drain(cluster, node);
}

fn ends(link: &str) -> (u64, u64) {
    let (from, to) = link.split_once("->").unwrap();
    (from.parse().unwrap(), to.parse().unwrap())
}

fn find(cluster: &Cluster, link: &str) -> Option<usize> {
    let (from, to) = ends(link);
    let on_link = |member: Member, node: u64| member.node.0 == node;
    cluster.net.iter().position(|message| on_link(message.from, from) && on_link(message.to, to))
}

fn id(text: &str) -> LogId {
    let (index, term) = text.split_once('@').unwrap();
    log_id(index.parse().unwrap(), term.parse().unwrap())
}

fn body(words: &[&str]) -> Body<Vec<u8>> {
    let field = |name: &str| {
        words
            .iter()
            .find_map(|word| word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
    };
    match words[0] {
        "timeoutnow" => Body::TimeoutNow,
        "quiesce" => Body::Quiesce {
            session: 1,
            last: id(field("last").unwrap()),
            commit: field("commit").map_or(0, |word| word.parse().unwrap()).into(),
            round: 99,
        },
        "vote" => {
            Body::Vote { last: id(field("last").unwrap()), transfer: words.contains(&"transfer") }
        }
        "append" => {
            let entries =
                words.iter().filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            let entries: Vec<_> = entries
                .map(|word| {
                    let (at, command) = word.split_once('=').unwrap();
                    Entry { id: id(at), data: EntryData::Command(command.into()) }
                })
                .collect();
            Body::Append {
                session: 1,
                prev: id(field("prev").unwrap()),
                commit: field("commit").map_or(0, |word| word.parse().unwrap()).into(),
                entries: entries.into(),
            }
        }
        other => panic!("unknown message {other}"),
    }
}
