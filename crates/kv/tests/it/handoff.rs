//! Slots that really move: the machines of two groups, with a group's `Holdings` as the steward,
//! a controller, and the drivers of `kontiki-shard` between them.

use bytes::Bytes;
use kontiki_kv::command::{Read, ScanPosition};
use kontiki_kv::{
    BadBytes, Body, Gate, Import, Machine, MachineError, MemStore, Outcome, Proposal, QueryAnswer,
    Reply, SlotRows, Steward, Verdict,
};
use kontiki_shard::{
    BadPayload, Changes, Command, Controller, Cursor, Dead, Entry, GroupCommand, GroupRef,
    Holdings, ImportStatus, Limits, Move, MoveAnswer, MoveId, Op, Phase, Piece, Session, SlotData,
    SlotIncarnation, SlotSet, Source, SourceData, Step, Sums, Then, Why, source_step, target_step,
};
use kontiki_types::{GroupId, Index, LogId, LogTime, Seq, Slot, Term};

use crate::group::{Write, read};

/// A group's holdings, in charge of its machine's slots.
#[derive(Debug)]
struct Keeper(Holdings);

impl Keeper {
    fn read(first: Holdings) -> impl FnOnce(Option<Bytes>) -> Result<Box<dyn Steward>, BadBytes> {
        |state| match state {
            None => Ok(Box::new(Self(first))),
            Some(state) => match Holdings::from_bytes(&state) {
                Ok(holdings) => Ok(Box::new(Self(holdings))),
                Err(error) => Err(BadBytes::new(error.to_string())),
            },
        }
    }
}

impl Steward for Keeper {
    fn apply(
        &mut self,
        index: Index,
        time: LogTime,
        payload: &Bytes,
        rows: &mut dyn SlotRows,
    ) -> Result<(), BadBytes> {
        let command = GroupCommand::from_bytes(payload);
        let command = command.map_err(|error| BadBytes::new(error.to_string()))?;
        self.0.apply(Entry { index, time }, &command, &mut Rows(rows));
        Ok(())
    }

    fn call(
        &mut self,
        _: Index,
        _: LogTime,
        _: &Bytes,
        _: &mut dyn SlotRows,
    ) -> Result<Bytes, BadBytes> {
        Err(BadBytes::new("no call is made"))
    }

    fn query(&self, _: &Bytes, _: LogTime) -> Bytes {
        Bytes::new()
    }

    fn gate(&self, slot: Slot) -> Gate {
        match self.0.gate(slot) {
            kontiki_shard::Gate::Open => Gate::Open,
            kontiki_shard::Gate::Wait => Gate::Frozen,
            kontiki_shard::Gate::Away => Gate::Away,
        }
    }

    fn frozen(&self) -> Option<Slot> {
        let mut frozen = self.0.exports().filter(|export| export.frozen.is_some());
        frozen.find_map(|export| export.slots.first())
    }

    fn is_tracked(&self, slot: Slot) -> bool {
        self.0.exports().any(|export| export.slots.contains(slot))
    }

    fn to_bytes(&self) -> Bytes {
        self.0.to_bytes().into()
    }
}

struct Rows<'a>(&'a mut dyn SlotRows);

fn list(slots: &SlotSet) -> Vec<Slot> {
    slots.iter().collect()
}

fn life(incarnation: SlotIncarnation) -> u32 {
    incarnation.0.try_into().unwrap()
}

impl SlotData for Rows<'_> {
    fn track(&mut self, _: &SlotSet) {}

    fn untrack(&mut self, slots: &SlotSet) {
        self.0.untrack(&list(slots));
    }

    fn freeze(&mut self, slots: &SlotSet) {
        self.0.pin(&list(slots));
    }

    fn thaw(&mut self, slots: &SlotSet) {
        self.0.unpin(&list(slots));
    }

    fn open(&mut self, slots: &SlotSet, incarnation: SlotIncarnation) {
        self.0.open(&list(slots), life(incarnation));
    }

    fn stage(
        &mut self,
        slots: &SlotSet,
        incarnation: SlotIncarnation,
        payload: &[u8],
    ) -> Result<(), BadPayload> {
        self.0.stage(&list(slots), life(incarnation), payload).map_err(|_| BadPayload)
    }

    fn sums(&self, slots: &SlotSet, incarnation: SlotIncarnation) -> Sums {
        let sums = self.0.staged_sums(&list(slots), life(incarnation));
        Sums { keys: sums.keys, rows: sums.rows, records: sums.records }
    }

    fn activate(&mut self, slots: &SlotSet, incarnation: SlotIncarnation, time: LogTime) {
        self.0.activate(&list(slots), life(incarnation), time);
    }

    fn retire(&mut self, dead: &Dead) {
        self.0.retire(&list(dead.slots()), life(dead.incarnation()));
    }
}

