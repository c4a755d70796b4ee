//! What a death and a slow worker cost. Times are judged in the full form only: in the small one the
//! program is not optimised, and the machine does other things.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::farm::{Farm, LIMIT, of_maps};
use super::process::Process;
use super::work::Work;
use super::{amount, figure, is_full};

fn seconds(report: &Value) -> f64 {
    report["seconds"].as_f64().expect("seconds")
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// One of two workers killed at 25, 50 and 75 % of the maps, and started again at once.
#[test]
fn a_kill_costs_little() {
    let mut farm = Farm::start(2, Duration::from_secs(10));
    let work = Work::new(farm.root.path());
    let mut undisturbed = Vec::new();
    let mut killed: [Vec<f64>; 3] = Default::default();
    for round in 0..amount(3, 1) {
        undisturbed.push(seconds(&work.check(&mut work.run(&farm, &format!("out-{round}")))));
        for (quarter, times) in (1..).zip(&mut killed).skip(amount(0, 2)) {
            let mut run = work.run(&farm, &format!("out-{round}-{quarter}"));
            let total = of_maps(&farm.some_job(), "total");
            farm.maps_done(total * quarter / 4);
            farm.replace_worker(0);
            times.push(seconds(&work.check(&mut run)));
        }
    }
    let undisturbed = median(undisturbed);
    figure("seconds_undisturbed", format!("{undisturbed:.2}"));
    for (quarter, times) in (1..).zip(killed).skip(amount(0, 2)) {
        let cost = median(times) / undisturbed - 1.0;
        figure(&format!("cost_of_a_kill_at_{}_percent", quarter * 25), format!("{cost:.2}"));
        assert!(!is_full() || cost <= 0.35, "a kill costs {:.0} %", cost * 100.0);
    }
}

/// Gives a process a tenth of its time, until it is dropped.
fn slow_down(process: &Process) {
    process.stop();
    thread::sleep(Duration::from_millis(45));
    process.go_on();
    thread::sleep(Duration::from_millis(5));
}

/// One of four workers is ten times slower than the others.
#[test]
fn a_slow_worker_costs_little() {
    let farm = Farm::start(4, Duration::from_secs(10));
    let work = Work::new(farm.root.path());
    let (mut even, mut slow, mut twice) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..amount(3, 1) {
        even.push(seconds(&work.check(&mut work.run(&farm, &format!("even-{round}")))));
        let mut run = work.run(&farm, &format!("slow-{round}"));
        let begun = Instant::now();
        while run.process.ended().is_none() && begun.elapsed() < LIMIT {
            slow_down(&farm.workers[0]);
        }
        let report = work.check(&mut run);
        slow.push(seconds(&report));
        let tasks = of_maps(&report, "total") + report["reduces"]["total"].as_u64().unwrap_or(0);
        let backups =
            of_maps(&report, "backups") + report["reduces"]["backups"].as_u64().unwrap_or(0);
        twice.push(backups as f64 / tasks as f64);
    }
    let cost = median(slow) / median(even) - 1.0;
    let twice = twice.into_iter().fold(0.0, f64::max);
    figure("cost_of_a_slow_worker", format!("{cost:.2}"));
    figure("share_of_tasks_run_twice", format!("{twice:.3}"));
    assert!(!is_full() || cost <= 0.5, "a slow worker costs {:.0} %", cost * 100.0);
    assert!(twice <= 0.1, "{:.0} % of the tasks ran twice", twice * 100.0);
}
