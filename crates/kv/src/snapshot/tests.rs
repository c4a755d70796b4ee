use bytes::Bytes;
use kontiki_types::{ClientId, Index, LogId, LogTime, Seq, Slot, Term};

use super::*;
use crate::command::Write;
use crate::{Import, Machine, MemStore, Proposal, SnapshotError, WriteRequest};

/// A machine that has a bit of everything: keys with and without expiry, records with short and
/// long replies, a low mark, a flushed slot.
fn machine() -> Machine<MemStore> {
    let mut machine = Machine::open(MemStore::new()).unwrap();
    let long = "x".repeat(crate::clients::INLINE_REPLY_MAX);
    let requests =
        ["SET a 1", "FLUSHALL", &format!("SET b {long}"), "SET c 1 PX 99", "INCR c", "SET b 1 GET"];
    for (number, request) in (1..).zip(requests) {
        let args: Vec<_> =
            request.split(' ').map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect();
        let Ok(crate::command::Parsed::Write(write)) = crate::command::parse(&args, 0) else {
            panic!("{request} is a write")
        };
        let payload = proposal(number, &write);
        let id = LogId::new(Term(1), Index(number));
        machine.apply(&[(id, Some(payload))], &mut Vec::new()).unwrap();
    }
    machine
}

fn proposal(number: u64, write: &Write) -> Bytes {
    let mut command = Vec::new();
    write.encode(&mut command);
    let client = ClientId { connection: number % 2, ..ClientId::default() };
    let seq = Seq(number);
    let (deadline, slot, command) = (LogTime(1_000), Slot::default(), command.into());
    let request = WriteRequest { client, seq, low: seq, deadline, after: None, slot, command };
    Proposal::write(LogTime(number), request).to_bytes()
}

/// The items of a snapshot, out of their frames.
fn items(machine: &Machine<MemStore>) -> Vec<u8> {
    let mut items = Vec::new();
    for (number, frame) in (0..).zip(machine.export().unwrap()) {
        items.extend_from_slice(read_frame(&frame.unwrap(), number).unwrap().unwrap());
    }
    items
}

fn import(items: &[u8]) -> Result<Machine<MemStore>, SnapshotError> {
    let mut import = Import::new(MemStore::new())?;
    for (number, content) in (0..).zip(items.chunks(50)) {
        let mut frame = Vec::new();
        put_frame(&mut frame, number, content);
        import.feed(&frame)?;
    }
    let (store, _) = import.finish()?;
    Ok(Machine::open(store).unwrap())
}

/// Frames that are sound around items that are not: a sender with a fault, not a damaged line.
#[test]
fn no_item_however_wrong_makes_it_panic() {
    let machine = machine();
    let good = items(&machine);
    assert_eq!(import(&good).unwrap().state_hash().unwrap(), machine.state_hash().unwrap());
    // The inside of the long value and reply is all the same.
    let is_inside = |place: &usize| good[place.saturating_sub(9)..=*place] == [b'x'; 10];
    for place in (0..good.len()).filter(|place| !is_inside(place)) {
        for value in [0, 0xff, good[place].wrapping_add(1)] {
            let mut bad = good.clone();
            bad[place] = value;
            assert!(value == good[place] || import(&bad).is_err(), "byte {place} as {value}");
        }
        assert!(import(&good[..place]).is_err(), "cut at {place}");
        assert!(
            import(&[&good[..place], &good[place + 1..]].concat()).is_err(),
            "{place} left out"
        );
    }
}

#[test]
fn a_snapshot_of_another_version_names_both() {
    let mut bad = items(&machine());
    let place = 2 + MAGIC.len();
    assert_eq!(bad[place], crate::layout::FORMAT);
    bad[place] = 7;
    let error = import(&bad).unwrap_err().to_string();
    assert!(error.contains("version 7") && error.contains("knows 1"), "{error}");
}

#[test]
fn a_frame_that_claims_too_much_is_refused_at_once() {
    let mut import = Import::new(MemStore::new()).unwrap();
    assert!(import.feed(&[0xff; FRAME_HEADER]).is_err());
}

/// The engine checks its rows; should it hand out wrong ones all the same, opening says so.
#[test]
fn no_row_however_wrong_makes_opening_panic() {
    use crate::Store;
    let good = machine().with_delta_bytes_kept(0);
    let rows: Vec<_> = good.store().rows().map(|(key, row)| (key.clone(), row.clone())).collect();
    let mut opened = 0;
    for (key, row) in rows.iter().filter(|(key, row)| key[0] < 0x30 && row.len() < 200) {
        for place in 0..row.len() {
            for value in [0, 0xff] {
                let mut bad = row.to_vec();
                bad[place] = value;
                let mut store = good.store().clone();
                let mut change = vec![(key.clone(), Some(bad.into()))];
                store.commit(&mut change, store.applied()).unwrap();
                opened += usize::from(Machine::open(store).is_ok());
            }
        }
    }
    assert!(opened > 0, "some wrong rows are plausible");
}
