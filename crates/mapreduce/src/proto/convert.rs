//! Between generated messages and the scheduler's types. A message without a part that it must have
//! is `None`.

use kontiki_schedule::{
    self as schedule, AttemptId, AttemptRef, Cause, JobId, Life, Outcome, Report, TaskId, Verdict,
    Work, WorkerId,
};

use super::generated as wire;

pub(crate) fn attempt_to(of: &AttemptRef) -> wire::Attempt {
    wire::Attempt {
        job: of.job.0,
        reduce: of.task.phase == schedule::Phase::Reduce,
        number: of.task.number,
        attempt: of.attempt.0,
    }
}

pub(crate) fn attempt_from(of: &wire::Attempt) -> AttemptRef {
    let task = if of.reduce { TaskId::reduce(of.number) } else { TaskId::map(of.number) };
    AttemptRef { job: JobId(of.job), task, attempt: AttemptId(of.attempt) }
}

pub(crate) fn counters_to(counters: &schedule::Counters) -> Vec<wire::Counter> {
    let list = counters.iter().map(|(group, name, sum)| wire::Counter {
        group: group.to_owned(),
        name: name.to_owned(),
        sum,
    });
    list.collect()
}

pub(crate) fn counters_from(list: &[wire::Counter]) -> schedule::Counters {
    let mut counters = schedule::Counters::new();
    for counter in list {
        counters.add(&counter.group, &counter.name, counter.sum);
    }
    counters
}

pub(crate) fn sign_to(sign: &schedule::Sign) -> wire::Sign {
    let running = sign.running.iter().map(|running| wire::Running {
        attempt: Some(attempt_to(&running.attempt)),
        progress: running.progress,
        permille: u32::from(running.permille),
        probe: running.is_probe,
        status: running.status.clone(),
    });
    wire::Sign {
        worker: sign.worker.0,
        life: sign.life.0,
        sequence: sign.sequence,
        running: running.collect(),
    }
}

pub(crate) fn sign_from(sign: &wire::Sign) -> Option<schedule::Sign> {
    let running = sign.running.iter().map(|running| {
        Some(schedule::Running {
            attempt: attempt_from(running.attempt.as_ref()?),
            progress: running.progress,
            permille: u16::try_from(running.permille).unwrap_or(1000),
            is_probe: running.probe,
            status: running.status.clone(),
        })
    });
    Some(schedule::Sign {
        worker: WorkerId(sign.worker),
        life: Life(sign.life),
        sequence: sign.sequence,
        running: running.collect::<Option<_>>()?,
    })
}

pub(crate) fn held_to(held: &schedule::Held) -> wire::Held {
    wire::Held { attempt: Some(attempt_to(&held.attempt)), counters: counters_to(&held.counters) }
}

pub(crate) fn held_from(held: &wire::Held) -> Option<schedule::Held> {
    Some(schedule::Held {
        attempt: attempt_from(held.attempt.as_ref()?),
        counters: counters_from(&held.counters),
    })
}

pub(crate) fn assignment_to(assignment: &schedule::Assignment) -> wire::Assignment {
    let (probe, range) = match &assignment.work {
        Work::Run => (false, 0..0),
        Work::Probe(records) => (true, records.clone()),
    };
    wire::Assignment {
        attempt: Some(attempt_to(&assignment.attempt)),
        skip: assignment.skip.clone(),
        outputs: assignment.outputs,
        probe,
        probe_from: range.start,
        probe_to: range.end,
    }
}

pub(crate) fn assignment_from(assignment: &wire::Assignment) -> Option<schedule::Assignment> {
    let records = assignment.probe_from..assignment.probe_to;
    Some(schedule::Assignment {
        attempt: attempt_from(assignment.attempt.as_ref()?),
        work: if assignment.probe { Work::Probe(records) } else { Work::Run },
        skip: assignment.skip.clone(),
        outputs: assignment.outputs,
    })
}

pub(crate) fn report_to(report: &Report) -> wire::report_request::Report {
    use wire::report_request::Report as Wire;
    let counters = |counters| wire::Counters { counters: counters_to(counters) };
    match report {
        Report::MapDone(done) => Wire::MapDone(counters(done)),
        Report::Ready => Wire::Ready(wire::Empty {}),
        Report::Committed(done) => Wire::Committed(counters(done)),
        Report::ProbePassed => Wire::ProbePassed(wire::Empty {}),
        Report::Failed(failure) => {
            use wire::failure::Cause as WireCause;
            let cause = match &failure.cause {
                Cause::User { suspects } => {
                    let range = suspects.clone().unwrap_or(0..0);
                    WireCause::User(wire::Suspects { from: range.start, to: range.end })
                }
                Cause::Fetch { map, from, corrupt } => WireCause::Fetch(wire::FetchFailure {
                    map: *map,
                    from: from.0,
                    corrupt: *corrupt,
                }),
                Cause::Worker => WireCause::Worker(wire::Empty {}),
            };
            Wire::Failed(wire::Failure { error: failure.error.clone(), cause: Some(cause) })
        }
    }
}

pub(crate) fn report_from(report: wire::report_request::Report) -> Option<Report> {
    use wire::report_request::Report as Wire;
    Some(match report {
        Wire::MapDone(done) => Report::MapDone(counters_from(&done.counters)),
        Wire::Ready(_) => Report::Ready,
        Wire::Committed(done) => Report::Committed(counters_from(&done.counters)),
        Wire::ProbePassed(_) => Report::ProbePassed,
        Wire::Failed(failure) => {
            use wire::failure::Cause as WireCause;
            let cause = match failure.cause? {
                WireCause::User(range) => {
                    let suspects = range.from..range.to;
                    Cause::User { suspects: (!suspects.is_empty()).then_some(suspects) }
                }
                WireCause::Fetch(failure) => Cause::Fetch {
                    map: failure.map,
                    from: AttemptId(failure.from),
                    corrupt: failure.corrupt,
                },
                WireCause::Worker(_) => Cause::Worker,
            };
            Report::Failed(schedule::Failure { error: failure.error, cause })
        }
    })
}

pub(crate) fn verdict_to(verdict: Option<Verdict>) -> u32 {
    match verdict {
        None => 0,
        Some(Verdict::Accepted) => 1,
        Some(Verdict::Granted) => 2,
        Some(Verdict::Superseded) => 3,
        Some(Verdict::Unknown) => 4,
    }
}

pub(crate) fn verdict_from(verdict: u32) -> Option<Verdict> {
    match verdict {
        1 => Some(Verdict::Accepted),
        2 => Some(Verdict::Granted),
        3 => Some(Verdict::Superseded),
        4 => Some(Verdict::Unknown),
        _ => None,
    }
}

pub(crate) fn status_to(status: &schedule::JobStatus) -> wire::JobStatus {
    let (state, error) = match &status.outcome {
        None => (0, String::new()),
        Some(Outcome::Done) => (1, String::new()),
        Some(Outcome::Failed(why)) => (2, why.clone()),
        Some(Outcome::Cancelled) => (3, "cancelled".to_owned()),
    };
    let phase = |phase: &schedule::PhaseStatus| wire::Phase {
        total: phase.total,
        running: phase.running,
        done: phase.done,
        started: phase.counts.started,
        backups: phase.counts.backups,
        reruns: phase.counts.reruns,
        failed: phase.counts.failed,
        lost: phase.counts.lost,
    };
    wire::JobStatus {
        state,
        error,
        maps: Some(phase(&status.maps)),
        reduces: Some(phase(&status.reduces)),
        counters: counters_to(&status.counters),
    }
}
