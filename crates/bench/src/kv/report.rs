//! What a measurement found.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Target;

/// Counts and latencies of one kind of operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationReport {
    /// Operations that were answered without an error.
    pub ops: u64,
    /// The same per second.
    pub ops_per_second: f64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// 99 % were at most this slow, in microseconds.
    pub p99_us: f64,
    /// 99.9 % were at most this slow, in microseconds.
    pub p999_us: f64,
    /// The slowest, in microseconds.
    pub max_us: f64,
}

impl OperationReport {
    pub(crate) fn of(latency: &Histogram<u64>, seconds: f64) -> Option<Self> {
        let ops = latency.len();
        let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
        (ops > 0).then(|| Self {
            ops,
            ops_per_second: ops as f64 / seconds,
            p50_us: us(latency.value_at_quantile(0.5)),
            p99_us: us(latency.value_at_quantile(0.99)),
            p999_us: us(latency.value_at_quantile(0.999)),
            max_us: us(latency.max()),
        })
    }
}

/// Times at one stage of the servers, from the histograms on their pages of metrics. One observation
/// is of all that went together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// Its name.
    pub stage: String,
    /// Observations.
    pub count: u64,
    /// Their mean, in microseconds.
    pub mean_us: f64,
    /// The bound of the bucket that holds the median, in microseconds; `None` if it has none.
    pub p50_us: Option<f64>,
    /// The same for 99 %.
    pub p99_us: Option<f64>,
}

/// The figures of one run. What could not be seen is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KvReport {
    /// What was measured.
    pub target: Target,
    /// Where.
    pub addresses: Vec<String>,
    /// Concurrent clients.
    pub clients: usize,
    /// Operations each had under way.
    pub pipeline: usize,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Distinct keys.
    pub keys: u64,
    /// Part of the operations that were reads.
    pub read_share: f64,
    /// Length of the measurement.
    pub seconds: f64,
    /// Answered operations, reads and writes.
    pub ops: u64,
    /// The same per second.
    pub ops_per_second: f64,
    /// Latencies of the reads.
    pub reads: Option<OperationReport>,
    /// Latencies of the writes.
    pub writes: Option<OperationReport>,
    /// Error replies and broken connections, warm-up included.
    pub errors: u64,
    /// The text of the first of them.
    pub first_error: Option<String>,
    /// The longest time in which no operation succeeded, in milliseconds.
    pub longest_gap_ms: f64,
    /// CPU time, user and system, of all servers.
    pub server_cpu_seconds: Option<f64>,
    /// Operations per second of it.
    pub ops_per_server_cpu_second: Option<f64>,
    /// CPU time of an operation over all servers, in microseconds.
    pub server_cpu_us_per_op: Option<f64>,
    /// Resident memory of all servers at the end.
    pub server_rss_bytes: Option<u64>,
    /// Bytes that all servers caused to be written to disk, per operation.
    pub server_disk_bytes_per_op: Option<f64>,
    /// Syncs to disk per second, of all servers whose metrics were given.
    pub syncs_per_second: Option<f64>,
    /// Bytes that a server wrote to log, tables and snapshots for each byte of keys and values
    /// written by the clients, as its metrics say.
    #[serde(default)]
    pub write_amplification: Option<f64>,
    /// Times at the servers' stages, if their metrics have them.
    #[serde(default)]
    pub stages: Vec<StageReport>,
    /// CPU time of the load generator.
    pub generator_cpu_seconds: f64,
}

impl KvReport {
    /// The figures as a table for people: a line for each, names left, numbers right.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:<28} {value:>16}");
        };
        let optional = |value: Option<f64>, digits: usize| match value {
            Some(value) => grouped(value, digits),
            None => "-".to_owned(),
        };
        line("target", self.target.name().to_owned());
        line("clients x pipeline", format!("{} x {}", self.clients, self.pipeline));
        line("value bytes", self.value_bytes.to_string());
        line("seconds", grouped(self.seconds, 1));
        line("operations/s", grouped(self.ops_per_second, 0));
        for (name, report) in [("reads", &self.reads), ("writes", &self.writes)] {
            let Some(report) = report else { continue };
            line(&format!("{name}/s"), grouped(report.ops_per_second, 0));
            let latencies = [
                ("p50", report.p50_us),
                ("p99", report.p99_us),
                ("p99.9", report.p999_us),
                ("max", report.max_us),
            ];
            for (which, us) in latencies {
                line(&format!("{name} {which}, ms"), grouped(us / 1e3, 3));
            }
        }
        line("longest gap, ms", grouped(self.longest_gap_ms, 1));
        line("errors", self.errors.to_string());
        line("ops per server CPU second", optional(self.ops_per_server_cpu_second, 0));
        line("server CPU us per op", optional(self.server_cpu_us_per_op, 1));
        line("server memory, MiB", {
            optional(self.server_rss_bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)), 1)
        });
        line("disk bytes per op", optional(self.server_disk_bytes_per_op, 0));
        line("write amplification", optional(self.write_amplification, 2));
        line("syncs/s", optional(self.syncs_per_second, 0));
        for StageReport { stage, mean_us, p50_us, p99_us, .. } in &self.stages {
            line(&format!("stage {stage} mean, ms"), grouped(mean_us / 1e3, 3));
            for (which, us) in [("p50", p50_us), ("p99", p99_us)] {
                line(&format!("stage {stage} {which}, ms"), {
                    us.map_or("-".to_owned(), |us| format!("<= {}", grouped(us / 1e3, 3)))
                });
            }
        }
        line("generator CPU, s", grouped(self.generator_cpu_seconds, 2));
        if let Some(error) = &self.first_error {
            let _ = writeln!(out, "first error: {error}");
        }
        out
    }
}

/// A number with its thousands separated by commas.
fn grouped(value: f64, digits: usize) -> String {
    let plain = format!("{:.digits$}", value.abs());
    let (whole, fraction) = match plain.split_once('.') {
        Some((whole, fraction)) => (whole, format!(".{fraction}")),
        None => (plain.as_str(), String::new()),
    };
    let mut out = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + &fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0.0, 0), "0");
        assert_eq!(grouped(999.0, 0), "999");
        assert_eq!(grouped(1234567.891, 2), "1,234,567.89");
        assert_eq!(grouped(-1000.0, 0), "-1,000");
    }
}
