//! 10,000 maps and 10,000 reduces: 100 million pairs, none of which may cost anything.

use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::time::Duration;

use crate::bench::Bench;
use kontiki_schedule::{AttemptRef, Outcome, Phase};

const TASKS: u32 = 10_000;
const WORKERS: u64 = 100;
const SLOTS: u32 = 4;

/// Bytes for each task, and for everything else, this test's own lists included.
const ALLOWED_BYTES: u64 = 200 * 2 * TASKS as u64 + (64 << 20);
const TASKS_PER_SECOND: u64 = 10_000;

/// CPU time of this thread: other tests run beside it.
fn busy() -> Duration {
    let text = read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = text.split(' ').next().expect("a number");
    Duration::from_nanos(nanos.parse().expect("a number"))
}

/// The most memory that this process has had.
fn peak_bytes() -> u64 {
    let status = read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn ten_thousand_by_ten_thousand_take_little_memory_and_little_time() {
    let mut bench = Bench::quick();
    let before = busy();
    let job = bench.submit(TASKS, TASKS);
    (0..WORKERS).for_each(|worker| drop(bench.register(worker)));
    // What each worker runs; of what it is given it ends half before it asks for more.
    let mut open: BTreeMap<u64, Vec<AttemptRef>> = BTreeMap::new();
    while bench.ended.is_empty() {
        for worker in 0..WORKERS {
            let mine = open.entry(worker).or_default();
            let kept = mine.len() / 2;
            for attempt in mine.drain(kept..).collect::<Vec<_>>() {
                match attempt.task.phase {
                    Phase::Map => drop(bench.map_done(worker, attempt)),
                    Phase::Reduce => bench.commit(worker, attempt),
                }
            }
            let free = SLOTS - mine.len() as u32;
            let new = bench.pull(worker, free, mine);
            mine.extend(new.into_iter().map(|assignment| assignment.attempt));
        }
    }
    let took = busy() - before;
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
    let status = bench.scheduler.job(job, bench.now).expect("remembered");
    assert_eq!(status.maps.counts.started + status.reduces.counts.started, 2 * u64::from(TASKS));
    let rate = (2.0 * f64::from(TASKS) / took.as_secs_f64()) as u64;
    println!("{rate} tasks a second, {} MiB at most", peak_bytes() >> 20);
    assert!(rate >= TASKS_PER_SECOND, "{rate} tasks a second");
    assert!(peak_bytes() <= ALLOWED_BYTES, "{} bytes", peak_bytes());
}
