//! Three replicas in one thread, in memory: Kontiki's core beside the `raft` crate (0.7), in the
//! same loop, with the same payloads and the same compaction.
//!
//! One round: propose until `depth` entries are not applied by the leader; let every replica do
//! what it has to (write, apply); deliver all messages in order. An entry counts when all three have
//! applied it, that is, added its first 8 bytes and its length to a sum; the sums must be equal.
//! There is no time in it: after the election no timer runs.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant as Clock;

use serde::Serialize;

use crate::allocations;

/// The log is compacted to this many entries behind the slowest replica, when twice as many have
/// gathered.
const KEEP: u64 = 4096;

/// How much to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 200,000 entries, the median of five runs.
    Full,
    /// 20,000 entries, one run.
    Small,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which implementation, with its settings.
    pub name: String,
    /// Entries proposed and not applied at the leader.
    pub depth: u64,
    /// Wall time per entry that all three have applied: the median of the runs.
    pub ns: f64,
    /// The best run.
    pub ns_best: f64,
    /// Messages delivered per entry.
    pub messages: f64,
    /// Heap allocations per entry, where the binary counts them.
    pub allocations: Option<f64>,
}

/// Measures both at depths 1, 64 and 1024, in full.
pub fn run() -> Vec<Row> {
    run_sized(Size::Full)
}

/// Measures both at depths 1, 64 and 1024.
pub fn run_sized(size: Size) -> Vec<Row> {
    let mut rows = Vec::new();
    for depth in [1, 64, 1024] {
        rows.push(measure("kontiki-raft", depth, size, Kontiki::new));
        for batch in [false, true] {
            let name = if batch { "raft 0.7, batch_append" } else { "raft 0.7" };
            rows.push(measure(name, depth, size, || Other::new(batch)));
        }
    }
    rows
}

/// The rows as a table, with the bar of half of the best time of the `raft` crate.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<24} {:>6} {:>10} {:>10} {:>10} {:>12}",
        "three cores, one thread", "depth", "ns/entry", "best", "msgs/entry", "allocs/entry"
    );
    for row in rows {
        let allocations = row.allocations.map_or("-".to_owned(), |count| format!("{count:.2}"));
        let _ = writeln!(
            text,
            "{:<24} {:>6} {:>10.0} {:>10.0} {:>10.3} {:>12}",
            row.name, row.depth, row.ns, row.ns_best, row.messages, allocations
        );
    }
    for depth in [1, 64, 1024] {
        if let Some(share) = share_of_best(rows, depth) {
            let _ = writeln!(
                text,
                "depth {depth}: {:.0} % of the best time of raft 0.7",
                share * 100.0
            );
        }
    }
    text
}

/// Kontiki's best time at `depth` as a share of the other's best.
pub fn share_of_best(rows: &[Row], depth: u64) -> Option<f64> {
    let best = |ours: bool| {
        rows.iter()
            .filter(|row| row.depth == depth && (row.name == "kontiki-raft") == ours)
            .map(|row| row.ns_best)
            .min_by(f64::total_cmp)
    };
    Some(best(true)? / best(false)?)
}

/// Three replicas of some implementation.
trait Group {
    fn propose(&mut self, payload: Payload);
    /// One round of work and delivery. Returns how many messages were delivered.
    fn round(&mut self) -> u64;
    /// What the leader has applied.
    fn applied(&self) -> u64;
    fn sums(&self) -> [Sum; 3];
    fn compact(&mut self);
}

type Payload = Arc<[u8]>;

/// The state machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    count: u64,
    sum: u64,
}

impl Sum {
    fn apply(&mut self, payload: &[u8]) {
        if let Some((number, _)) = payload.split_first_chunk::<8>() {
            self.count += 1;
            let number = u64::from_le_bytes(*number).wrapping_add(payload.len() as u64);
            self.sum = self.sum.wrapping_mul(31).wrapping_add(number);
        }
    }
}

fn measure<G: Group>(name: &str, depth: u64, size: Size, new: impl Fn() -> G) -> Row {
    let (entries, runs) = match size {
        Size::Full => (200_000, 5),
        Size::Small => (20_000, 1),
    };
    let mut times = Vec::new();
    let mut messages = 0;
    for _ in 0..runs {
        let mut group = new();
        let start = Clock::now();
        messages = drive(&mut group, entries, depth);
        times.push(start.elapsed().as_nanos() as f64 / entries as f64);
    }
    times.sort_by(f64::total_cmp);
    let mut group = new();
    let (_, allocations) = allocations::count(|| drive(&mut group, entries, depth));
    Row {
        name: name.to_owned(),
        depth,
        ns: times[times.len() / 2],
        ns_best: times[0],
        messages: messages as f64 / entries as f64,
        allocations: allocations.map(|count| count as f64 / entries as f64),
    }
}

