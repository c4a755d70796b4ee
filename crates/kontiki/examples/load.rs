//! Appends from several threads until its input ends, then checks that every append was done exactly
//! once: what the native client promises through failovers, restarts and moves of slots.
//!
//! `cargo run -p kontiki --example load -- ADDRESS...` prints a line when it begins, and ends
//! with an error at the first call that fails.

use std::error::Error;
use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kontiki_client::blocking::Client;
use kontiki_client::{Op, OpResult, Options};

const WORKERS: usize = 8;

/// Keys of a worker; it goes round.
const KEYS: u64 = 50;

type Failure = Box<dyn Error + Send + Sync>;

/// What one worker has done: rounds through all its keys, and a part of the last.
struct Done {
    turns: u64,
    longest: Duration,
}

fn key(worker: usize, turn: u64) -> String {
    format!("native:{worker}:{}", turn % KEYS)
}

/// One call of each kind, with what must come of it.
fn turn(client: &Client, worker: usize, turn: u64) -> Result<(), Failure> {
    let key = key(worker, turn);
    let expected = turn / KEYS + 1;
    let length = client.append(&key, "x")?;
    if length != expected {
        return Err(format!("{key} has {length} bytes instead of {expected}").into());
    }
    // Both in one slot, and together.
    let sum = format!("{{{key}}}sum");
    let ops = [Op::append(&sum, "yy"), Op::get(&key)];
    match client.transaction([], ops)?.as_deref() {
        Some([OpResult::Append { length, .. }, OpResult::Get(Some(found))])
            if *length == 2 * expected && found.value.len() as u64 == expected =>
        {
            Ok(())
        }
        other => Err(format!("{key} after {expected} turns: {other:?}").into()),
    }
}

fn work(client: &Client, worker: usize, stop: &AtomicBool) -> Result<Done, Failure> {
    let mut done = Done { turns: 0, longest: Duration::ZERO };
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        turn(client, worker, done.turns)?;
        done.longest = done.longest.max(begun.elapsed());
        done.turns += 1;
    }
    Ok(done)
}

fn check(client: &Client, worker: usize, turns: u64) -> Result<(), Failure> {
    for place in 0..turns.min(KEYS) {
        let key = key(worker, place);
        let expected = (turns - place - 1) / KEYS + 1;
        let found = client.get(&key)?.map_or(0, |found| found.value.len() as u64);
        if found != expected {
            return Err(format!("{key} has {found} bytes after {expected} turns").into());
        }
    }
    Ok(())
}

fn run() -> Result<(), Failure> {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for worker in 0..WORKERS {
        let mut own = addresses.clone();
        own.rotate_left(worker % addresses.len().max(1));
        let client = Client::connect(own, Options::default())?;
        let stop = Arc::clone(&stop);
        threads.push(thread::spawn(move || work(&client, worker, &stop)));
    }
    println!("begun");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    stop.store(true, Ordering::Relaxed);
    let client = Client::connect(&addresses, Options::default())?;
    let (mut turns, mut longest) = (0, Duration::ZERO);
    for (worker, thread) in threads.into_iter().enumerate() {
        let done = thread.join().map_err(|_| "a worker panicked")??;
        check(&client, worker, done.turns)?;
        turns += done.turns;
        longest = longest.max(done.longest);
    }
    println!("native: {turns} turns of a load, each done once; longest {} ms", longest.as_millis());
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
