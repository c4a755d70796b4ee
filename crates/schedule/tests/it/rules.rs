//! One test per rule.

use std::time::Duration;

use kontiki_schedule::{
    Cause, Config, Failure, JobSpec, Outcome, Output, Report, Scheduler, TaskId, Verdict, Work,
};
use kontiki_types::Instant;

use crate::bench::{Bench, counted, tasks, user_failure, worker};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_task_runs_once_when_nothing_fails() {
    let mut bench = Bench::new();
    let job = bench.submit(3, 2);
    bench.register(1);
    let maps = bench.do_maps(1, 3);
    assert_eq!(tasks(&maps), [TaskId::map(0), TaskId::map(1), TaskId::map(2)]);
    for _ in 0..2 {
        let reduce = bench.take(1);
        bench.commit(1, reduce);
    }
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
    let status = bench.scheduler.job(job, bench.now).expect("remembered");
    assert_eq!((status.maps.counts.started, status.reduces.counts.started), (3, 2));
    assert_eq!(status.counters, counted(5));
    assert_eq!(bench.assigned.len(), 5);
}

#[test]
fn no_reduce_begins_before_all_maps_are_done() {
    let mut bench = Bench::new();
    bench.submit(2, 1);
    bench.register(1);
    let (first, second) = (bench.take(1), bench.take(1));
    bench.map_done(1, first);
    assert_eq!(bench.pull(1, 4, &[second]), []);
    bench.map_done(1, second);
    let reduce = bench.pull(1, 4, &[]);
    let (list, next) = bench.scheduler.map_outputs(reduce[0].attempt.job, 0).expect("live");
    assert_eq!((list.len(), reduce[0].outputs), (2, next));
}

#[test]
fn a_worker_with_many_slots_leaves_tasks_for_others() {
    let mut bench = Bench::new();
    bench.submit(8, 1);
    bench.register(1);
    bench.register(2);
    assert_eq!(bench.pull(1, 4, &[]).len(), 2);
    assert_eq!(bench.pull(2, 4, &[]).len(), 1);
}

#[test]
fn a_task_longer_than_its_lease_is_run_once_while_its_worker_lives() {
    let mut bench = Bench::with(Config { backup_percent: 0, ..Config::default() });
    bench.submit(1, 1);
    bench.register(1);
    bench.register(2);
    let map = bench.take(1);
    bench.pass(35 * SECOND, &[(1, &[map]), (2, &[])]);
    assert_eq!(bench.pull(2, 4, &[]), []);
    assert_eq!(bench.map_done(1, map), Some(Verdict::Accepted));
}

#[test]
fn the_task_of_a_silent_worker_goes_to_another() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    bench.register(2);
    let map = bench.take(1);
    bench.pass(9 * SECOND, &[(2, &[])]);
    assert_eq!(bench.pull(2, 4, &[]), []);
    bench.pass(2 * SECOND, &[(2, &[])]);
    let again = bench.take(2);
    assert_eq!(again.task, map.task);
    assert_ne!(again.attempt, map.attempt);
}

#[test]
fn an_attempt_that_its_worker_does_not_name_is_lost() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    bench.take(1);
    bench.pass(11 * SECOND, &[(1, &[])]);
    assert_eq!(bench.pull(1, 1, &[])[0].attempt.task, TaskId::map(0));
}

/// It was taken for an old one, and its worker waited in vain until its patience was over.
#[test]
fn a_pull_that_a_heartbeat_has_overtaken_is_answered() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    let pull = bench.sign(worker(1), &[]);
    bench.heartbeat(1, &[]).expect("registered");
    bench.scheduler.pull(&pull, 1, bench.now).expect("registered");
    bench.scheduler.pull(&pull, 1, bench.now).expect("registered");
    bench.settle();
    assert_eq!(bench.assigned.len(), 1, "once, although it came twice");
}

