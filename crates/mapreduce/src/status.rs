//! What is to be seen of a coordinator: as JSON, as a page, as metrics.

use std::fmt::Write;

use kontiki_schedule::{JobStatus, Outcome, PhaseStatus, Scheduler};
use kontiki_types::Instant;
use serde_json::{Value, json};

/// Everything.
pub(crate) fn all(scheduler: &Scheduler, now: Instant) -> Value {
    let workers: Vec<Value> = scheduler
        .workers(now)
        .map(|worker| {
            json!({
                "worker": worker.worker.to_string(),
                "address": worker.address,
                "slots": worker.slots,
                "running": worker.running,
                "done": worker.done,
                "failed": worker.failed,
                "seconds": worker.age.as_secs_f64(),
                "lease_left_seconds": worker.lease_left.as_secs_f64(),
            })
        })
        .collect();
    let jobs: Vec<Value> = scheduler.jobs(now).map(|status| job(&status)).collect();
    json!({"jobs": jobs, "workers": workers})
}

/// One job.
pub(crate) fn job(job: &JobStatus) -> Value {
    let (state, error) = match &job.outcome {
        None => ("running", None),
        Some(Outcome::Done) => ("done", None),
        Some(Outcome::Failed(why)) => ("failed", Some(why.clone())),
        Some(Outcome::Cancelled) => ("cancelled", None),
    };
    let counters: Vec<Value> = job
        .counters
        .iter()
        .map(|(group, name, sum)| json!({"group": group, "name": name, "sum": sum}))
        .collect();
    let errors: Vec<Value> = job
        .errors
        .iter()
        .map(|error| {
            json!({
                "task": error.task.to_string(),
                "attempt": error.attempt.to_string(),
                "worker": error.worker.to_string(),
                "error": error.error,
            })
        })
        .collect();
    let running: Vec<Value> = job
        .running
        .iter()
        .map(|attempt| {
            json!({
                "task": attempt.task.to_string(),
                "attempt": attempt.attempt.to_string(),
                "worker": attempt.worker.to_string(),
                "seconds": attempt.age.as_secs_f64(),
                "permille": attempt.permille,
                "status": attempt.status,
                "backup": attempt.is_backup,
            })
        })
        .collect();
    json!({
        "job": job.job.to_string(),
        "name": job.name,
        "state": state,
        "error": error,
        "seconds": job.age.as_secs_f64(),
        "maps": phase(&job.maps),
        "reduces": phase(&job.reduces),
        "counters": counters,
        "running": running,
        "errors": errors,
    })
}

fn phase(phase: &PhaseStatus) -> Value {
    json!({
        "total": phase.total,
        "waiting": phase.waiting,
        "running": phase.running,
        "done": phase.done,
        "attempts": phase.counts.started,
        "backups": phase.counts.backups,
        "reruns": phase.counts.reruns,
        "failed": phase.counts.failed,
        "lost": phase.counts.lost,
        "skipped_records": phase.counts.skipped,
        "median_seconds": phase.median.as_secs_f64(),
        "longest_seconds": phase.longest.as_secs_f64(),
    })
}

/// In Prometheus's text format. Counters are sums over the jobs that are remembered.
pub(crate) fn metrics(scheduler: &Scheduler, now: Instant) -> String {
    let mut text = String::new();
    let mut line = |name: &str, phase: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "kontiki_mapreduce_{name}{{phase=\"{phase}\"}} {value}");
    };
    for name in ["map", "reduce"] {
        let of = |job: JobStatus| if name == "map" { job.maps } else { job.reduces };
        let phases: Vec<PhaseStatus> = scheduler.jobs(now).map(of).collect();
        let sum = |field: fn(&PhaseStatus) -> u64| phases.iter().map(field).sum::<u64>();
        line("tasks_waiting", name, sum(|phase| u64::from(phase.waiting)));
        line("tasks_running", name, sum(|phase| u64::from(phase.running)));
        line("tasks_done", name, sum(|phase| u64::from(phase.done)));
        line("attempts_started", name, sum(|phase| phase.counts.started));
        line("attempts_backup", name, sum(|phase| phase.counts.backups));
        line("attempts_rerun", name, sum(|phase| phase.counts.reruns));
        line("attempts_failed", name, sum(|phase| phase.counts.failed));
        line("attempts_lost", name, sum(|phase| phase.counts.lost));
        line("records_skipped", name, sum(|phase| phase.counts.skipped));
    }
    let _ = writeln!(text, "kontiki_mapreduce_workers {}", scheduler.workers(now).count());
    text.push_str("# EOF\n");
    text
}