/// A group of one replica.
struct Group {
    machine: Machine<MemStore>,
    first: Holdings,
    term: u64,
    /// How often slots that leave were counted and compared.
    counted: usize,
}

impl Group {
    fn new(first: Holdings) -> Self {
        Self { machine: open(MemStore::new(), &first), first, term: 1, counted: 0 }
    }

    fn holdings(&self) -> Holdings {
        Holdings::from_bytes(&self.machine.steward().unwrap().to_bytes()).unwrap()
    }

    fn apply(&mut self, proposal: &Proposal) -> Vec<Outcome> {
        let id = LogId::new(Term(self.term), self.machine.applied().index.next());
        let mut outcomes = Vec::new();
        self.machine.apply(&[(id, Some(proposal.to_bytes()))], &mut outcomes).unwrap();
        outcomes
    }

    fn command(&mut self, command: &GroupCommand) {
        let body = Body::Slots(command.to_bytes().into());
        assert!(self.apply(&Proposal { stamp: LogTime(0), body }).is_empty());
    }

    fn write(&mut self, write: &Write) -> Verdict {
        self.apply(&write.clone().proposal()).remove(0).verdict
    }

    fn run(&mut self, connection: u64, request: &str) -> Reply {
        let now = self.machine.log_time().0;
        match self.write(&Write::new(connection, 1, request).at(now)) {
            Verdict::Done(reply) => reply,
            other => panic!("{request}: {other:?}"),
        }
    }

    fn query(&self, request: &str) -> QueryAnswer {
        self.machine.query(&read(request), self.machine.log_time()).unwrap()
    }

    fn tick(&mut self, stamp: u64) {
        self.apply(&Proposal::tick(LogTime(stamp)));
    }

    /// Another leader, on a machine that was restarted, or has installed a snapshot.
    fn change_leader(&mut self, by_snapshot: bool) {
        let hash = self.machine.state_hash().unwrap();
        let store = if by_snapshot {
            let mut import = Import::new(MemStore::new()).unwrap();
            for chunk in self.machine.export().unwrap() {
                import.feed(&chunk.unwrap()).unwrap();
            }
            import.finish().unwrap().0
        } else {
            self.machine.store().clone()
        };
        self.machine = open(store, &self.first);
        assert_eq!(self.machine.state_hash().unwrap(), hash);
        self.term += 1;
    }

    /// Counts a little more of slots that leave, and compares with what their rows add up to.
    fn count(&mut self, slots: &SlotSet) {
        let slots = list(slots);
        let is_counted = self.machine.tally(&slots, 100).unwrap();
        let read = open(self.machine.store().clone(), &self.first);
        if is_counted {
            self.counted += 1;
            assert_eq!(self.machine.live_sums(&slots).unwrap(), read.live_sums(&slots).unwrap());
        }
        let after = Index(self.machine.applied().index.0.saturating_sub(3));
        let kept = self.machine.export_changes(&slots, after, 1 << 20).unwrap();
        assert_eq!(kept, read.export_changes(&slots, after, 1 << 20).unwrap());
    }

    /// Rows of keys, dead or alive, after everything dead has been deleted.
    fn rows_left(&mut self) -> usize {
        while self.machine.tidy().unwrap() {}
        let rows = self.machine.store().rows();
        rows.filter(|(key, _)| key[0] == 0x30 || key[0] >= 0x40).count()
    }
}

fn open(store: MemStore, first: &Holdings) -> Machine<MemStore> {
    Machine::open(store).unwrap().with_steward(Keeper::read(first.clone())).unwrap()
}