/// A coordinator that was stopped for a minute took everybody for dead, and all maps for lost.
#[test]
fn a_coordinator_that_was_stopped_gives_its_workers_time() {
    let mut bench = Bench::new();
    let job = bench.submit(2, 1);
    bench.register(1);
    let (done, running) = (bench.take(1), bench.take(1));
    bench.map_done(1, done);
    bench.now = bench.now + 60 * SECOND;
    bench.scheduler.tick(bench.now);
    bench.settle();
    assert_eq!(bench.heartbeat(1, &[running]).expect("registered").cancel, []);
    let maps = bench.scheduler.job(job, bench.now).expect("live").maps;
    assert_eq!((maps.done, maps.counts.lost), (1, 0));
    // From there on its lease is as long as ever.
    bench.pass(12 * SECOND, &[]);
    let maps = bench.scheduler.job(job, bench.now).expect("live").maps;
    assert_eq!((maps.done, maps.counts.lost), (0, 2));
}

#[test]
fn a_lost_answer_is_given_again_with_the_next_pull() {
    let mut bench = Bench::new();
    bench.submit(2, 1);
    bench.register(1);
    let first = bench.pull(1, 1, &[]);
    let again = bench.pull(1, 1, &[]);
    assert_eq!(first, again, "the worker does not know of it");
    let second = bench.pull(1, 1, &[first[0].attempt]);
    assert_eq!(second[0].attempt.task, TaskId::map(1));
    let status = bench.scheduler.jobs(bench.now).next().expect("one job");
    assert_eq!(status.maps.counts.started, 2);
}

#[test]
fn a_message_that_is_late_or_doubled_changes_nothing() {
    let mut bench = Bench::new();
    bench.submit(2, 1);
    bench.register(1);
    let old = bench.sign(worker(1), &[]);
    let map = bench.take(1);
    bench.heartbeat(1, &[map]).expect("registered");
    let before = bench.assigned.len();
    bench.scheduler.pull(&old, 4, bench.now).expect("registered");
    bench.settle();
    assert_eq!(bench.assigned.len(), before);
    assert_eq!(bench.map_done(1, map), Some(Verdict::Accepted));
    assert_eq!(bench.map_done(1, map), Some(Verdict::Accepted), "the answer was lost");
    let status = bench.scheduler.jobs(bench.now).next().expect("one job");
    assert_eq!((status.maps.done, status.counters), (1, counted(1)));
}

#[test]
fn a_failed_attempt_that_a_late_message_names_does_not_come_back() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    let map = bench.take(1);
    let late = bench.sign(worker(1), &[map]);
    bench.report(1, map, user_failure(None));
    let heard = bench.scheduler.heartbeat(&late, bench.now).expect("registered");
    assert_eq!(heard.cancel, [map]);
    assert_ne!(bench.take(1).attempt, map.attempt);
}

#[test]
fn the_first_of_two_outputs_counts_and_the_other_is_thrown_away() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    bench.register(2);
    let map = bench.take(1);
    bench.pass(11 * SECOND, &[(2, &[])]);
    let again = bench.take(2);
    // The first worker was only asleep.
    assert_eq!(bench.map_done(1, map), Some(Verdict::Unknown));
    assert_eq!(bench.register_with(1, &[map], &[]).cancel, []);
    assert_eq!(bench.map_done(1, map), Some(Verdict::Accepted));
    assert_eq!(bench.cancelled, [(worker(2), again)]);
    assert_eq!(bench.map_done(2, again), Some(Verdict::Superseded));
    assert_eq!(bench.heartbeat(2, &[again]).expect("registered").cancel, [again]);
    let status = bench.scheduler.jobs(bench.now).next().expect("one job");
    assert_eq!(status.counters, counted(1));
}

#[test]
fn all_outputs_of_a_lost_worker_are_lost_at_once() {
    let mut bench = Bench::new();
    let job = bench.submit(4, 1);
    bench.register(1);
    bench.register(2);
    bench.do_maps(1, 3);
    let last = bench.take(2);
    bench.map_done(2, last);
    let reduce = bench.take(2);
    bench.pass(11 * SECOND, &[(2, &[reduce])]);
    let again: Vec<_> = (0..3).map(|_| bench.take_beside(2, &[reduce]).task).collect();
    assert_eq!(again, [TaskId::map(0), TaskId::map(1), TaskId::map(2)]);
    let status = bench.scheduler.job(job, bench.now).expect("live");
    assert_eq!(status.maps.counts.reruns, 3);
}

