//! What the servers cost, as far as Linux tells: CPU time, memory, bytes written.

use std::collections::BTreeSet;
use std::fs;

/// Unit of the CPU times in `/proc`: `USER_HZ`, which Linux keeps at 100 on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// What some processes have used since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
    pub disk_bytes: u64,
}

/// The sum over `pids`; `None` if there are none or one of them cannot be seen.
pub(crate) fn usage(pids: &[u32]) -> Option<Usage> {
    if pids.is_empty() {
        return None;
    }
    pids.iter().try_fold(Usage::default(), |sum, pid| {
        let one = usage_of(&pid.to_string())?;
        Some(Usage {
            cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
            rss_bytes: sum.rss_bytes + one.rss_bytes,
            disk_bytes: sum.disk_bytes + one.disk_bytes,
        })
    })
}

/// What this process has used.
pub(crate) fn own_usage() -> Usage {
    usage_of("self").unwrap_or_default()
}

fn usage_of(process: &str) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    // Another user's process hides this file; its other figures are still worth having.
    let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    Some(Usage {
        cpu_seconds: cpu_ticks(&stat)? as f64 / TICKS_PER_SECOND,
        rss_bytes: field(&status, "VmRSS:").unwrap_or(0) * 1024,
        disk_bytes: field(&io, "write_bytes:").unwrap_or(0),
    })
}

/// User and system time from a line of `/proc/PID/stat`: its fields 14 and 15. Field 2 is the
/// program's name in parentheses and may hold anything, so counting starts after the last one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The processes of this machine that listen on one of these TCP ports.
pub(crate) fn listening_on(ports: &BTreeSet<u16>) -> Vec<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let sockets: BTreeSet<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .filter_map(listener)
        .filter(|(port, _)| ports.contains(port))
        .map(|(_, inode)| format!("socket:[{inode}]"))
        .collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| !sockets.is_empty() && holds_one_of(*pid, &sockets))
        .collect()
}

/// Port and inode from a line of `/proc/net/tcp`, if its socket listens.
fn listener(line: &str) -> Option<(u16, &str)> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    let listens = *fields.get(3)? == LISTEN;
    let port = u16::from_str_radix(port, 16).ok()?;
    listens.then_some((port, *fields.get(9)?))
}

fn holds_one_of(pid: u32, sockets: &BTreeSet<String>) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_program_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 30 0 0 20 0 1 0 99";
        assert_eq!(cpu_ticks(stat), Some(280));
        assert_eq!(cpu_ticks("7 (a"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = usage(&[std::process::id()]).expect("this process exists");
        assert!(usage.rss_bytes > 1 << 16);
        assert_eq!(super::usage(&[]), None);
        assert_eq!(super::usage(&[u32::MAX]), None);
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        assert_eq!(listening_on(&BTreeSet::from([port])), [std::process::id()]);
    }
}
