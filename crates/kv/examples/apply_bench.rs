//! What applying an entry costs, over the store in memory, in CPU time of the thread; and what the
//! store's share of it is.
//!
//! `cargo run --release --example apply_bench -p kontiki-kv`

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::command::{self, Parsed};
use kontiki_kv::{
    Machine, MemStore, Outcome, Proposal, QueryAnswer, Store, Verdict, WriteRequest, WriteSet,
};
use kontiki_types::{ClientId, Incarnation, Index, LogId, LogTime, Seq, Slot, Term};

const CLIENTS: u64 = 64;
const KEYS: u64 = 100_000;
const ENTRIES: u64 = 1_000_000;
const VALUE: [u8; 128] = [b'v'; 128];

fn main() {
    println!("{ENTRIES} entries, {KEYS} keys, {CLIENTS} clients, values of {} bytes", VALUE.len());
    store_alone();
    for batch in [1, 16, 64, 512] {
        run("SET k v", batch, |key| vec![b"SET".to_vec(), key, VALUE.to_vec()]);
    }
    run("SET k v EX 100", 64, |key| {
        vec![b"SET".to_vec(), key, VALUE.to_vec(), b"EX".to_vec(), b"100".to_vec()]
    });
    run("INCR k", 64, |key| vec![b"INCR".to_vec(), key]);
}

fn run(name: &str, batch: usize, request: impl Fn(Vec<u8>) -> Vec<Vec<u8>>) {
    let mut machine = Machine::open(MemStore::new()).expect("an empty store opens");
    let mut entries = Vec::with_capacity(batch);
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut spent = Duration::ZERO;
    for number in 0..KEYS + ENTRIES {
        let key = if number < KEYS { number } else { scatter(number) % KEYS };
        let payload = proposal(number, request(format!("key:{key:012}").into_bytes()));
        entries.push((LogId::new(Term(1), Index(number + 1)), Some(payload)));
        if entries.len() < batch && number + 1 < KEYS + ENTRIES {
            continue;
        }
        let start = cpu_time();
        machine.apply(&entries, &mut outcomes).expect("entries apply");
        if number >= KEYS {
            spent += cpu_time() - start;
        }
        assert!(outcomes.iter().all(|outcome| matches!(outcome.verdict, Verdict::Done(_))));
        outcomes.clear();
        entries.clear();
    }
    let per_entry = spent.as_nanos() as f64 / ENTRIES as f64;
    println!("{name:16} batches of {batch:3}: {per_entry:6.0} ns per entry");
    if batch == 512 {
        query(&machine);
    }
}

/// The least that a store does for a SET: look the key up, put its row.
fn store_alone() {
    let mut store = MemStore::new();
    let mut spent = Duration::ZERO;
    let mut batch = WriteSet::new();
    for number in 0..KEYS + ENTRIES {
        let key = if number < KEYS { number } else { scatter(number) % KEYS };
        batch.push((Bytes::from(format!("key:{key:012}")), Some(Bytes::copy_from_slice(&VALUE))));
        if batch.len() < 64 {
            continue;
        }
        let start = cpu_time();
        for (key, _) in &batch {
            black_box(store.get(key)).expect("memory does not fail");
        }
        store.commit(&mut batch, LogId::ZERO).expect("memory does not fail");
        if number >= KEYS {
            spent += cpu_time() - start;
        }
    }
    let per_entry = spent.as_nanos() as f64 / ENTRIES as f64;
    println!("{:16} batches of  64: {per_entry:6.0} ns per entry", "the store alone");
}

/// Other processes do not count in it.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is nanoseconds"))
}

fn query(machine: &Machine<MemStore>) {
    let reads: Vec<_> = (0..KEYS)
        .map(|number| {
            let key = format!("key:{:012}", scatter(number) % KEYS);
            match command::parse(&[Bytes::from_static(b"GET"), key.into()], 0) {
                Ok(Parsed::Read(read)) => read,
                other => panic!("GET is a read, not {other:?}"),
            }
        })
        .collect();
    let start = cpu_time();
    for read in &reads {
        let answer = machine.query(read, LogTime(0)).expect("reads are answered");
        assert!(matches!(black_box(answer), QueryAnswer::Reply(_)));
    }
    let per_read = (cpu_time() - start).as_nanos() as f64 / reads.len() as f64;
    println!("{:16} {:>15} {per_read:6.0} ns per read", "GET k", "");
}

fn proposal(number: u64, request: Vec<Vec<u8>>) -> Bytes {
    let args: Vec<Bytes> = request.into_iter().map(Bytes::from).collect();
    let Ok(Parsed::Write(write)) = command::parse(&args, 0) else { panic!("not a write") };
    let mut command = Vec::new();
    write.encode(&mut command);
    let stamp = 1_000_000 + number / 50;
    let (client, seq) = (number % CLIENTS, Seq(number / CLIENTS + 1));
    let client = ClientId { incarnation: Incarnation(1), boot: 1, connection: client };
    let (deadline, slot) = (LogTime(stamp + 30_000), Slot::of(&args[1]));
    let command = command.into();
    let request = WriteRequest { client, seq, low: seq, deadline, after: None, slot, command };
    Proposal::write(LogTime(stamp), request).to_bytes()
}

/// Spreads consecutive numbers.
fn scatter(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}