#[test]
fn outputs_are_not_lost_when_all_that_needs_them_is_done() {
    let mut bench = Bench::new();
    let job = bench.submit(2, 1);
    bench.register(1);
    bench.register(2);
    bench.do_maps(1, 2);
    let reduce = bench.take(2);
    bench.commit(2, reduce);
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
    bench.pass(11 * SECOND, &[(2, &[])]);
    assert_eq!(bench.pull(2, 4, &[]), []);
}

#[test]
fn a_worker_started_again_in_its_directory_brings_its_outputs_back() {
    let mut bench = Bench::new();
    bench.submit(3, 1);
    bench.register(1);
    let held = bench.do_maps(1, 2);
    let unfinished = bench.take(1);
    let before = bench.scheduler.map_outputs(held[0].job, 0).expect("live").1;
    bench.address = "elsewhere:2";
    assert_eq!(bench.reborn(1, &held[..1]).cancel, []);
    let (moved, _) = bench.scheduler.map_outputs(held[0].job, before).expect("live");
    assert_eq!(moved.len(), 1, "its new address is to be learned");
    assert_eq!(bench.scheduler.address(worker(1)), Some("elsewhere:2"));
    let again = [bench.take(1), bench.take(1)];
    assert_eq!(tasks(&again), [held[1].task, unfinished.task]);
}

#[test]
fn counters_of_a_task_that_ran_again_are_counted_once() {
    let mut bench = Bench::new();
    let job = bench.submit(1, 1);
    bench.register(1);
    bench.do_maps(1, 1);
    bench.reborn(1, &[]);
    bench.do_maps(1, 1);
    let reduce = bench.take(1);
    bench.commit(1, reduce);
    let status = bench.scheduler.job(job, bench.now).expect("remembered");
    assert_eq!(status.counters, counted(2));
    assert_eq!((status.maps.counts.started, status.maps.counts.reruns), (2, 1));
}

#[test]
fn one_attempt_is_granted_and_another_only_after_its_death() {
    let mut bench = Bench::new();
    bench.submit(0, 1);
    bench.register(1);
    bench.register(2);
    let first = bench.take(1);
    bench.pass(11 * SECOND, &[(2, &[])]);
    let second = bench.take(2);
    bench.register_with(1, &[first], &[]);
    assert_eq!(bench.report(1, first, Report::Ready), Some(Verdict::Granted));
    assert_eq!(bench.report(1, first, Report::Ready), Some(Verdict::Granted), "asked again");
    assert_eq!(bench.report(2, second, Report::Ready), None, "somebody else may be at it");
    bench.pass(11 * SECOND, &[(2, &[second])]);
    let told = bench.verdicts.last().copied();
    assert_eq!(told, Some((worker(2), second, Verdict::Granted)));
    bench.register_with(1, &[first], &[]);
    let late = bench.report(1, first, Report::Committed(counted(1)));
    assert_eq!(late, Some(Verdict::Superseded), "the second one replaces it");
    let verdict = bench.report(2, second, Report::Committed(counted(1)));
    assert_eq!(verdict, Some(Verdict::Accepted));
    assert_eq!(bench.ended.len(), 1);
}

#[test]
fn a_commit_that_is_reported_late_counts_if_nobody_else_was_granted() {
    let mut bench = Bench::new();
    bench.submit(0, 1);
    bench.register(1);
    let reduce = bench.take(1);
    assert_eq!(bench.report(1, reduce, Report::Ready), Some(Verdict::Granted));
    bench.pass(11 * SECOND, &[]);
    bench.register_with(1, &[reduce], &[]);
    let verdict = bench.report(1, reduce, Report::Committed(counted(1)));
    assert_eq!(verdict, Some(Verdict::Accepted));
    assert_eq!(bench.ended.len(), 1);
}

#[test]
fn maps_of_a_job_without_reduces_commit() {
    let mut bench = Bench::new();
    let job = bench.submit(2, 0);
    bench.register(1);
    let first = bench.take(1);
    assert_eq!(
        bench.map_done(1, first),
        Some(Verdict::Superseded),
        "a map that writes output asks"
    );
    bench.commit(1, first);
    bench.reborn(1, &[]);
    let second = bench.take(1);
    assert_eq!(second.task, TaskId::map(1), "output in its place outlives the worker");
    bench.commit(1, second);
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
}