/// The rows of a source, for its driver.
struct Out<'a>(&'a Machine<MemStore>);

fn piece(piece: kontiki_kv::SlotPiece) -> Piece {
    let next = piece.next.map_or(Cursor::Done, |place| Cursor::At { place });
    Piece { payload: piece.payload, next }
}

impl SourceData for Out<'_> {
    type Error = MachineError;

    fn applied(&self) -> Index {
        self.0.applied().index
    }

    fn log_time(&self) -> LogTime {
        self.0.log_time()
    }

    fn rows(&self, slots: &SlotSet, from: &Bytes, most: usize) -> Result<Piece, MachineError> {
        self.0.export_rows(&list(slots), from, most).map(piece)
    }

    fn changes(&self, slots: &SlotSet, after: Index, most: usize) -> Result<Changes, MachineError> {
        let found = self.0.export_changes(&list(slots), after, most)?;
        let left_bytes = found.left_keys * found.bytes_per_key;
        let (payload, upto) = (found.payload, found.upto);
        Ok(Changes { payload, upto, left_bytes, has_overflown: false })
    }

    fn closing(&self, slots: &SlotSet, from: &Bytes, most: usize) -> Result<Piece, MachineError> {
        self.0.export_closing(&list(slots), from, most).map(piece)
    }

    fn live_sums(&self, slots: &SlotSet) -> Result<Sums, MachineError> {
        let sums = self.0.live_sums(&list(slots))?;
        Ok(Sums { keys: sums.keys, rows: sums.rows, records: sums.records })
    }
}

/// A controller and two groups; the first has every slot.
struct Cluster {
    controller: Controller,
    index: u64,
    groups: [Group; 2],
    limits: Limits,
    /// What the leaders' clocks say, where it is more than log time.
    clock: LogTime,
}

impl Cluster {
    fn new() -> Self {
        let mut controller = Controller::adopting(GroupId(1), Vec::new());
        let join = Op::Join { groups: vec![(GroupId(2), Vec::new())] };
        controller.apply(Index(1), &request(1, join));
        let first = Holdings::of_everything(GroupRef { id: GroupId(1), joined: 0 });
        let second = Holdings::new(GroupRef { id: GroupId(2), joined: 1 });
        let groups = [Group::new(first), Group::new(second)];
        let limits = Limits { chunk_bytes: 64, freeze_bytes: 0 };
        Self { controller, index: 1, groups, limits, clock: LogTime(0) }
    }

    fn plan(&mut self, slots: SlotSet, to: usize) -> MoveId {
        self.index += 1;
        let parts = vec![(slots, GroupId(to as u32 + 1))];
        let plan = request(self.index, Op::Plan { at: None, parts });
        match self.controller.apply(Index(self.index), &plan) {
            kontiki_shard::Reply::Planned { first, .. } => first,
            other => panic!("{other:?}"),
        }
    }

    fn decide(&mut self, op: Op) {
        self.index += 1;
        let command = Command { stamp: LogTime(0), session: None, op };
        self.controller.apply(Index(self.index), &command);
    }

    fn found(&self, id: MoveId) -> Option<Move> {
        match self.controller.answer(id) {
            MoveAnswer::UnderWay(found) => Some(found),
            _ => None,
        }
    }

    /// The next step of one side; `false` if there is none.
    fn step(&mut self, id: MoveId, is_source: bool) -> bool {
        let Some(found) = self.found(id) else { return false };
        let number = |group: Option<GroupRef>| usize::from(group.unwrap().id == GroupId(2));
        let (source, target) = (number(found.from), number(Some(found.to)));
        let next = if is_source {
            self.groups[source].count(&found.slots);
            let status = self.status(&found, target);
            source_step(&Source {
                holdings: &self.groups[source].holdings(),
                data: &Out(&self.groups[source].machine),
                term: Term(self.groups[source].term),
                clock: self.clock,
                found: &found,
                target: Some(&status),
                is_late: false,
                limits: self.limits,
            })
            .unwrap()
        } else {
            target_step(&self.groups[target].holdings(), &found)
        };
        match next {
            Step::Propose(command) | Step::Send(command) => {
                let to = usize::from(command.group.id == GroupId(2));
                self.groups[to].command(&command);
            }
            Step::Tell(op) => self.decide(op),
            Step::Wait | Step::Over => return false,
            other => panic!("{other:?}"),
        }
        true
    }

