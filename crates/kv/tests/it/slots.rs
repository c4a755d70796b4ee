//! Slots that stand still, or are elsewhere: asked when an entry is applied.

use bytes::Bytes;
use kontiki_kv::{
    BadBytes, Body, Export, Gate, Import, Machine, MachineError, MemStore, Proposal, QueryAnswer,
    Reply, SlotRows, Steward, Stewards, Verdict,
};
use kontiki_types::{Index, LogId, LogTime, Slot, Term};

use crate::group::{Group, WINDOW, Write};

/// Closes one slot at a time: a byte for the gate, two for the slot.
#[derive(Debug)]
struct OneSlot(Bytes);

impl OneSlot {
    fn read(state: Option<Bytes>) -> Result<Box<dyn Steward>, BadBytes> {
        Ok(Box::new(Self(state.unwrap_or_else(|| Bytes::from_static(&[0, 0, 0])))))
    }
}

impl Steward for OneSlot {
    fn apply(
        &mut self,
        _: Index,
        _: LogTime,
        payload: &Bytes,
        _: &mut dyn SlotRows,
    ) -> Result<(), BadBytes> {
        if payload.len() != 3 {
            return Err(BadBytes::new("not a gate and a slot"));
        }
        self.0 = payload.clone();
        Ok(())
    }

    fn call(
        &mut self,
        _: Index,
        time: LogTime,
        call: &Bytes,
        rows: &mut dyn SlotRows,
    ) -> Result<Bytes, BadBytes> {
        if call.len() != 3 {
            return Err(BadBytes::new("not a gate and a slot"));
        }
        if call[0] == 3 {
            // No slot, from a group whose log time is later.
            rows.activate(&[], 1, LogTime(time.0 + 500));
        }
        Ok(std::mem::replace(&mut self.0, call.clone()))
    }

    fn query(&self, query: &Bytes, _: LogTime) -> Bytes {
        [&query[..], &self.0[..]].concat().into()
    }

    fn gate(&self, slot: Slot) -> Gate {
        let is_meant = self.0[1..] == slot.get().to_be_bytes();
        match self.0[0] {
            1 if is_meant => Gate::Frozen,
            2 if is_meant => Gate::Away,
            _ => Gate::Open,
        }
    }

    fn frozen(&self) -> Option<Slot> {
        let number = u16::from_be_bytes([self.0[1], self.0[2]]);
        Slot::new(number).filter(|slot| self.gate(*slot) == Gate::Frozen)
    }

    fn is_tracked(&self, _: Slot) -> bool {
        false
    }

    fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

fn group() -> Group {
    let mut group = Group::new();
    group.machine = stewarded(group.machine.store().clone());
    group
}

fn stewarded(store: MemStore) -> Machine<MemStore> {
    Machine::open(store).unwrap().with_steward(OneSlot::read).unwrap()
}

fn gate(gate: u8, key: &str, stamp: u64) -> Proposal {
    let [high, low] = Slot::of(key.as_bytes()).get().to_be_bytes();
    let body = Body::Slots(Bytes::copy_from_slice(&[gate, high, low]));
    Proposal { stamp: LogTime(stamp), body }
}

fn closed(key: &str, gate: Gate) -> Verdict {
    Verdict::Closed { slot: Slot::of(key.as_bytes()), gate }
}

#[test]
fn a_write_on_its_way_has_no_effect_once_the_slot_is_closed() {
    for (number, found) in [(1, Gate::Frozen), (2, Gate::Away)] {
        let mut group = group();
        group.run("SET k 1");
        let incr = Write::new(7, 1, "INCR k");
        // Both were proposed while the slot was open; they are applied in one batch.
        let verdicts = group.apply(&[gate(number, "k", 0), incr.clone().proposal()]);
        assert_eq!(verdicts, [closed("k", found)]);
        let other = Write::new(8, 1, "INCR other").proposal();
        assert_eq!(group.write(other), Verdict::Done(Reply::Integer(1)));
        let answer = QueryAnswer::Closed { slot: Slot::of(b"k"), gate: found };
        assert_eq!(group.query_at("GET k", 0), answer);
        // Served again, the same write counts: it had no effect before.
        group.apply(&[gate(0, "k", 0)]);
        assert_eq!(group.write(incr.clone().proposal()), Verdict::Done(Reply::Integer(2)));
        assert_eq!(group.write(incr.proposal()), Verdict::Done(Reply::Integer(2)));
        assert_eq!(group.query("GET k"), Reply::Bulk(Bytes::from_static(b"2")));
    }
}

#[test]
fn also_a_retry_waits_for_its_slot_whatever_its_record() {
    let mut group = group();
    let incr = Write::new(7, 1, "INCR k").proposal();
    assert_eq!(group.write(incr.clone()), Verdict::Done(Reply::Integer(1)));
    group.apply(&[gate(2, "k", 0)]);
    // The record has moved with the slot: who has the slot answers.
    assert_eq!(group.write(incr), closed("k", Gate::Away));
}

#[test]
fn one_closed_slot_closes_a_command_over_several() {
    let mut group = group();
    group.apply(&[gate(2, "b", 0)]);
    for command in ["MSET a 1 b 2", "DEL a b", "RENAME a b"] {
        let verdict = group.write(Write::new(7, 1, command).proposal());
        assert_eq!(verdict, closed("b", Gate::Away), "{command}");
    }
    assert_eq!(group.query("GET a"), Reply::Nil);
    let answer = QueryAnswer::Closed { slot: Slot::of(b"b"), gate: Gate::Away };
    assert_eq!(group.query_at("MGET a b", 0), answer);
}

#[test]
fn a_flush_waits_for_slots_that_stand_still() {
    let mut group = group();
    group.run("SET k 1 PX 5000");
    group.apply(&[gate(1, "k", 0)]);
    let flush = Write::new(7, 1, "FLUSHALL").proposal();
    assert_eq!(group.write(flush.clone()), closed("k", Gate::Frozen));
    group.apply(&[gate(0, "k", 0)]);
    assert_eq!(group.write(flush), Verdict::Done(Reply::Ok));
    assert_eq!(group.query("GET k"), Reply::Nil);
}

#[test]
fn no_key_expires_in_a_slot_that_stands_still() {
    let mut group = group();
    let before = group.rows();
    for number in 0..40 {
        group.run(&format!("SET {{k}}{number} v PX 1000"));
    }
    group.run("SET other v PX 1000");
    group.apply(&[gate(1, "k", 0)]);
    let rows = group.rows();
    group.tick(5_000);
    group.tick(6_000);
    // The other key and its row in the due index are gone.
    assert_eq!(group.rows(), rows - 2);
    // A replica that restarts does the same from here on.
    let mut restarted = stewarded(group.machine.store().clone());
    group.tick(7_000);
    let last = group.log.last().unwrap().clone();
    restarted.apply(&[last], &mut Vec::new()).unwrap();
    assert_eq!(restarted.state_hash().unwrap(), group.hash());
    // Open again, they expire with the next ticks.
    group.apply(&[gate(0, "k", 7_000)]);
    assert!(group.machine.next_due().is_some_and(|due| due <= LogTime(7_000)));
    group.tick(7_001);
    assert_eq!(group.rows(), before);
    assert_eq!(group.query("GET {k}1"), Reply::Nil);
}

#[test]
fn what_the_steward_knows_is_in_snapshots_restarts_and_hashes() {
    let mut group = group();
    group.run("SET k 1");
    let open = group.hash();
    group.apply(&[gate(2, "k", 0)]);
    assert_ne!(group.hash(), open);
    let restarted = stewarded(group.machine.store().clone());
    let steward = restarted.steward().unwrap();
    assert_eq!(steward.gate(Slot::of(b"k")), Gate::Away);
    let mut import = Import::new(MemStore::new()).unwrap();
    let export: Export<_> = group.machine.export().unwrap();
    for chunk in export {
        import.feed(&chunk.unwrap()).unwrap();
    }
    let (store, applied) = import.finish().unwrap();
    assert_eq!(applied, group.machine.applied());
    let copy = stewarded(store);
    assert_eq!(copy.state_hash().unwrap(), group.hash());
    assert_eq!(copy.steward().unwrap().gate(Slot::of(b"k")), Gate::Away);
}

#[test]
fn without_a_steward_its_entries_stop_the_machine() {
    let mut group = Group::new();
    let error = group.try_apply(&[gate(1, "k", 0)]).unwrap_err();
    assert!(matches!(error, MachineError::Entry { .. }), "{error}");
    let mut group = self::group();
    let body = Body::Slots(Bytes::from_static(b"what is this"));
    let error = group.try_apply(&[Proposal { stamp: LogTime(WINDOW), body }]).unwrap_err();
    assert!(matches!(error, MachineError::Entry { .. }), "{error}");
}

/// A call to the steward as a client's write.
fn call(connection: u64, seq: u64, call: &'static [u8]) -> Write {
    let command = kontiki_kv::command::Write::Steward { call: Bytes::from_static(call) };
    Write::of(connection, seq, Slot::default(), &command).low(1)
}

#[test]
fn a_call_to_the_steward_counts_once_and_no_gate_closes_it() {
    let mut group = group();
    // The record's slot is slot 0, which is away.
    let body = Body::Slots(Bytes::from_static(&[2, 0, 0]));
    group.apply(&[Proposal { stamp: LogTime(0), body }]);
    let first = call(7, 1, &[1, 0, 0]);
    let bulk = |bytes: &'static [u8]| Verdict::Done(Reply::Bulk(Bytes::from_static(bytes)));
    assert_eq!(group.write(first.clone().proposal()), bulk(&[2, 0, 0]));
    assert_eq!(group.write(call(7, 2, &[0, 0, 0]).proposal()), bulk(&[1, 0, 0]));
    // The late copy of the first is answered from its record.
    let before = group.machine.stewarded();
    assert_eq!(group.write(first.proposal()), bulk(&[2, 0, 0]));
    assert_eq!(group.machine.stewarded(), before);
    let query = kontiki_kv::command::Read::Steward { query: Bytes::from_static(b"now ") };
    let answer = group.machine.query(&query, LogTime(0)).unwrap();
    assert_eq!(answer, QueryAnswer::Reply(Reply::Bulk(Bytes::from_static(b"now \0\0\0"))));
}

#[test]
fn a_low_mark_counts_from_when_it_rose_also_where_the_steward_moves_log_time() {
    let mut group = group();
    group.write(call(7, 1, &[0, 0, 0]).proposal());
    let before = group.machine.log_time();
    group.write(call(7, 2, &[3, 0, 0]).low(2).proposal());
    assert_eq!(group.machine.log_time().0, before.0 + 500);
    let machine = Machine::open(group.machine.store().clone()).unwrap();
    let again = machine.with_steward(OneSlot::read).unwrap();
    assert_eq!(again.state_hash().unwrap(), group.machine.state_hash().unwrap());
}

/// Of the slot of `k`: an empty call pins what goes with it, another one is what comes with it, from
/// a group whose log time is more than a retry window ahead.
#[derive(Debug)]
struct Hands;

impl Hands {
    fn over(store: MemStore) -> Machine<MemStore> {
        Machine::open(store).unwrap().with_steward(|_| Ok(Box::new(Self))).unwrap()
    }
}

impl Steward for Hands {
    fn apply(
        &mut self,
        _: Index,
        _: LogTime,
        _: &Bytes,
        _: &mut dyn SlotRows,
    ) -> Result<(), BadBytes> {
        Err(BadBytes::new("only calls"))
    }