#[test]
fn a_late_attempt_gets_one_backup_on_another_worker() {
    let mut bench = Bench::new();
    let job = bench.submit(4, 1);
    bench.register(1);
    bench.register(2);
    let slow = bench.take(1);
    for _ in 0..3 {
        let quick = bench.take_beside(2, &[]);
        bench.pass(2 * SECOND, &[(1, &[slow]), (2, &[quick])]);
        bench.map_done(2, quick);
    }
    bench.pass(SECOND, &[(1, &[slow]), (2, &[])]);
    assert_eq!(bench.pull(1, 1, &[slow]), [], "not where it runs already");
    let backup = bench.take(2);
    assert_eq!(backup.task, slow.task);
    assert_eq!(bench.pull(2, 4, &[backup]), [], "one is enough");
    bench.map_done(2, backup);
    assert_eq!(bench.cancelled, [(worker(1), slow)]);
    let status = bench.scheduler.job(job, bench.now).expect("live");
    assert_eq!((status.maps.counts.backups, status.maps.done), (1, 4));
}

#[test]
fn backups_are_few() {
    let mut bench = Bench::new();
    bench.submit(30, 1);
    bench.register(1);
    bench.register(2);
    let slow: Vec<_> = (0..10).map(|_| bench.take_beside(1, &[])).collect();
    for _ in 0..20 {
        let quick = bench.take(2);
        bench.pass(SECOND / 2, &[(1, &slow), (2, &[quick])]);
        bench.map_done(2, quick);
    }
    bench.pass(20 * SECOND, &[(1, &slow), (2, &[])]);
    let mut backups = Vec::new();
    while let [assignment] = &bench.pull(2, 1, &backups)[..] {
        backups.push(assignment.attempt);
    }
    assert_eq!(backups.len(), 3, "a tenth of 30");
}

#[test]
fn a_task_that_fails_too_often_fails_the_job_with_its_error() {
    let mut bench = Bench::new();
    let job = bench.submit(2, 1);
    for number in 1..=3 {
        bench.register(number);
    }
    let other = bench.take(3);
    for round in 0..4 {
        assert_eq!(bench.ended, []);
        let attempt = bench.take_beside(1 + round % 2, &[]);
        bench.report(1 + round % 2, attempt, user_failure(None));
    }
    let [(ended, Outcome::Failed(why))] = &bench.ended[..] else { panic!("{:?}", bench.ended) };
    assert_eq!(*ended, job);
    assert!(why.contains("map 1 failed 4 times") && why.contains("boom"), "{why}");
    assert_eq!(bench.heartbeat(3, &[other]).expect("registered").cancel, [other]);
    assert_eq!(bench.map_done(3, other), Some(Verdict::Superseded));
}

#[test]
fn a_task_is_not_retried_first_where_it_failed() {
    let mut bench = Bench::new();
    bench.submit(2, 1);
    bench.register(1);
    bench.register(2);
    let first = bench.take(1);
    bench.report(1, first, user_failure(None));
    assert_eq!(bench.take(1).task, TaskId::map(1));
    assert_eq!(bench.take(2).task, first.task);
}

#[test]
fn a_worker_on_which_all_fails_gets_no_more_while_there_is_another() {
    let mut bench = Bench::new();
    bench.submit(10, 1);
    bench.register(1);
    for _ in 0..3 {
        let attempt = bench.take(1);
        let failure = Failure { error: "disk full".into(), cause: Cause::Worker };
        bench.report(1, attempt, Report::Failed(failure));
    }
    let alone = bench.take(1);
    bench.register(2);
    assert_eq!(bench.pull(1, 1, &[alone]), []);
    bench.take(2);
    bench.scheduler.leave(worker(2), kontiki_schedule::Life(1), bench.now);
    bench.settle();
    assert_eq!(bench.pull(1, 1, &[alone]).len(), 1, "better a bad one than none");
}