    fn status(&self, found: &Move, target: usize) -> ImportStatus {
        let group = &self.groups[target];
        group.holdings().status(found.tag, &found.slots, group.machine.log_time())
    }

    /// Brings a move to its end; between each two steps `meanwhile` may do something.
    fn carry_out(&mut self, id: MoveId, mut meanwhile: impl FnMut(&mut Self, usize)) {
        for number in 0.. {
            assert!(number < 10_000, "the move comes to no end: {:?}", self.found(id));
            let goes_on = self.step(id, true) | self.step(id, false);
            if !goes_on {
                break;
            }
            meanwhile(self, number);
        }
        assert_eq!(self.found(id), None);
    }
}

fn request(number: u64, op: Op) -> Command {
    let session = Session { client: Default::default(), seq: Seq(number), deadline: LogTime(0) };
    Command { stamp: LogTime(0), session: Some(session), op }
}

fn slots_of(key: &str) -> SlotSet {
    SlotSet::from_iter([Slot::of(key.as_bytes())])
}

fn bulk(text: &str) -> QueryAnswer {
    QueryAnswer::Reply(Reply::Bulk(Bytes::copy_from_slice(text.as_bytes())))
}

fn integer(number: i64) -> Verdict {
    Verdict::Done(Reply::Integer(number))
}

#[test]
fn everything_of_a_slot_arrives_and_nothing_stays() {
    let mut cluster = Cluster::new();
    let [first, _] = &mut cluster.groups;
    first.tick(1_000);
    for number in 0..100 {
        first.run(number + 10, &format!("SET {{k}}{number} value-{number}"));
    }
    first.run(200, "SET {k}ttl v PX 5000");
    first.run(201, "SET other stays");
    first.run(202, &format!("SET {{k}}long {}", "x".repeat(2_000)));
    // An unacknowledged increment, a reply that has a row of its own, and one far below the mark.
    let incr = Write::new(7, 1, "INCR {k}n").at(1_000);
    assert_eq!(first.write(&incr), integer(1));
    let long = Write::new(8, 1, "GETSET {k}long short").at(1_000);
    let reply = first.write(&long);
    let mut acknowledged = Write::new(9, 5, "INCR other2").at(1_000);
    acknowledged.request.low = Seq(5);
    assert_eq!(first.write(&acknowledged), integer(1));

    let id = cluster.plan(slots_of("{k}"), 1);
    cluster.carry_out(id, |_, _| {});
    let [first, second] = &mut cluster.groups;
    assert!(first.counted > 0, "what leaves was never counted whole");
    assert_eq!(second.query("GET {k}42"), bulk("value-42"));
    assert_eq!(second.query("PTTL {k}ttl"), QueryAnswer::Reply(Reply::Integer(5_000)));
    assert_eq!(second.query("DBSIZE"), QueryAnswer::Reply(Reply::Integer(103)));
    assert_eq!(first.query("DBSIZE"), QueryAnswer::Reply(Reply::Integer(2)));
    assert!(matches!(first.query("GET {k}42"), QueryAnswer::Closed { gate: Gate::Away, .. }));
    assert_eq!(first.query("GET other"), bulk("stays"));
    // Retries find their records; what was given up is refused.
    assert_eq!(second.write(&incr), integer(1));
    assert_eq!(second.write(&long), reply);
    let old = Write::new(9, 3, "INCR {k}n").at(1_000);
    assert_eq!(second.write(&old), Verdict::Unknown);
    assert_eq!(second.run(300, "INCR {k}n"), Reply::Integer(2));
    // Expiry goes on by the target's log time.
    second.tick(6_000);
    assert_eq!(second.query("EXISTS {k}ttl"), QueryAnswer::Reply(Reply::Integer(0)));
    assert_eq!(second.query("DBSIZE"), QueryAnswer::Reply(Reply::Integer(102)));
    assert_eq!(first.rows_left(), 2);
    assert_eq!(second.rows_left(), 102);
}

