//! Processes that are killed and stopped while a job runs: the output is as if nothing had been.

use std::thread;
use std::time::Duration;

use super::farm::{Farm, of_maps};
use super::work::Work;
use super::{amount, figure, random};

const LEASE: Duration = Duration::from_secs(1);

fn moment(most: u64) -> Duration {
    Duration::from_millis(20 + random(most))
}

#[test]
fn workers_killed_at_random() {
    let mut farm = Farm::start(3, LEASE);
    let work = Work::new(farm.root.path());
    let mut run = work.run(&farm, "out");
    let mut kills = 0;
    // So often at the most, so that there is an end.
    while run.process.ended().is_none() && kills < 30 {
        thread::sleep(moment(amount(300, 600)));
        farm.replace_worker(random(3) as usize);
        kills += 1;
    }
    let report = work.check(&mut run);
    figure("workers_killed_at_random", kills);
    println!("{kills} kills: {report}");
}

#[test]
fn both_of_two_workers_killed_in_turn() {
    let mut farm = Farm::start(2, LEASE);
    let work = Work::new(farm.root.path());
    let mut run = work.run(&farm, "out");
    for turn in 0..4 {
        thread::sleep(moment(amount(500, 800)));
        farm.replace_worker(turn % 2);
    }
    let report = work.check(&mut run);
    println!("{report}");
}

/// What was done before a kill is not started again after it.
#[test]
fn the_coordinator_killed_twice_runs_no_finished_map_again() {
    let mut farm = Farm::start(2, Duration::from_secs(10));
    let work = Work::new(farm.root.path());
    for round in 0..amount(5, 1) {
        let mut run = work.run(&farm, &format!("out-{round}"));
        let total = of_maps(&farm.some_job(), "total");
        let mut done = 0;
        for _ in 0..2 {
            thread::sleep(moment(amount(600, 1500)));
            done = farm.job().map_or(done, |job| of_maps(&job, "done"));
            farm.replace_coordinator(moment(200));
        }
        let report = work.check(&mut run);
        assert_eq!(of_maps(&report, "reruns"), 0, "{report}");
        // Attempts are counted from the last start on.
        let started = of_maps(&report, "attempts") - of_maps(&report, "backups");
        assert!(started + done <= total, "{done} of {total} were done: {report}");
        figure("maps_done_before_the_second_kill", format!("{done} of {total}"));
    }
}

#[test]
fn a_worker_stopped_beyond_its_lease_reports_late() {
    let farm = Farm::start(2, LEASE);
    let work = Work::new(farm.root.path());
    let mut run = work.run(&farm, "out");
    farm.maps_done(1);
    farm.workers[0].stop();
    thread::sleep(LEASE.mul_f64(1.6));
    assert!(run.process.ended().is_none(), "the job was over before the worker came back");
    farm.workers[0].go_on();
    let report = work.check(&mut run);
    let lost = of_maps(&report, "lost") + report["reduces"]["lost"].as_u64().unwrap_or_default();
    assert!(lost > 0, "it was not missed: {report}");
}