#[test]
fn a_task_that_kills_every_worker_fails_the_job() {
    let mut bench = Bench::with(Config { losses_max: 5, ..Config::default() });
    bench.submit(1, 1);
    for _ in 0..5 {
        assert_eq!(bench.ended, []);
        bench.reborn(1, &[]);
        bench.take(1);
    }
    bench.reborn(1, &[]);
    assert!(matches!(&bench.ended[..], [(_, Outcome::Failed(_))]), "{:?}", bench.ended);
}

#[test]
fn an_output_that_came_damaged_is_made_again() {
    let mut bench = Bench::new();
    bench.submit(2, 1);
    bench.register(1);
    let maps = bench.do_maps(1, 2);
    let reduce = bench.take(1);
    let known = bench.scheduler.map_outputs(reduce.job, 0).expect("live").1;
    let cause = Cause::Fetch { map: 1, from: maps[1].attempt, corrupt: true };
    let failure = Failure { error: "checksum".into(), cause };
    bench.report(1, reduce, Report::Failed(failure));
    let again = bench.take(1);
    assert_eq!(again.task, TaskId::map(1));
    assert_eq!(bench.pull(1, 4, &[again]), [], "the reduce waits for it");
    bench.map_done(1, again);
    let job = again.job;
    let (new, next) = bench.scheduler.map_outputs(job, known).expect("live");
    assert_eq!((new.len(), new[0].map, new[0].attempt, next), (1, 1, again.attempt, known + 1));
    assert_eq!(bench.take(1).task, TaskId::reduce(0));
}

#[test]
fn an_output_that_one_reducer_cannot_reach_is_made_again_only_at_the_second_time() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    bench.register(2);
    let maps = bench.do_maps(1, 1);
    for expect in [TaskId::reduce(0), TaskId::map(0)] {
        let reduce = bench.take(2);
        assert_eq!(reduce.task, TaskId::reduce(0));
        let cause = Cause::Fetch { map: 0, from: maps[0].attempt, corrupt: false };
        let failure = Failure { error: "connection refused".into(), cause };
        bench.report(2, reduce, Report::Failed(failure));
        let next = bench.scheduler.jobs(bench.now).next().expect("one job");
        let map_waits = next.maps.waiting == 1;
        assert_eq!(map_waits, expect == TaskId::map(0));
    }
}

fn skipping() -> JobSpec {
    JobSpec { skip_bad_records: true, ..JobSpec::new("test", 1, 1) }
}

/// A mapper that fails on these records, of 1000.
fn run_map(bench: &mut Bench, bad: &[u64]) -> (Vec<u64>, u32) {
    for probes in 0..200 {
        let assignment = bench.pull(1, 1, &[]).remove(0);
        let (attempt, skip) = (assignment.attempt, assignment.skip);
        let report = match assignment.work {
            Work::Run => match bad.iter().find(|record| !skip.contains(record)) {
                Some(first) => user_failure(Some(0..*first + 50)),
                None => {
                    bench.map_done(1, attempt);
                    return (skip, probes);
                }
            },
            Work::Probe(records) => {
                let mut fed = bad.iter().filter(|record| !skip.contains(record));
                match fed.any(|record| records.contains(record)) {
                    true => user_failure(None),
                    false => Report::ProbePassed,
                }
            }
        };
        bench.report(1, attempt, report);
        if let Some((_, outcome)) = bench.ended.last() {
            panic!("{outcome:?}");
        }
    }
    panic!("no end");
}

#[test]
fn bad_records_are_found_and_left_out() {
    let mut bench = Bench::new();
    let job = bench.submit_spec(skipping());
    bench.register(1);
    let (skipped, attempts) = run_map(&mut bench, &[7, 400, 401, 999]);
    assert_eq!(skipped, [7, 400, 401, 999]);
    assert!(attempts < 4 * (2 + 12) + 1, "{attempts}");
    let status = bench.scheduler.job(job, bench.now).expect("live");
    assert_eq!(status.maps.counts.skipped, 4);
}

#[test]
fn without_leave_to_skip_the_bad_record_is_named() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    while bench.ended.is_empty() {
        let assignment = bench.pull(1, 1, &[]).remove(0);
        let report = match assignment.work {
            Work::Run => user_failure(Some(0..100)),
            Work::Probe(records) if records.contains(&42) => user_failure(None),
            Work::Probe(_) => Report::ProbePassed,
        };
        bench.report(1, assignment.attempt, report);
    }
    let Some((_, Outcome::Failed(why))) = bench.ended.last() else { panic!() };
    assert!(why.contains("record 42") && why.contains("boom"), "{why}");
}