#[test]
fn writes_and_changes_of_leaders_at_every_step_lose_and_double_nothing() {
    // Once the leader changes at each step, by a restart or a snapshot; and once not.
    for (changes_at, by_snapshot) in (0..40).flat_map(|at| [(at, false), (at, true)]) {
        let mut cluster = Cluster::new();
        // Writers outrun a copy that wants to be level with them before it freezes.
        cluster.limits.freeze_bytes = 200;
        let mut owner = 0;
        for number in 0..12 {
            cluster.groups[0].run(number + 10, &format!("SET {{k}}{number} before"));
        }
        let mut counted = 0;
        let mut pending: Option<Write> = None;
        let mut seq = 0;
        for round in 0..2 {
            let id = cluster.plan(slots_of("{k}"), 1 - owner);
            cluster.carry_out(id, |cluster, number| {
                if number == changes_at {
                    cluster.groups.iter_mut().for_each(|group| group.change_leader(by_snapshot));
                }
                // The one client's write, sent to both until one has applied it; its answer is
                // lost every other time, and it is sent again later.
                let write = pending.take().unwrap_or_else(|| {
                    seq += 1;
                    Write::new(7, seq, "INCR {k}n")
                });
                for group in &mut cluster.groups {
                    match group.write(&write) {
                        Verdict::Done(Reply::Integer(value)) => {
                            assert_eq!(value, seq as i64, "round {round}, step {number}");
                            counted = value;
                            if number % 2 == 0 {
                                pending = Some(write.clone());
                            }
                        }
                        Verdict::Closed { .. } => pending = pending.take().or(Some(write.clone())),
                        other => panic!("{other:?}"),
                    }
                }
                if counted == seq as i64 && number % 2 == 1 {
                    pending = None;
                }
                // A key that comes and one that goes, at whoever serves.
                let connection = 1_000 + 100 * round + number as u64;
                for command in [format!("SET {{k}}new{number} v"), format!("DEL {{k}}{number}")] {
                    let write = Write::new(connection * 2, 1, &command);
                    cluster.groups.iter_mut().for_each(|group| drop(group.write(&write)));
                }
            });
            owner = 1 - owner;
        }
        let QueryAnswer::Reply(Reply::Bulk(value)) = cluster.groups[owner].query("GET {k}n") else {
            panic!("at {changes_at}: the counter is gone");
        };
        assert_eq!(value, counted.to_string(), "at {changes_at}");
        assert_eq!(cluster.groups[1 - owner].rows_left(), 0);
    }
}

#[test]
fn an_attempt_given_up_leaves_the_source_as_it_was_and_the_target_empty() {
    for given_up_at in 0..12 {
        let mut cluster = Cluster::new();
        for number in 0..5 {
            cluster.groups[0].run(number + 10, &format!("SET {{k}}{number} v PX 60000"));
        }
        let id = cluster.plan(slots_of("{k}"), 1);
        cluster.carry_out(id, |cluster, number| {
            if let Some(found) = cluster.found(id).filter(|_| number == given_up_at) {
                let then = if number % 2 == 0 { Then::Cancel } else { Then::Retry };
                cluster.decide(Op::Abort { tag: found.tag, then, why: Why::Asked });
            }
        });
        let owner = cluster.controller.configuration().owner(Slot::of(b"{k}")).unwrap();
        let owner = owner.0 as usize - 1;
        let answer = cluster.groups[owner].query("MGET {k}0 {k}1 {k}2 {k}3 {k}4");
        let v = Reply::Bulk(Bytes::from_static(b"v"));
        assert_eq!(answer, QueryAnswer::Reply(Reply::Array(vec![v; 5])), "at {given_up_at}");
        assert_eq!(cluster.groups[1 - owner].rows_left(), 0, "at {given_up_at}");
        assert_eq!(cluster.groups[owner].rows_left(), 5, "at {given_up_at}");
        cluster.groups[owner].tick(60_000);
        cluster.groups[owner].tick(60_001);
        assert_eq!(cluster.groups[owner].rows_left(), 0, "at {given_up_at}");
    }
}