/// The page for people, of what [`all`] gives.
pub(crate) fn page(all: &Value) -> String {
    let mut rows = String::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for job in list(&all["jobs"]).iter().rev() {
        rows.push_str(&format!(
            "<h2>{} <small>{} {}, {:.1} s</small></h2>",
            text(&job["name"]),
            text(&job["job"]),
            text(&job["state"]),
            job["seconds"].as_f64().unwrap_or_default()
        ));
        let columns = ["total", "waiting", "running", "done", "attempts", "backups", "reruns"];
        let columns = columns.iter().chain(&["failed", "lost", "skipped_records"]);
        rows.push_str(&table(
            &["phase"]
                .iter()
                .chain(columns.clone())
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
            ["maps", "reduces"].iter().map(|phase| {
                let cells = columns.clone().map(|name| text(&job[*phase][*name]));
                std::iter::once((*phase).to_owned()).chain(cells).collect()
            }),
        ));
        let columns = ["task", "attempt", "worker", "seconds", "permille", "backup", "status"];
        rows.push_str(&section("Running", &list(&job["running"]), &columns));
        let columns = ["task", "attempt", "worker", "error"];
        rows.push_str(&section("Errors", &list(&job["errors"]), &columns));
        rows.push_str(&section("Counters", &list(&job["counters"]), &["group", "name", "sum"]));
    }
    let columns = ["worker", "address", "slots", "running", "done", "failed"];
    rows.push_str(&section("Workers", &list(&all["workers"]), &columns));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" \
         content=\"2\"><title>Kontiki MapReduce</title><style>body{{font-family:sans-serif;margin:2em}}\
         td,th{{padding:.2em .8em;text-align:left;vertical-align:top;white-space:pre-wrap}}\
         tr:nth-child(even){{background:#f4f4f4}}</style></head><body><h1>Kontiki MapReduce</h1>\
         {rows}</body></html>"
    )
}

fn section(title: &str, rows: &[Value], columns: &[&str]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    let cells = |row: &Value| columns.iter().map(|name| text(&row[*name])).collect();
    format!("<h3>{title}</h3>{}", table(&header, rows.iter().map(cells)))
}

fn table(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let row = |cells: &[String], tag: &str| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{cell}</{tag}>"));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let body: String = rows.map(|cells| row(&cells, "td")).collect();
    format!("<table>{}{body}</table>", row(header, "th"))
}

/// A value as text that a page can hold.
fn text(value: &Value) -> String {
    let plain = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(real) if !number.is_i64() && !number.is_u64() => format!("{real:.2}"),
            _ => number.to_string(),
        },
        Value::Null => String::new(),
        other => other.to_string(),
    };
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use kontiki_schedule::{Config, JobSpec};

    use super::*;

    #[test]
    fn the_page_shows_a_job_and_escapes_its_name() {
        let mut scheduler = Scheduler::new(Config::default(), 1, Instant(0));
        let spec = JobSpec::new("<wc & co>", 3, 2);
        scheduler.submit(spec, Instant(0)).expect("a job that can be");
        let all = all(&scheduler, Instant(5_000_000));
        assert_eq!(all["jobs"][0]["maps"]["waiting"], 3);
        let page = page(&all);
        assert!(page.contains("&lt;wc &amp; co&gt;") && page.contains("5.0 s"), "{page}");
        let metrics = metrics(&scheduler, Instant(0));
        assert!(metrics.contains("kontiki_mapreduce_tasks_waiting{phase=\"reduce\"} 2\n"));
    }
}