#[test]
fn failures_that_no_record_explains_fail_the_job_in_the_end() {
    let mut bench = Bench::new();
    bench.submit_spec(skipping());
    bench.register(1);
    for _ in 0..100 {
        let Some(assignment) = bench.pull(1, 1, &[]).pop() else { break };
        let report = match assignment.work {
            Work::Run => user_failure(Some(0..100)),
            Work::Probe(_) => Report::ProbePassed,
        };
        bench.report(1, assignment.attempt, report);
    }
    assert!(matches!(&bench.ended[..], [(_, Outcome::Failed(_))]), "{:?}", bench.ended);
}

#[test]
fn an_attempt_without_progress_is_stopped() {
    let mut bench = Bench::with(Config { stall: Some(5 * SECOND), ..Config::default() });
    bench.submit(1, 1);
    bench.register(1);
    let map = bench.take(1);
    bench.pass(20 * SECOND, &[(1, &[map])]);
    assert_eq!(bench.cancelled, [], "the bench's workers make progress");
    let mut sign = bench.sign(worker(1), &[map]);
    for _ in 0..12 {
        sign.running[0].progress = 0;
        bench.now = bench.now + SECOND / 2;
        sign = kontiki_schedule::Sign { running: sign.running, ..bench.sign(worker(1), &[]) };
        let _ = bench.scheduler.heartbeat(&sign, bench.now);
        bench.scheduler.tick(bench.now);
        bench.settle();
    }
    assert_eq!(bench.cancelled, [(worker(1), map)]);
    assert_ne!(bench.take(1).attempt, map.attempt);
}

#[test]
fn nothing_leaves_before_what_it_says_is_durable() {
    let now = Instant(0);
    let mut scheduler = Scheduler::new(Config::default(), 1, now);
    scheduler.submit(JobSpec::new("test", 1, 1), now).expect("a job that can be");
    let mut receipts = Vec::new();
    while let Some(output) = scheduler.poll(now) {
        let Output::Write(batch) = output else { panic!("{output:?} left early") };
        receipts.push(kontiki_schedule::persist(&mut crate::bench::Kept::default(), batch));
    }
    assert_eq!(receipts.len(), 1);
    let other = Scheduler::new(Config::default(), 2, now);
    drop(other);
    for receipt in receipts {
        scheduler.persisted(receipt.expect("kept"));
    }
    assert!(matches!(scheduler.poll(now), Some(Output::Submitted { .. })));
}

#[test]
fn a_coordinator_started_again_runs_no_finished_map_again() {
    let mut bench = Bench::new();
    let job = bench.submit(3, 1);
    bench.register(1);
    bench.register(2);
    let held = bench.do_maps(1, 2);
    let running = bench.take(2);
    bench.restart();
    assert_eq!(bench.heartbeat(1, &[]), Err(kontiki_schedule::UnknownWorker));
    bench.register_with(1, &[], &held);
    assert_eq!(bench.pull(1, 4, &[]), [], "who else may be at it is not known yet");
    bench.register_with(2, &[running], &[]);
    bench.pass(2 * SECOND, &[(1, &[]), (2, &[running])]);
    assert_eq!(bench.pull(1, 4, &[]), []);
    assert_eq!(bench.map_done(2, running), Some(Verdict::Accepted));
    let reduce = bench.take(1);
    bench.commit(1, reduce);
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
    let status = bench.scheduler.job(job, bench.now).expect("remembered");
    assert_eq!((status.maps.counts.reruns, status.counters), (0, counted(4)));
}

#[test]
fn outputs_of_a_worker_that_does_not_come_back_after_a_restart_are_made_again() {
    let mut bench = Bench::new();
    bench.submit(2, 1);
    bench.register(1);
    bench.do_maps(1, 2);
    bench.restart();
    bench.register(2);
    bench.pass(5 * SECOND, &[(2, &[])]);
    assert_eq!(bench.pull(2, 4, &[]), [], "it may come back");
    bench.pass(6 * SECOND, &[(2, &[])]);
    assert_eq!(bench.take(2).task, TaskId::map(0));
}