#[test]
fn a_flush_at_either_side_empties_what_it_should() {
    for flushed_at in 0..14 {
        for side in 0..2 {
            let mut cluster = Cluster::new();
            for number in 0..5 {
                cluster.groups[0].run(number + 10, &format!("SET {{k}}{number} v PX 60000"));
            }
            // The target has a slot as well, so that it takes a flush.
            let id = cluster.plan(slots_of("{o}"), 1);
            cluster.carry_out(id, |_, _| {});
            cluster.groups[1].run(10, "SET {o} v");
            let id = cluster.plan(slots_of("{k}"), 1);
            let mut was_served = false;
            cluster.carry_out(id, |cluster, number| {
                if number == flushed_at {
                    let group = &mut cluster.groups[side];
                    was_served =
                        group.machine.steward().unwrap().gate(Slot::of(b"{k}")) == Gate::Open;
                    let mut flush = Write::new(7, 1, "FLUSHALL");
                    flush.request.slot = Slot::of(if side == 0 { b"" } else { b"{o}" });
                    let verdict = group.write(&flush);
                    assert!(side == 0 || verdict == Verdict::Done(Reply::Ok));
                    was_served &= verdict == Verdict::Done(Reply::Ok);
                }
            });
            let keys = if was_served { 0 } else { 5 };
            let target = &mut cluster.groups[1];
            target.run(20, "DEL {o}");
            assert_eq!(target.query("DBSIZE"), QueryAnswer::Reply(Reply::Integer(keys)));
            target.tick(60_000);
            target.tick(60_001);
            assert_eq!(target.rows_left(), 0, "flushed at {flushed_at}, side {side}");
        }
    }
}

#[test]
fn what_falls_due_on_the_way_expires_at_the_target() {
    let mut cluster = Cluster::new();
    cluster.groups[0].run(10, "SET {k} v PX 1000");
    cluster.groups[0].tick(900);
    cluster.groups[1].tick(1_400);
    let id = cluster.plan(slots_of("{k}"), 1);
    // By its own clock the target is past the expiry of what is staged.
    cluster.carry_out(id, |cluster, number| cluster.groups[1].tick(1_400 + number as u64));
    let target = &mut cluster.groups[1];
    assert_eq!(target.query("GET {k}"), QueryAnswer::Reply(Reply::Nil));
    target.tick(1_500);
    assert_eq!(target.rows_left(), 0);
}

#[test]
fn versions_go_on_where_they_were() {
    let mut cluster = Cluster::new();
    cluster.groups[0].run(10, "SET {k} 1");
    let version = |cluster: &Cluster, group: usize| {
        let read = kontiki_kv::command::Read::Versions { keys: vec![Bytes::from_static(b"{k}")] };
        let machine = &cluster.groups[group].machine;
        machine.query(&read, machine.log_time()).unwrap()
    };
    let before = version(&cluster, 0);
    let id = cluster.plan(slots_of("{k}"), 1);
    cluster.carry_out(id, |_, _| {});
    assert_eq!(version(&cluster, 1), before);
    cluster.groups[1].run(11, "SET {k} 1");
    assert_ne!(version(&cluster, 1), before);
    let there = version(&cluster, 1);
    let id = cluster.plan(slots_of("{k}"), 0);
    cluster.carry_out(id, |_, _| {});
    assert_eq!(version(&cluster, 0), there);
}

#[test]
fn a_target_that_is_ahead_in_log_time_is_refused_by_name() {
    let mut cluster = Cluster::new();
    cluster.groups[1].tick(5_000);
    let id = cluster.plan(slots_of("{k}"), 1);
    while cluster.step(id, true) {
        if let Some(Move { phase: Phase::Cancelled { why }, .. }) = cluster.found(id) {
            assert_eq!(why, Why::Skew { millis: 5_000 });
            return;
        }
    }
    panic!("the move is not cancelled");
}

#[test]
fn a_source_that_was_idle_is_not_taken_for_one_that_is_behind() {
    let mut cluster = Cluster::new();
    cluster.groups[0].run(10, "SET {k} v PX 9000");
    cluster.groups[1].tick(5_000);
    cluster.clock = LogTime(4_500);
    let id = cluster.plan(slots_of("{k}"), 1);
    cluster.carry_out(id, |_, _| {});
    assert_eq!(cluster.groups[1].query("GET {k}"), bulk("v"));
}