    fn call(
        &mut self,
        _: Index,
        time: LogTime,
        call: &Bytes,
        rows: &mut dyn SlotRows,
    ) -> Result<Bytes, BadBytes> {
        let slots = [Slot::of(b"k")];
        if call.is_empty() {
            rows.pin(&slots);
        } else {
            rows.open(&slots, 1);
            rows.stage(&slots, 1, call)?;
            rows.activate(&slots, 1, LogTime(time.0 + WINDOW + 1000));
        }
        Ok(Bytes::new())
    }

    fn query(&self, _: &Bytes, _: LogTime) -> Bytes {
        Bytes::new()
    }

    fn gate(&self, _: Slot) -> Gate {
        Gate::Open
    }

    fn frozen(&self) -> Option<Slot> {
        None
    }

    fn is_tracked(&self, _: Slot) -> bool {
        false
    }

    fn to_bytes(&self) -> Bytes {
        Bytes::new()
    }
}

/// Swarm of a sharded store, seed 104 when it was found: what came with a slot was about the very
/// client whose call brought it. Read back, its own mark came after that one instead of before.
#[test]
fn marks_that_come_with_a_slot_are_read_back_behind_that_of_the_call_that_brings_it() {
    let steward = |seq, call: Bytes| {
        let command = kontiki_kv::command::Write::Steward { call };
        Write::of(7, seq, Slot::default(), &command)
    };
    let (mut source, mut target) = (Group::new(), Group::new());
    source.machine = Hands::over(source.machine.store().clone());
    target.machine = Hands::over(target.machine.store().clone());
    for seq in 1..=3 {
        source.write(Write::new(7, seq, "INCR k").low(seq).proposal());
    }
    source.write(steward(4, Bytes::new()).low(3).proposal());
    let sent = source.machine.export_closing(&[Slot::of(b"k")], &Bytes::new(), 1 << 20).unwrap();
    target.write(steward(9, sent.payload).low(9).proposal());
    let read = Hands::over(target.machine.store().clone());
    assert_eq!(read.differences(&target.machine).unwrap(), Vec::<String>::new());
    assert_eq!(read.state_hash().unwrap(), target.machine.state_hash().unwrap());
}

/// Makes stewards out of calls whose first byte is 9.
#[derive(Debug)]
struct Nine;

impl Stewards for Nine {
    fn restore(&self, state: &Bytes) -> Result<Box<dyn Steward>, BadBytes> {
        OneSlot::read(Some(state.clone()))
    }

