//! 10,000 maps and 10,000 reduces: 100 million pairs, none of which may cost anything.
//!
//! What it takes and how fast it goes is measured in `kontiki bench mr`; here it has to go through.

use crate::bench::Bench;
use kontiki_schedule::Outcome;

#[test]
fn a_job_of_ten_thousand_by_ten_thousand_ends() {
    let mut bench = Bench::quick();
    let job = bench.submit(10_000, 10_000);
    bench.register(1);
    let mut open = bench.pull(1, 4, &[]);
    while !open.is_empty() {
        for assignment in std::mem::take(&mut open) {
            match assignment.attempt.task.phase {
                kontiki_schedule::Phase::Map => {
                    bench.map_done(1, assignment.attempt);
                }
                kontiki_schedule::Phase::Reduce => bench.commit(1, assignment.attempt),
            }
        }
        open = bench.pull(1, 4, &[]);
    }
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
}
