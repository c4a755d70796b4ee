//! One renderer per table.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// The table called `name`, in Markdown.
pub fn table(root: &Path, name: &str) -> Result<String> {
    let path = root.join("bench/results").join(format!("{name}.json"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(format!("*Not measured yet: `bench/results/{name}.json` is not there.*"));
    };
    let results: Value = serde_json::from_str(&text).with_context(|| format!("{name}.json"))?;
    match name {
        "issue-2" | "issue-3" | "issue-4" | "issue-5" | "issue-6" => Ok(acceptance(&results)),
        "kv-side-by-side" => Ok(side_by_side(&results)),
        "kv-sharded" => Ok(sharded(&results)),
        "mr" => Ok(map_reduce(&results)),
        "raft" => Ok(raft(&results)),
        _ => bail!("nothing renders the table {name}\nhint: xtask/src/tables/render.rs"),
    }
}

/// What was tried, and how it went.
fn acceptance(results: &Value) -> String {
    let mut out =
        String::from("| item | what is tried | outcome | seconds |\n|---|---|---|---:|\n");
    for item in results["items"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            text(&item["item"]),
            text(&item["title"]),
            text(&item["outcome"]),
            number(&item["seconds"], 1.0, 0),
        );
    }
    out + &origin(results)
}

/// A row for each implementation, a pair of columns for each depth.
fn raft(results: &Value) -> String {
    let rows: Vec<&Value> = results["rows"].as_array().into_iter().flatten().collect();
    let depths: Vec<u64> = distinct(rows.iter().filter_map(|row| row["depth"].as_u64()));
    let names: Vec<&str> = distinct(rows.iter().map(|row| text(&row["name"])));
    let mut out = String::from("| ns per entry (allocations per entry) |");
    for depth in &depths {
        let _ = write!(out, " depth {depth} |");
    }
    out += &format!("\n|---|{}\n", "---:|".repeat(depths.len()));
    for name in names {
        let _ = write!(out, "| {name} |");
        for depth in &depths {
            let here = |row: &&&Value| text(&row["name"]) == name && row["depth"] == *depth;
            let found = rows.iter().find(here).copied().unwrap_or(&Value::Null);
            let (time, allocations) =
                (number(&found["ns"], 1.0, 0), number(&found["allocations"], 1.0, 1));
            let _ = write!(out, " {time} ({allocations}) |");
        }
        out.push('\n');
    }
    out + "\n`kontiki bench raft`: medians of five runs of 200,000 entries." + &origin(results)
}

/// Each value once, in order of appearance.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// Where and when a run of ours was made.
fn origin(results: &Value) -> String {
    let machine = &results["machine"];
    format!(
        "\n{}, {} cores, {} GiB, Linux {}, {}; {}; commit {}.\n",
        text(&machine["processor"]),
        machine["cores"],
        machine["memory_gib"],
        text(&machine["kernel"]),
        text(&machine["filesystem"]),
        text(&results["date"]),
        text(&results["commit"]),
    )
}

/// What each cell of the side-by-side run is, in words.
const CELLS: [(&str, &str); 7] = [
    ("put-64", "writes, 64 clients"),
    ("get-64", "linearizable reads, 64 clients"),
    ("put-1", "writes, 1 client"),
    ("put-256", "writes, 256 clients"),
    ("get-1", "linearizable reads, 1 client"),
    ("get-256", "linearizable reads, 256 clients"),
    ("mixed-64", "half reads, half writes, 64 clients"),
];

const SYSTEMS: [(&str, &str); 4] = [
    ("kontiki", "Kontiki, 3 nodes"),
    ("kontiki-lease", "Kontiki, 3 nodes, leader leases"),
    ("etcd", "etcd, 3 nodes"),
    ("redis", "Redis, 1 node, `appendfsync always`"),
];

