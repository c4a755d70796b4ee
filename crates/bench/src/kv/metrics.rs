//! What the servers say of themselves on their pages for Prometheus: how often they synced, what they
//! wrote to disk, and how long their stages took.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::report::StageReport;

/// A page that has not come by then, or is longer, is an error.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
const PAGE_BYTES_MAX: u64 = 8 << 20;

/// What all pages say together at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counters {
    /// Pages that were read.
    pages: usize,
    /// Syncs to disk.
    syncs: f64,
    /// Bytes written to log, tables and snapshots; `None` if no page says.
    bytes_written: Option<f64>,
    /// For each stage how many observations were at most so many nanoseconds; the last bound is
    /// none.
    stages: BTreeMap<String, BTreeMap<u64, f64>>,
    /// And their sum, in seconds.
    stage_seconds: BTreeMap<String, f64>,
}

/// No bound.
const UNBOUNDED: u64 = u64::MAX;

impl Counters {
    /// What these pages say; none if there are none.
    pub(crate) async fn fetch(urls: &[String]) -> io::Result<Option<Self>> {
        let mut all = Self::default();
        for url in urls {
            let page = tokio::time::timeout(PAGE_TIMEOUT, fetch(url)).await??;
            all.add(&page);
        }
        Ok((all.pages > 0).then_some(all))
    }

    fn add(&mut self, page: &str) {
        self.pages += 1;
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let _ = self.add_line(line);
        }
    }

    /// A line `name{labels} value`.
    fn add_line(&mut self, line: &str) -> Option<()> {
        let (name, _) = line.split_once(['{', ' '])?;
        let (labels, value) = line.rsplit_once(' ')?;
        let value = value.trim().parse::<f64>().ok()?;
        match name {
            "kontiki_log_bytes_written_total"
            | "kontiki_state_bytes_written_total"
            | "kontiki_snapshot_bytes_written_total" => {
                *self.bytes_written.get_or_insert(0.0) += value;
            }
            "kontiki_stage_seconds_sum" => {
                *self.stage_seconds.entry(label(labels, "stage")?.to_owned()).or_default() += value;
            }
            "kontiki_stage_seconds_bucket" => {
                let bound = match label(labels, "le")? {
                    "+Inf" => UNBOUNDED,
                    seconds => (seconds.parse::<f64>().ok()? * 1e9).round() as u64,
                };
                let stage = self.stages.entry(label(labels, "stage")?.to_owned()).or_default();
                *stage.entry(bound).or_default() += value;
            }
            name => self.syncs += syncs_each(name)? * value,
        }
        Some(())
    }

    /// Syncs since `before`.
    pub(crate) fn syncs_since(&self, before: &Self) -> f64 {
        self.syncs - before.syncs
    }

    /// Bytes that a server wrote since `before`, in the mean.
    pub(crate) fn bytes_written_since(&self, before: &Self) -> Option<f64> {
        Some((self.bytes_written? - before.bytes_written?) / self.pages as f64)
    }

    /// The stages with observations since `before`, by name.
    pub(crate) fn stages_since(&self, before: &Self) -> Vec<StageReport> {
        let stages = self.stages.iter().filter_map(|(stage, buckets)| {
            let earlier = before.stages.get(stage);
            let less = |(bound, count): (&u64, &f64)| {
                (*bound, count - earlier.and_then(|all| all.get(bound)).unwrap_or(&0.0))
            };
            let buckets: BTreeMap<u64, f64> = buckets.iter().map(less).collect();
            let count = *buckets.get(&UNBOUNDED)?;
            let seconds = |all: &Self| all.stage_seconds.get(stage).copied().unwrap_or_default();
            let within = |share: f64| {
                let found = buckets.iter().find(|(_, below)| **below >= count * share)?;
                (*found.0 != UNBOUNDED).then_some(*found.0 as f64 / 1e3)
            };
            (count > 0.0).then(|| StageReport {
                stage: stage.clone(),
                count: count as u64,
                mean_us: (seconds(self) - seconds(before)) * 1e6 / count,
                p50_us: within(0.5),
                p99_us: within(0.99),
            })
        });
        stages.collect()
    }
}

async fn fetch(url: &str) -> io::Result<String> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "expected http://HOST:PORT/PATH");
    let rest = url.strip_prefix("http://").ok_or_else(invalid)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, "metrics"));
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// What stands for `name` in `metric{name="value",…}`.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, list) = labels.split_once('{')?;
    let mut pairs = list.trim_end_matches('}').split(',');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

/// How many syncs one of this counter stands for, if it is one of syncs.
fn syncs_each(name: &str) -> Option<f64> {
    match name {
        "etcd_disk_wal_fsync_duration_seconds_count" => Some(1.0),
        // A commit of etcd's backend syncs its pages, then its root.
        "etcd_disk_backend_commit_duration_seconds_count" => Some(2.0),
        _ if name.contains("fdatasync") && name.ends_with("_total") => Some(1.0),
        _ if name.contains("fdatasync") && name.ends_with("_count") => Some(1.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pages: &[&str]) -> Counters {
        let mut all = Counters::default();
        pages.iter().for_each(|page| all.add(page));
        all
    }

    #[test]
    fn counters_of_syncs_are_summed() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE kontiki_log_fdatasync_total counter\n\
            kontiki_log_fdatasync_total 7\n\
            kontiki_log_fdatasync_seconds_count{node=\"1\"} 10\n\
            kontiki_log_fdatasync_seconds_sum 0.5\n\
            etcd_disk_wal_fsync_duration_seconds_count 100\n\
            etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.1\"} 1000\n\
            etcd_disk_backend_commit_duration_seconds_count 1e3\n\
            other_total 5\n";
        assert_eq!(of(&[page]).syncs, 7.0 + 10.0 + 100.0 + 2000.0);
        assert_eq!(of(&[page]).bytes_written, None);
    }

    #[test]
    fn bytes_written_are_those_of_a_server() {
        let page = "kontiki_log_bytes_written_total 500\nkontiki_state_bytes_written_total 80\n\
            kontiki_snapshot_bytes_written_total 20\nkontiki_log_bytes_other_total 9\n";
        let (before, after) = (of(&["", ""]), of(&[page, page]));
        assert_eq!(after.bytes_written_since(&before), None);
        let before = of(&["kontiki_log_bytes_written_total 100\n", ""]);
        assert_eq!(after.bytes_written_since(&before), Some(550.0));
    }

    #[test]
    fn stages_are_those_since_the_first_look() {
        let page = |few: u32, more: u32, all: u32, sum: f64| {
            let bucket = |bound, count| {
                format!("kontiki_stage_seconds_bucket{{le=\"{bound}\",stage=\"sync\"}} {count}\n")
            };
            format!(
                "kontiki_stage_seconds_sum{{stage=\"sync\"}} {sum}\n{}{}{}",
                bucket("0.0005", few),
                bucket("0.001", more),
                bucket("+Inf", all)
            )
        };
        let (before, after) = (of(&[&page(1, 2, 2, 0.5)]), of(&[&page(7, 11, 12, 0.51)]));
        let found = after.stages_since(&before);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].stage.as_str(), found[0].count), ("sync", 10));
        assert!((found[0].mean_us - 1000.0).abs() < 1.0, "{found:?}");
        assert_eq!((found[0].p50_us, found[0].p99_us), (Some(500.0), None));
        assert!(after.stages_since(&after).is_empty());
    }
}
