//! The swarm in two processes.

use std::process::Command;

use kontiki_sim::swarm::{SwarmConfig, run};

const SEEDS: u64 = 3;

/// What [`two_processes_agree`] compares.
#[test]
fn traces() {
    for seed in 1..=SEEDS {
        let report = run(seed, &SwarmConfig::default());
        println!("trace of {seed}: {:016x} {}", report.trace_hash, report.completed);
    }
}

#[test]
fn two_processes_agree() {
    let traces = || {
        let program = std::env::current_exe().expect("a test is a program");
        let output = Command::new(program)
            .args(["swarm::traces", "--exact", "--nocapture"])
            .output()
            .expect("the program is there");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains("trace of")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = traces();
    assert_eq!(first.len() as u64, SEEDS, "{first:?}");
    assert_eq!(first, traces());
}