fn drive<G: Group>(group: &mut G, entries: u64, depth: u64) -> u64 {
    let (mut proposed, mut messages) = (0_u64, 0);
    while group.sums().iter().any(|sum| sum.count < entries) {
        while proposed < entries && proposed - group.applied() < depth {
            group.propose(payload(proposed));
            proposed += 1;
        }
        messages += group.round();
        group.compact();
    }
    let [one, two, three] = group.sums();
    assert!(one == two && two == three, "the replicas differ");
    messages
}

/// 16 to 64 bytes, the first 8 of which are the number.
fn payload(number: u64) -> Payload {
    let mut bytes = [0_u8; 64];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[..16 + number as usize % 49].into()
}

mod ours {
    use kontiki_raft::{
        Config, EntryData, Membership, Message, Output, Raft, Receipt, Recovered, Role,
        StableStorage, WriteBatch, persist,
    };
    use kontiki_types::{GroupId, Incarnation, Index, Instant, LogId, Member, NodeId, ReplicaId};

    use super::{Group, KEEP, Payload, Sum};

    /// The core keeps the log in memory itself; this only looks that nothing is missing.
    struct Memory(LogId);

    impl StableStorage<Payload> for Memory {
        type Error = std::convert::Infallible;

        fn write_and_sync(
            &mut self,
            batches: &[(GroupId, WriteBatch<Payload>)],
        ) -> Result<(), Self::Error> {
            for (_, batch) in batches {
                for entry in batch.entries() {
                    assert_eq!(entry.id.index, self.0.index.next());
                    self.0 = entry.id;
                }
            }
            Ok(())
        }
    }

    struct Node {
        raft: Raft<Payload>,
        memory: Memory,
        sum: Sum,
        applied: Index,
    }

    pub struct Kontiki {
        nodes: [Node; 3],
        net: Vec<Message<Payload>>,
        delivering: Vec<Message<Payload>>,
        batches: Vec<(GroupId, WriteBatch<Payload>)>,
        receipts: Vec<(GroupId, Receipt)>,
        compacted: u64,
        now: Instant,
    }

    fn member(node: u64) -> Member {
        Member::new(NodeId(node), Incarnation(node), ReplicaId(1))
    }

    impl Kontiki {
        pub fn new() -> Self {
            let members = [member(1), member(2), member(3)];
            let nodes = members.map(|me| Node {
                raft: Raft::new(
                    Config::new(me),
                    Recovered::initial(Membership::new(members, [])),
                    me.node.0,
                    Instant(0),
                )
                .expect("a first start"),
                memory: Memory(LogId::ZERO),
                sum: Sum::default(),
                applied: Index(0),
            });
            let mut group = Self {
                nodes,
                net: Vec::new(),
                delivering: Vec::new(),
                batches: Vec::new(),
                receipts: Vec::new(),
                compacted: 0,
                now: Instant(0),
            };
            // The first replica campaigns; by then the others may vote.
            group.now = Instant(400_000);
            group.nodes[0].raft.tick(group.now);
            for _ in 0..20 {
                group.round();
            }
            assert_eq!(group.nodes[0].raft.role(), Role::Leader);
            group
        }

        fn poll(&mut self, at: usize) {
            let node = &mut self.nodes[at];
            while let Some(output) = node.raft.poll(self.now) {
                match output {
                    Output::Send(message) => self.net.push(message),
                    Output::Write(batch) => self.batches.push((GroupId(1), batch)),
                    Output::Apply(entries) => {
                        for entry in &entries {
                            if let EntryData::Command(payload) = &entry.data {
                                node.sum.apply(payload);
                            }
                            node.applied = entry.id.index;
                        }
                        node.raft.applied(self.now, node.applied);
                    }
                    Output::Role { .. } => {}
                    other => panic!("unexpected {other:?}"),
                }
            }
        }
    }

    impl Group for Kontiki {
        fn propose(&mut self, payload: Payload) {
            self.nodes[0].raft.propose(self.now, payload).expect("within the bounds");
        }

        fn round(&mut self) -> u64 {
            for at in 0..self.nodes.len() {
                self.poll(at);
                if self.batches.is_empty() {
                    continue;
                }
                let node = &mut self.nodes[at];
                let Ok(()) = persist(&mut node.memory, &mut self.batches, &mut self.receipts);
                for (_, receipt) in self.receipts.drain(..) {
                    node.raft.persisted(self.now, receipt);
                }
                self.poll(at);
            }
            std::mem::swap(&mut self.net, &mut self.delivering);
            let delivered = self.delivering.len() as u64;
            for message in self.delivering.drain(..) {
                let at = message.to.node.0 as usize - 1;
                self.nodes[at].raft.receive(self.now, message);
            }
            delivered
        }