    fn begin(&self, call: &Bytes) -> Option<Box<dyn Steward>> {
        (call[0] == 9).then(|| OneSlot::read(None).unwrap())
    }
}

#[test]
fn a_steward_comes_by_an_entry_and_stays() {
    let mut group = Group::new();
    let refused = Reply::Error(b"ERR this group is not part of a sharded store"[..].into());
    assert_eq!(group.write(call(7, 1, &[9, 0, 0]).proposal()), Verdict::Done(refused.clone()));
    let store = group.machine.store().clone();
    group.machine = Machine::open(store).unwrap().with_stewards(Box::new(Nine)).unwrap();
    assert_eq!(group.write(call(7, 2, &[2, 0, 0]).proposal()), Verdict::Done(refused));
    let begun = Verdict::Done(Reply::Bulk(Bytes::from_static(&[0, 0, 0])));
    assert_eq!(group.write(call(7, 3, &[9, 0, 0]).proposal()), begun);
    group.run("SET k 1");
    group.apply(&[gate(2, "k", 0)]);
    // Also on a replica that begins with a snapshot, or from what is stored.
    let mut import = Import::new(MemStore::new()).unwrap();
    for chunk in group.machine.export().unwrap() {
        import.feed(&chunk.unwrap()).unwrap();
    }
    let stores = [import.finish().unwrap().0, group.machine.store().clone()];
    for store in stores {
        group.machine = Machine::open(store).unwrap().with_stewards(Box::new(Nine)).unwrap();
        let answer = QueryAnswer::Closed { slot: Slot::of(b"k"), gate: Gate::Away };
        assert_eq!(group.query_at("GET k", 0), answer);
    }
}

#[test]
fn a_group_may_begin_with_a_steward() {
    let begins_after = LogId::new(Term(0), Index(1));
    let first = OneSlot(Bytes::from_static(&[2, 0, 0]));
    let found = |store| Machine::found(store, begins_after, &first);
    let store = found(MemStore::new()).unwrap();
    assert!(found(store.clone()).is_err());
    let machine = Machine::open(store).unwrap().with_stewards(Box::new(Nine)).unwrap();
    assert_eq!(machine.applied(), begins_after);
    assert_eq!(machine.steward().map(|steward| steward.gate(Slot::default())), Some(Gate::Away));
}