type Ranges = Vec<(Slot, Slot)>;

fn all_slots() -> Ranges {
    SlotSet::all().ranges().collect()
}

/// A group's part of a command on the whole key space: the answer, and what it leaves to others.
fn part(reply: Reply) -> (Reply, Ranges) {
    let Reply::Array(parts) = reply else { panic!("{reply:?}") };
    let [first, Reply::Array(left)] = &parts[..] else { panic!("{parts:?}") };
    let slot = |number: &Reply| match number {
        Reply::Integer(number) => Slot::new(*number as u16).unwrap(),
        other => panic!("{other:?}"),
    };
    (first.clone(), left.chunks_exact(2).map(|pair| (slot(&pair[0]), slot(&pair[1]))).collect())
}

impl Cluster {
    /// A read of all slots: each group answers for what the one before left. `None`: some slot
    /// stands still, so the reader would wait.
    fn read_all(&self, read: impl Fn(Ranges) -> Read) -> Option<Vec<Reply>> {
        let mut left = all_slots();
        let mut answers = Vec::new();
        for group in &self.groups {
            if left.is_empty() {
                break;
            }
            match group.machine.query(&read(left.clone()), group.machine.log_time()).unwrap() {
                QueryAnswer::Reply(reply) => {
                    let (answer, rest) = part(reply);
                    answers.push(answer);
                    left = rest;
                }
                QueryAnswer::Closed { .. } => return None,
                QueryAnswer::Due => panic!("no key is due"),
            }
        }
        left.is_empty().then_some(answers)
    }

    fn count(&self) -> Option<i64> {
        let counts = self.read_all(|slots| Read::CountSlots { slots })?;
        let number = |reply| match reply {
            Reply::Integer(number) => number,
            other => panic!("{other:?}"),
        };
        Some(counts.into_iter().map(number).sum())
    }

    fn keys(&self) -> Option<Vec<Bytes>> {
        let parts = self
            .read_all(|slots| Read::KeysOfSlots { slots, pattern: None, limit: u64::MAX })?
            .into_iter();
        let mut keys: Vec<Bytes> = parts.flat_map(bulks).collect();
        keys.sort();
        Some(keys)
    }

    /// A whole SCAN, each step at whoever serves the cursor's slot.
    fn scan(&self, count: u64) -> Option<Vec<Bytes>> {
        let mut keys = Vec::new();
        let mut from = ScanPosition::START;
        loop {
            let scan = Read::Scan { from, pattern: None, count, other_type: false };
            let mut answers = self
                .groups
                .iter()
                .map(|group| group.machine.query(&scan, group.machine.log_time()).unwrap());
            let reply = answers.find_map(|answer| match answer {
                QueryAnswer::Reply(Reply::Array(parts)) => Some(parts),
                _ => None,
            })?;
            let [Reply::Bulk(cursor), found] = &reply[..] else { panic!("{reply:?}") };
            keys.extend(bulks(found.clone()));
            match std::str::from_utf8(cursor).unwrap().parse().unwrap() {
                0 => break,
                cursor => from = ScanPosition::from_cursor(cursor),
            }
        }
        keys.sort();
        Some(keys)
    }