/// `mr-all` saw it (seed 141): a worker went on from its place in the list of a coordinator that was
/// gone, missed what had been made again, and asked for what was not there a hundred times.
#[test]
fn who_has_read_the_list_of_outputs_before_a_restart_gets_all_of_it_after() {
    let mut bench = Bench::new();
    let job = bench.submit(2, 1);
    bench.register(1);
    let held = bench.do_maps(1, 2);
    bench.address = "elsewhere:2";
    bench.reborn(1, &held);
    let (_, before) = bench.scheduler.map_outputs(job, 0).expect("live");
    bench.restart();
    bench.register_with(1, &[], &held[..1]);
    bench.pass(2 * SECOND, &[(1, &[])]);
    let again = bench.take(1);
    bench.map_done(1, again);
    let reduce = bench.pull(1, 4, &[]);
    assert!(reduce[0].outputs > before);
    let (list, next) = bench.scheduler.map_outputs(job, before).expect("live");
    assert_eq!(next, reduce[0].outputs);
    let last = list.iter().rfind(|output| output.map == held[1].task.number).expect("listed");
    assert_eq!(last.attempt, again.attempt);
    assert!(list.iter().any(|output| output.map == held[0].task.number));
}

#[test]
fn a_grant_outlives_the_coordinator() {
    let mut bench = Bench::new();
    let job = bench.submit(0, 1);
    bench.register(1);
    let first = bench.take(1);
    assert_eq!(bench.report(1, first, Report::Ready), Some(Verdict::Granted));
    bench.restart();
    bench.register(2);
    bench.pass(2 * SECOND, &[(2, &[])]);
    let second = bench.take(2);
    assert_eq!(bench.report(2, second, Report::Ready), None, "the first may be at it");
    bench.register_with(1, &[first], &[]);
    let verdict = bench.report(1, first, Report::Committed(counted(1)));
    assert_eq!(verdict, Some(Verdict::Accepted));
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
}

#[test]
fn a_grant_of_an_earlier_coordinator_ends_with_the_lease() {
    let mut bench = Bench::new();
    bench.submit(0, 1);
    bench.register(1);
    let first = bench.take(1);
    bench.report(1, first, Report::Ready);
    bench.restart();
    bench.register(2);
    bench.pass(2 * SECOND, &[(2, &[])]);
    let second = bench.take(2);
    assert_eq!(bench.report(2, second, Report::Ready), None);
    bench.pass(9 * SECOND, &[(2, &[second])]);
    assert_eq!(bench.verdicts.last().copied(), Some((worker(2), second, Verdict::Granted)));
}

/// `mr-moments` saw it (seed 1000004): an attempt that was about to put its output in place came back
/// to a coordinator that had been started again, which took it up, forgot that it had been granted,
/// and granted another one.
#[test]
fn an_attempt_that_comes_back_keeps_its_grant() {
    let mut bench = Bench::new();
    bench.submit(0, 1);
    bench.register(1);
    let first = bench.take(1);
    assert_eq!(bench.report(1, first, Report::Ready), Some(Verdict::Granted));
    bench.restart();
    bench.register(2);
    bench.pass(2 * SECOND, &[(2, &[])]);
    let second = bench.take(2);
    bench.register_with(1, &[first], &[]);
    assert_eq!(bench.report(2, second, Report::Ready), None);
    assert_eq!(bench.report(1, first, Report::Ready), Some(Verdict::Granted));
    // It dies after all: then the other one may.
    bench.pass(11 * SECOND, &[(2, &[second])]);
    assert_eq!(bench.verdicts.last().copied(), Some((worker(2), second, Verdict::Granted)));
}