        fn applied(&self) -> u64 {
            self.nodes[0].sum.count
        }

        fn sums(&self) -> [Sum; 3] {
            [self.nodes[0].sum, self.nodes[1].sum, self.nodes[2].sum]
        }

        fn compact(&mut self) {
            let least = self.nodes.iter().map(|node| node.applied.0).min().unwrap_or(0);
            if least >= self.compacted + 2 * KEEP {
                self.compacted = least - KEEP;
                for node in &mut self.nodes {
                    node.raft.compact(Index(self.compacted));
                }
            }
        }
    }
}

mod theirs {
    use raft::eraftpb::{Entry, Message};
    use raft::storage::MemStorage;
    use raft::{Config, RawNode};

    use super::{Group, KEEP, Payload, Sum};

    struct Node {
        raw: RawNode<MemStorage>,
        sum: Sum,
        applied: u64,
    }

    pub struct Other {
        nodes: [Node; 3],
        net: Vec<Message>,
        compacted: u64,
    }

    impl Other {
        pub fn new(batch_append: bool) -> Self {
            let logger = slog::Logger::root(slog::Discard, slog::o!());
            let nodes = [1, 2, 3].map(|id| {
                let config = Config {
                    id,
                    election_tick: 10,
                    heartbeat_tick: 3,
                    max_size_per_msg: 1 << 20,
                    max_inflight_msgs: 256,
                    batch_append,
                    ..Config::default()
                };
                let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
                let raw = RawNode::new(&config, storage, &logger).expect("a valid configuration");
                Node { raw, sum: Sum::default(), applied: 0 }
            });
            let mut group = Self { nodes, net: Vec::new(), compacted: 0 };
            group.nodes[0].raw.campaign().expect("a follower may campaign");
            for _ in 0..20 {
                group.round();
            }
            group
        }
    }

    impl Node {
        fn apply(&mut self, entries: &[Entry]) {
            for entry in entries {
                self.sum.apply(entry.get_data());
                self.applied = entry.index;
            }
        }

        fn ready(&mut self, net: &mut Vec<Message>) {
            if !self.raw.has_ready() {
                return;
            }
            let mut ready = self.raw.ready();
            net.extend(ready.take_messages());
            self.apply(&ready.take_committed_entries());
            if !ready.entries().is_empty() {
                let mut storage = self.raw.raft.raft_log.store.wl();
                storage.append(ready.entries()).expect("in order");
            }
            if let Some(state) = ready.hs() {
                self.raw.raft.raft_log.store.wl().set_hardstate(state.clone());
            }
            net.extend(ready.take_persisted_messages());
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.raw.raft.raft_log.store.wl().mut_hard_state().set_commit(commit);
            }
            net.extend(light.take_messages());
            self.apply(&light.take_committed_entries());
            self.raw.advance_apply();
        }
    }

    impl Group for Other {
        fn propose(&mut self, payload: Payload) {
            self.nodes[0].raw.propose(Vec::new(), payload.to_vec()).expect("it leads");
        }

        fn round(&mut self) -> u64 {
            let mut messages = std::mem::take(&mut self.net);
            for node in &mut self.nodes {
                node.ready(&mut messages);
            }
            let delivered = messages.len() as u64;
            for message in messages.drain(..) {
                let at = message.to as usize - 1;
                self.nodes[at].raw.step(message).expect("from a member");
            }
            self.net = messages;
            delivered
        }

        fn applied(&self) -> u64 {
            self.nodes[0].sum.count
        }

        fn sums(&self) -> [Sum; 3] {
            [self.nodes[0].sum, self.nodes[1].sum, self.nodes[2].sum]
        }

        fn compact(&mut self) {
            let least = self.nodes.iter().map(|node| node.applied).min().unwrap_or(0);
            if least >= self.compacted + 2 * KEEP {
                self.compacted = least - KEEP;
                for node in &mut self.nodes {
                    let mut storage = node.raw.raft.raft_log.store.wl();
                    storage.compact(self.compacted).expect("applied");
                }
            }
        }
    }
}

use ours::Kontiki;
use theirs::Other;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_apply_everything_in_the_same_order() {
        for depth in [1, 64] {
            let (mut ours, mut theirs) = (Kontiki::new(), Other::new(true));
            drive(&mut ours, 1000, depth);
            drive(&mut theirs, 1000, depth);
            assert_eq!(ours.sums(), theirs.sums());
        }
    }
}
