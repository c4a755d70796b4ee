use kontiki_types::Incarnation;

use super::*;

fn id(connection: u64) -> ClientId {
    ClientId { incarnation: Incarnation(7), boot: 1, connection }
}

fn record(seq: u64, deadline: u64) -> Record {
    let (seq, deadline) = (Seq(seq), LogTime(deadline));
    Record { seq, deadline, digest: seq.0 * 31, reply: Kept::Ok, slot: Slot::of(b"k") }
}

fn seqs(client: &Client, now: u64) -> Vec<u64> {
    client.records(LogTime(now)).map(|record| record.seq.0).collect()
}

#[test]
fn records_stay_in_order_whatever_order_they_come_in() {
    let mut client = Client::default();
    for seq in [5, 3, 9, 4, 1] {
        client.complete(record(seq, 100));
    }
    assert_eq!(seqs(&client, 0), [1, 3, 4, 5, 9]);
    assert!(client.record(Seq(4), Slot::of(b"k"), LogTime(0)).is_some());
    assert!(client.record(Seq(4), Slot::of(b"other"), LogTime(0)).is_none());
    assert!(client.record(Seq(2), Slot::of(b"k"), LogTime(0)).is_none());
}

#[test]
fn a_record_counts_up_to_its_deadline() {
    let mut client = Client::default();
    client.complete(record(1, 10));
    client.complete(record(2, 20));
    assert_eq!(seqs(&client, 10), [1, 2]);
    assert_eq!(seqs(&client, 11), [2]);
    let mut freed = Vec::new();
    assert!(!client.sweep(LogTime(11), |record| freed.push(record.seq)));
    assert_eq!(freed, [Seq(1)]);
    assert_eq!(client.records, Records::One(record(2, 20)));
    assert!(client.sweep(LogTime(21), |_| ()));
}

#[test]
fn a_low_mark_frees_records_and_outlives_their_deadlines() {
    let mut client = Client::default();
    for seq in 1..=3 {
        client.complete(record(seq, 100));
    }
    let mut freed = Vec::new();
    assert!(client.raise_low(Seq(3), LogTime(50), |record| freed.push(record.seq)));
    assert!(!client.raise_low(Seq(2), LogTime(60), |_| ()));
    assert_eq!(freed, [Seq(1), Seq(2)]);
    assert_eq!(seqs(&client, 60), [3]);
    let last = LogTime(50 + RETRY_WINDOW_MAX_MS);
    assert!(!client.sweep(last, |_| ()));
    assert_eq!(client.low(last), Seq(3));
    assert!(client.sweep(LogTime(last.0 + 1), |_| ()));
    assert_eq!(client.low(LogTime(last.0 + 1)), Seq(0));
}

#[test]
fn the_first_write_needs_no_low_mark() {
    let mut client = Client::default();
    assert!(!client.raise_low(Seq(1), LogTime(5), |_| ()));
    client.complete(record(1, 10));
    assert!(client.sweep(LogTime(11), |_| ()), "one record is all that a one-write client costs");
}

#[test]
fn clients_survive_their_bytes_without_what_is_dead() {
    let mut client = Client::default();
    client.raise_low(Seq(2), LogTime(1), |_| ());
    let replies = [
        Kept::Nil,
        Kept::Integer(i64::MIN),
        Kept::Integer(-1),
        Kept::Encoded([5, 1, 9].into()),
        Kept::Row(u64::MAX),
    ];
    for (seq, reply) in (2..).zip(replies) {
        client.complete(Record { reply, ..record(seq, 100) });
    }
    let mut bytes = Vec::new();
    assert!(client.encode(id(1), LogTime(2), &mut bytes));
    assert_eq!(Client::decode(&mut Cursor::new(&bytes)).unwrap(), (id(1), client.clone()));
    for end in 0..bytes.len() {
        assert!(Client::decode(&mut Cursor::new(&bytes[..end])).is_err(), "cut at {end}");
    }
    assert!(!client.encode(id(1), LogTime(u64::MAX), &mut bytes));
}

#[test]
fn an_idle_client_of_one_write_stays_below_200_bytes() {
    // A map of 11 entries to a node, filled to two thirds, costs half as much again.
    let entry = size_of::<ClientId>() + size_of::<Client>();
    assert!(entry * 3 / 2 < 200, "{entry} bytes");
}

#[test]
fn a_client_that_never_acknowledges_is_full_in_the_end() {
    let mut client = Client::default();
    let most = RECORDS_PER_CLIENT_MAX as u64;
    for seq in 1..=most {
        client.complete(record(seq, seq));
    }
    assert!(client.is_full(LogTime(1)));
    assert!(!client.is_full(LogTime(2)), "dead ones do not count");
}
