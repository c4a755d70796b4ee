//! How often the servers synced to disk, from the counters they publish for Prometheus.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A page that has not come by then, or is longer, is an error.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
const PAGE_BYTES_MAX: u64 = 8 << 20;

/// The syncs counted on all these pages together.
pub(crate) async fn syncs(urls: &[String]) -> io::Result<Option<f64>> {
    let mut sum = None;
    for url in urls {
        let page = tokio::time::timeout(PAGE_TIMEOUT, fetch(url)).await??;
        sum = Some(sum.unwrap_or(0.0) + syncs_on(&page));
    }
    Ok(sum)
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

fn syncs_on(page: &str) -> f64 {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(syncs_in).sum()
}

/// How many syncs a line `name{labels} value` stands for, if its counter is one of syncs.
fn syncs_in(line: &str) -> Option<f64> {
    let (name, _) = line.split_once(['{', ' '])?;
    let each = match name {
        "etcd_disk_wal_fsync_duration_seconds_count" => 1.0,
        // A commit of etcd's backend syncs its pages, then its root.
        "etcd_disk_backend_commit_duration_seconds_count" => 2.0,
        _ if name.contains("fdatasync") && name.ends_with("_total") => 1.0,
        _ if name.contains("fdatasync") && name.ends_with("_count") => 1.0,
        _ => return None,
    };
    let (_, value) = line.rsplit_once(' ')?;
    Some(value.trim().parse::<f64>().ok()? * each)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(syncs_on(page), 7.0 + 10.0 + 100.0 + 2000.0);
    }
}