/// A block of rows for each kind of load, ours and theirs together.
fn side_by_side(results: &Value) -> String {
    let mut out = String::from(
        "| load | system | clients at | ops/s | p50 ms | p99 ms | ops per server CPU s | fdatasync/s |\n\
         |---|---|---|---:|---:|---:|---:|---:|\n",
    );
    for (cell, words) in CELLS {
        for (system, title) in SYSTEMS {
            for place in ["leader", "spread", "single"] {
                let figures = &results["results"][system][format!("{cell}-{place}")];
                if figures.is_null() {
                    continue;
                }
                let at = match place {
                    "leader" => "the leader",
                    "spread" => "all nodes",
                    _ => "the node",
                };
                let _ = writeln!(
                    out,
                    "| {words} | {title} | {at} | {} | {} | {} | {} | {} |",
                    number(&figures["ops_per_second"], 1.0, 0),
                    number(&figures["p50_us"], 1e-3, 2),
                    number(&figures["p99_us"], 1e-3, 2),
                    number(&figures["ops_per_server_cpu_second"], 1.0, 0),
                    number(&figures["fdatasyncs_per_second"], 1.0, 0),
                );
            }
        }
    }
    out + &run_line(results, "side-by-side.py")
}

/// How a comparison of stores was made.
fn run_line(results: &Value, script: &str) -> String {
    let (machine, setting, versions) =
        (&results["machine"], &results["setting"], &results["versions"]);
    let redis = match &versions["redis"] {
        Value::Null => &versions["redis-cluster"],
        version => version,
    };
    format!(
        "\n`python3 bench/{script}`: medians of {} interleaved rounds of {} s, {} B values; \
         etcd {}, Redis {}; {}, {} cores, Linux {}, an fdatasync takes {} µs; {}; commit {}.\n",
        setting["rounds"],
        setting["seconds"],
        setting["value_bytes"],
        text(&versions["etcd"]),
        text(redis),
        text(&machine["cpu"]),
        machine["cpus"],
        text(&machine["kernel"]),
        machine["fdatasync_us"],
        text(&results["date"]),
        text(&results["commit"]).get(..12).unwrap_or_default(),
    )
}

const SHARDED: [(&str, &str); 4] = [
    ("kontiki", "Kontiki, 3 nodes, 3 groups of 3 replicas"),
    ("redis-cluster-wait-1", "Redis Cluster, 3 masters and 3 replicas, `WAIT 1`"),
    ("redis-cluster", "Redis Cluster, 3 masters and 3 replicas, no `WAIT`"),
    ("etcd", "etcd, 3 nodes"),
];

/// A block of rows for each kind of load on sharded stores.
fn sharded(results: &Value) -> String {
    let mut out = String::from(
        "| load | system | ops/s | p50 ms | p99 ms | ops per server CPU s |\n\
         |---|---|---:|---:|---:|---:|\n",
    );
    for (cell, words) in CELLS {
        // A master of Redis Cluster that was deposed answers reads until it notices.
        let words = words.trim_start_matches("linearizable ");
        for (system, title) in SHARDED {
            let figures = &results["results"][system][cell];
            if figures.is_null() {
                continue;
            }
            let _ = writeln!(
                out,
                "| {words} | {title} | {} | {} | {} | {} |",
                number(&figures["ops_per_second"], 1.0, 0),
                number(&figures["p50_us"], 1e-3, 2),
                number(&figures["p99_us"], 1e-3, 2),
                number(&figures["ops_per_server_cpu_second"], 1.0, 0),
            );
        }
    }
    out + &run_line(results, "sharded-side-by-side.py")
}

/// What each cell of the MapReduce run is, in words.
const TASKS: [(&str, &str); 5] = [
    ("wc", "word count"),
    ("indexer", "inverted index"),
    ("grep", "lines with a word"),
    ("sort", "sort of 100-byte records, 64 MiB a worker"),
    ("small", "word count of the books alone, 3.3 MB"),
];

const PROGRAMS: [(&str, &str); 5] = [
    ("kontiki", "`kontiki mr run --processes`, 2 workers"),
    ("threads", "`kontiki mr run`, 2 threads"),
    ("yardstick", "a program for this task alone"),
    ("duckdb", "DuckDB, 2 threads"),
    ("spark", "Spark, `local[2]`"),
];

