//! Counters and histograms of the nodes' pages of metrics.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::acceptance::cluster::Cluster;

const PATIENCE: Duration = Duration::from_secs(10);

/// A histogram summed over nodes: how many observations were at most so long, in microseconds.
#[derive(Default, Debug)]
pub struct Histogram(BTreeMap<u64, u64>);

/// Stands for no bound.
const UNBOUNDED: u64 = u64::MAX;

impl Histogram {
    /// `kontiki_NAME_seconds` of all nodes.
    pub fn of(cluster: &Cluster, name: &str) -> Result<Histogram> {
        let mut all = Histogram::default();
        for node in cluster.nodes() {
            let page = page(node.http).with_context(|| format!("metrics of node {}", node.id))?;
            all.add(&page, name)?;
        }
        ensure!(!all.0.is_empty(), "no node has a histogram {name}");
        Ok(all)
    }

    fn add(&mut self, page: &str, name: &str) -> Result<()> {
        let head = format!("kontiki_{name}_seconds_bucket{{le=\"");
        for line in page.lines() {
            let Some(rest) = line.strip_prefix(&head) else { continue };
            let (bound, count) = rest.split_once("\"}").context("a bucket has a bound")?;
            let bound = match bound {
                "+Inf" => UNBOUNDED,
                seconds => (seconds.parse::<f64>()? * 1e6).round() as u64,
            };
            *self.0.entry(bound).or_default() += count.trim().parse::<u64>()?;
        }
        Ok(())
    }

    /// What was observed since `before`.
    pub fn since(&self, before: &Histogram) -> Histogram {
        let less = |(bound, count): (&u64, &u64)| {
            (*bound, count - before.0.get(bound).copied().unwrap_or_default())
        };
        Histogram(self.0.iter().map(less).collect())
    }

    pub fn count(&self) -> u64 {
        self.0.get(&UNBOUNDED).copied().unwrap_or_default()
    }

    /// The bound, in milliseconds, within which this share of the observations was; none if it is
    /// beyond all of them.
    pub fn within_ms(&self, share: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let found = self.0.iter().find(|(_, count)| **count >= wanted)?;
        (*found.0 != UNBOUNDED).then_some(*found.0 as f64 / 1e3)
    }

    /// As `bound in ms: observations`, empty ones left out.
    pub fn shown(&self) -> String {
        let mut before = 0;
        let mut words = Vec::new();
        for (bound, count) in &self.0 {
            if *count > before {
                let bound = match *bound {
                    UNBOUNDED => "more".to_string(),
                    bound => format!("{}", bound as f64 / 1e3),
                };
                words.push(format!("{bound}: {}", count - before));
            }
            before = *count;
        }
        words.join(", ")
    }
}

/// What one node's page says at a moment, groups' own figures left out.
pub struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// Of the node at this place.
    pub fn of(cluster: &Cluster, node: usize) -> Result<Counters> {
        let node = &cluster.nodes()[node];
        let page = page(node.http).with_context(|| format!("metrics of node {}", node.id))?;
        Ok(Counters::read(&page))
    }

    fn read(page: &str) -> Counters {
        let pairs = page.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            let name = name.strip_prefix("kontiki_").unwrap_or(name);
            Some((name.to_owned(), value.trim().parse().ok()?))
        });
        Counters(pairs.collect())
    }

    /// The figure of this name, without `kontiki_`; 0 if the page has none.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// The largest value that any node has of the gauge `kontiki_NAME`, whatever its labels; 0 if none has
/// one.
pub fn largest_gauge(cluster: &Cluster, name: &str) -> Result<u64> {
    let mut largest = 0;
    for node in cluster.nodes() {
        let page = page(node.http).with_context(|| format!("metrics of node {}", node.id))?;
        largest = largest.max(largest_in(&page, name));
    }
    Ok(largest)
}

fn largest_in(page: &str, name: &str) -> u64 {
    let head = format!("kontiki_{name}{{");
    let found = page.lines().filter(|line| line.starts_with(&head));
    let values = found.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok());
    values.max().unwrap_or(0)
}

fn page(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: kontiki\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::{Counters, Histogram, largest_in};

    const PAGE: &str = "kontiki_move_freeze_seconds_bucket{le=\"0.01\"} 3\n\
                        kontiki_move_freeze_seconds_bucket{le=\"0.05\"} 9\n\
                        kontiki_move_freeze_seconds_bucket{le=\"+Inf\"} 10\n\
                        kontiki_other_seconds_bucket{le=\"0.01\"} 77\n";

    #[test]
    fn counters_are_read() {
        let counters = Counters::read(
            "# HELP kontiki_frames_sent Frames\nkontiki_frames_sent_total 12\n\
             kontiki_raft_term{group=\"1\"} 3\nprocess_cpu_seconds_total 1.5\n",
        );
        assert_eq!(counters.get("frames_sent_total"), 12.0);
        assert_eq!(counters.get("process_cpu_seconds_total"), 1.5);
        assert_eq!(counters.get("other"), 0.0);
    }

    #[test]
    fn the_largest_gauge_is_found_whatever_its_labels() {
        let page = "kontiki_sent_bytes{id=\"1\"} 7\nkontiki_sent_bytes{id=\"2\"} 30\n\
                    kontiki_sent_bytes_more{id=\"1\"} 99\n";
        assert_eq!(largest_in(page, "sent_bytes"), 30);
        assert_eq!(largest_in(page, "other"), 0);
    }

    #[test]
    fn shares_are_read_from_buckets() {
        let mut histogram = Histogram::default();
        histogram.add(PAGE, "move_freeze").expect("well-formed");
        assert_eq!(histogram.count(), 10);
        assert_eq!(histogram.within_ms(0.3), Some(10.0));
        assert_eq!(histogram.within_ms(0.9), Some(50.0));
        assert_eq!(histogram.within_ms(0.99), None);
        assert_eq!(histogram.shown(), "10: 3, 50: 6, more: 1");
        assert_eq!(histogram.since(&histogram).count(), 0);
    }
}