    /// One attempt to flush what is left; `seq` tells this client's writes apart.
    fn flush(&mut self, left: Ranges, seq: &mut u64) -> Ranges {
        let mut left = left;
        for group in &mut self.groups {
            let Some((home, _)) = left.first().copied() else { break };
            *seq += 1;
            let flush = kontiki_kv::command::Write::FlushSlots { slots: left.clone() };
            let now = group.machine.log_time().0;
            match group.write(&Write::of(77, *seq, home, &flush).at(now)) {
                Verdict::Done(reply) => {
                    let (answer, rest) = part(reply);
                    assert_eq!(answer, Reply::Ok);
                    left = rest;
                }
                Verdict::Closed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        left
    }
}

fn bulks(reply: Reply) -> Vec<Bytes> {
    let Reply::Array(items) = reply else { panic!("{reply:?}") };
    let bulk = |item| match item {
        Reply::Bulk(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    items.into_iter().map(bulk).collect()
}

#[test]
fn every_key_is_counted_listed_and_scanned_once_at_every_step_of_a_move() {
    let mut cluster = Cluster::new();
    let mut names: Vec<Bytes> = Vec::new();
    for number in 0..40 {
        let key = if number % 2 == 0 { format!("{{k}}{number}") } else { format!("o{number}") };
        cluster.groups[0].run(number + 10, &format!("SET {key} v"));
        names.push(key.into());
    }
    names.sort();
    let (mut seen, mut waited) = (0, 0);
    for round in 0..2 {
        let id = cluster.plan(slots_of("{k}"), 1 - round);
        cluster.carry_out(id, |cluster, _| {
            match cluster.count() {
                Some(count) => {
                    assert_eq!(count, 40);
                    seen += 1;
                }
                None => waited += 1,
            }
            for keys in [cluster.keys(), cluster.scan(7)].into_iter().flatten() {
                assert_eq!(keys, names);
            }
        });
        assert_eq!((cluster.count(), cluster.keys()), (Some(40), Some(names.clone())));
        assert_eq!(cluster.scan(1), Some(names.clone()));
    }
    assert!(seen > 4 && waited > 0, "{seen} {waited}");
}

#[test]
fn a_flush_during_a_move_leaves_nothing_from_before_it_and_takes_nothing_from_after_it() {
    for begins_at in 0..20 {
        let mut cluster = Cluster::new();
        for number in 0..20 {
            cluster.groups[0].run(number + 10, &format!("SET {{k}}{number} v"));
            cluster.groups[0].run(number + 50, &format!("SET o{number} v PX 100000"));
        }
        let (mut seq, mut left, mut done) = (0, all_slots(), false);
        let id = cluster.plan(slots_of("{k}"), 1);
        cluster.carry_out(id, |cluster, number| {
            if number < begins_at || done {
                return;
            }
            left = cluster.flush(std::mem::take(&mut left), &mut seq);
            if left.is_empty() {
                done = true;
                assert_eq!(cluster.count().unwrap_or(0), 0, "begun at {begins_at}");
                // Begun after the reply: these stay.
                cluster.groups[0].run(900, "SET o-after v");
                for group in &mut cluster.groups {
                    let now = group.machine.log_time().0;
                    group.write(&Write::new(901, 1, "SET {k}after v").at(now));
                }
            }
        });
        while !left.is_empty() {
            left = cluster.flush(left, &mut seq);
        }
        if !done {
            cluster.groups[0].run(900, "SET o-after v");
            cluster.groups[1].run(901, "SET {k}after v");
        }
        assert_eq!(cluster.keys().unwrap(), ["o-after", "{k}after"], "begun at {begins_at}");
        let rows = cluster.groups.each_mut().map(Group::rows_left);
        assert_eq!(rows[0] + rows[1], 2, "begun at {begins_at}");
    }
}

#[test]
fn a_part_that_is_asked_where_its_first_slot_is_not_is_sent_elsewhere() {
    let mut cluster = Cluster::new();
    let id = cluster.plan(slots_of("{k}"), 1);
    cluster.carry_out(id, |_, _| {});
    let slot = Slot::of(b"k");
    let [first, second] = &mut cluster.groups;
    let count = Read::CountSlots { slots: vec![(slot, slot)] };
    let away = QueryAnswer::Closed { slot, gate: Gate::Away };
    assert_eq!(first.machine.query(&count, LogTime(0)).unwrap(), away);
    let scan = Read::Scan {
        from: ScanPosition::start_of(slot),
        pattern: None,
        count: 10,
        other_type: false,
    };
    assert_eq!(first.machine.query(&scan, LogTime(0)).unwrap(), away);
    let flush = kontiki_kv::command::Write::FlushSlots { slots: all_slots() };
    let first_slot = Slot::default();
    let part = Write::of(77, 1, first_slot, &flush).at(0);
    let away = Verdict::Closed { slot: first_slot, gate: Gate::Away };
    assert_eq!(second.write(&part), away);
    // Its record is in its first slot: sent again it answers the same and empties nothing.
    let answer = first.write(&part);
    first.run(10, "SET o v");
    assert_eq!(first.write(&part), answer);
    assert_eq!(first.query("GET o"), bulk("v"));
}