/// A block of rows for each task.
fn map_reduce(results: &Value) -> String {
    let mut out = String::from(
        "| task | program | seconds | CPU seconds | peak MiB | runs |\n|---|---|---:|---:|---:|---:|\n",
    );
    for (task, words) in TASKS {
        for (program, title) in PROGRAMS {
            let figures = &results["results"][task][program];
            if figures.is_null() {
                continue;
            }
            let _ = writeln!(
                out,
                "| {words} | {title} | {} | {} | {} | {} |",
                number(&figures["seconds"], 1.0, 2),
                number(&figures["cpu_seconds"], 1.0, 2),
                number(&figures["peak_mib"], 1.0, 0),
                figures["runs"],
            );
        }
    }
    let (machine, setting) = (&results["machine"], &results["setting"]);
    let _ = writeln!(
        out,
        "\n`python3 bench/mr/side-by-side.py`: medians of interleaved rounds, whole processes, input in \
         the page cache; {} of text, {} records; {}, {} cores, Linux {}; {}; commit {}.",
        text(&setting["text"]),
        number(&setting["records"], 1.0, 0),
        text(&machine["cpu"]),
        machine["cpus"],
        text(&machine["kernel"]),
        text(&results["date"]),
        text(&results["commit"]).get(..12).unwrap_or_default(),
    );
    out
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `value * factor` with thousands apart; a dash where there is none.
fn number(value: &Value, factor: f64, digits: usize) -> String {
    let Some(value) = value.as_f64() else { return "–".to_string() };
    let plain = format!("{:.digits$}", value * factor);
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(&json!(1234567.4), 1.0, 0), "1,234,567");
        assert_eq!(number(&json!(123), 1e-3, 2), "0.12");
        assert_eq!(number(&json!(null), 1.0, 0), "–");
    }

    #[test]
    fn rows_that_we_lose_are_there_too() {
        let figures = json!({"ops_per_second": 53000.0, "p50_us": 100.0, "p99_us": 2600.0});
        let results =
            json!({"results": {"redis": {"put-64-single": figures}}, "commit": "0123456789abcdef"});
        let table = side_by_side(&results);
        assert!(table.contains("| writes, 64 clients | Redis, 1 node, `appendfsync always` | the node | 53,000 | 0.10 | 2.60 | – | – |"), "{table}");
    }

    #[test]
    fn a_program_that_was_not_measured_has_no_row() {
        let figures = json!({"seconds": 1.234, "cpu_seconds": 2.0, "peak_mib": 10.4, "runs": 3});
        let results = json!({
            "results": {"wc": {"yardstick": figures}},
            "setting": {"text": "1GiB", "records": 10_000_000},
        });
        let table = map_reduce(&results);
        let row = "| word count | a program for this task alone | 1.23 | 2.00 | 10 | 3 |";
        assert!(table.contains(row), "{table}");
        assert!(!table.contains("Spark"));
        assert!(table.contains("1GiB of text, 10,000,000 records"), "{table}");
    }

    #[test]
    fn the_core_has_a_row_per_implementation() {
        let row = |name: &str, depth: u64, ns: f64| json!({"name": name, "depth": depth, "ns": ns, "allocations": 1.04});
        let rows = [row("a", 1, 1000.0), row("b", 1, 2000.0), row("a", 64, 200.0)];
        let table = raft(&json!({"rows": rows}));
        assert!(table.contains("| depth 1 | depth 64 |"), "{table}");
        assert!(table.contains("| a | 1,000 (1.0) | 200 (1.0) |"), "{table}");
        assert!(table.contains("| b | 2,000 (1.0) | – (–) |"), "{table}");
    }

    #[test]
    fn an_acceptance_table_has_a_row_per_item() {
        let item = json!({"item": "1", "title": "up", "outcome": "passed", "seconds": 3.4});
        let table = acceptance(&json!({"items": [item]}));
        assert!(table.contains("| 1 | up | passed | 3 |"), "{table}");
    }
}