/// `mr-coordinator` saw it (seed 110): a worker registered twice after a restart, the second time
/// before it had the verdict on an output that had been accepted in between. The output counted as
/// lost, the verdict came, and the map ran again when the attempt's lease was over.
#[test]
fn an_output_whose_verdict_is_on_its_way_is_not_lost_by_registering() {
    let mut bench = Bench::new();
    let job = bench.submit(1, 1);
    bench.register(1);
    let map = bench.take(1);
    assert_eq!(bench.map_done(1, map), Some(Verdict::Accepted));
    bench.register_with(1, &[map], &[]);
    bench.pass(11 * SECOND, &[(1, &[])]);
    let maps = bench.scheduler.job(job, bench.now).expect("it is known").maps;
    assert_eq!((maps.done, maps.waiting, maps.counts.lost), (1, 0, 0));
}

#[test]
fn attempts_of_two_lives_of_the_coordinator_differ() {
    let mut bench = Bench::new();
    bench.submit(1, 1);
    bench.register(1);
    let first = bench.take(1);
    bench.restart();
    bench.pass(2 * SECOND, &[]);
    bench.reborn(1, &[]);
    assert_ne!(bench.take(1).attempt, first.attempt);
}

#[test]
fn a_checkpoint_says_what_the_journal_says() {
    let mut bench = Bench::new();
    let job = bench.submit(3, 2);
    bench.submit(1, 0);
    let cancelled = bench.submit(5, 5);
    bench.scheduler.cancel(cancelled, bench.now);
    bench.register(1);
    let maps = bench.do_maps(1, 3);
    let reduce = bench.take(1);
    bench.commit(1, reduce);
    let ready = bench.take(1);
    bench.report(1, ready, Report::Ready);
    bench.reborn(1, &maps[1..]);
    let replay = |records| {
        let scheduler = Scheduler::recover(bench.config.clone(), 9, records, bench.now);
        scheduler.expect("its own records").checkpoint()
    };
    let short = bench.scheduler.checkpoint();
    let (from_short, from_journal) = (replay(short.clone()), replay(bench.journal.0.clone()));
    // The journal does not say that an output was lost; who comes back does.
    let without_lost: Vec<_> =
        from_journal.iter().filter(|record| !from_short.contains(record)).collect();
    assert_eq!(without_lost.len(), 3, "{without_lost:?} against {from_short:?}");
    let status = Scheduler::recover(bench.config.clone(), 9, short, bench.now).expect("valid");
    let status = status.job(job, bench.now).expect("there");
    assert_eq!(status.counters, counted(4));
    assert_eq!((status.maps.done, status.reduces.done), (2, 1));
}

#[test]
fn an_ended_job_is_told_again_after_a_restart() {
    let mut bench = Bench::new();
    let job = bench.submit(0, 1);
    bench.register(1);
    let reduce = bench.take(1);
    bench.commit(1, reduce);
    bench.ended.clear();
    bench.restart();
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
    assert_eq!(bench.scheduler.outcome(job), Some(&Outcome::Done));
}

#[test]
fn old_jobs_are_forgotten() {
    let mut bench = Bench::with(Config { ended_jobs_kept: 2, ..Config::default() });
    for _ in 0..5 {
        let job = bench.submit(1, 1);
        assert!(bench.scheduler.cancel(job, bench.now));
    }
    assert_eq!(bench.scheduler.jobs(bench.now).count(), 2);
}

#[test]
fn a_job_without_tasks_is_done_at_once() {
    let mut bench = Bench::new();
    let job = bench.submit(0, 0);
    assert_eq!(bench.ended, [(job, Outcome::Done)]);
}

#[test]
fn a_job_that_cannot_be_is_refused() {
    let mut bench = Bench::new();
    let many = JobSpec::new("test", kontiki_schedule::TASKS_MAX + 1, 1);
    assert!(bench.scheduler.submit(many, bench.now).is_err());
    let none = JobSpec { failures_max: 0, ..JobSpec::new("test", 1, 1) };
    assert!(bench.scheduler.submit(none, bench.now).is_err());
}

#[test]
fn a_job_that_is_submitted_again_is_the_same() {
    let mut bench = Bench::new();
    let spec = JobSpec { token: 9, ..JobSpec::new("test", 2, 1) };
    let job = bench.submit_spec(spec.clone());
    assert_eq!(bench.submit_spec(spec.clone()), job);
    bench.restart();
    assert_eq!(bench.submit_spec(spec.clone()), job);
    assert_ne!(bench.submit_spec(JobSpec { token: 10, ..spec }), job);
}
