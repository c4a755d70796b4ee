//! Item 2b: one client sets 1,000 keys; strace sees at least as many syncs complete on the leader
//! and on a follower. A kill -9 leaves the page cache in place and proves nothing about this.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures, needs, wait};
use crate::program::Program;

const WRITES: usize = 1_000;
const ATTACH_MAX: Duration = Duration::from_secs(20);

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["strace"])?;
    let cluster = Cluster::start(context)?;
    let leader = cluster.leader(0)?;
    let mut owners = BTreeMap::new();
    for (place, node) in cluster.nodes().iter().enumerate() {
        owners.extend(node.threads()?.into_iter().map(|thread| (thread, place)));
    }

    let trace = context.scratch.join("trace");
    let log = context.scratch.join("strace");
    let mut strace = Program::new("strace")
        .args(["-f", "-e", "trace=fdatasync", "-o"])
        .args([&trace])
        .args(cluster.nodes().iter().flat_map(|node| ["-p".to_string(), node.pid.to_string()]))
        .spawn_logged(&log)?;
    wait::until("strace to attach", ATTACH_MAX, || {
        let said = std::fs::read_to_string(log.with_extension("err")).unwrap_or_default();
        ensure!(strace.is_running(), "strace ended: {said}");
        Ok((said.matches("attached").count() >= cluster.nodes().len()).then_some(()))
    })?;

    let mut client = cluster.client(leader)?;
    for number in 0..WRITES {
        let reply = client.call(&["SET", &format!("key:{number}"), "value"])?;
        ensure!(reply.is_ok(), "SET {number} answered {reply:?}");
    }
    strace.signal("INT")?;
    // strace ends by the signal that it was sent; what matters is that it wrote everything.
    strace.wait(ATTACH_MAX)?;
    cluster.stop()?;

    let counts = completed(&std::fs::read_to_string(&trace)?, &owners);
    let of = |place: usize| counts.get(&place).copied().unwrap_or(0);
    let followers = || (0..3).filter(|place| *place != leader).map(of);
    let follower = followers().max().context("two followers")?;
    let figures = Figures::from_iter([
        ("writes".to_string(), WRITES.into()),
        ("syncs_leader".to_string(), of(leader).into()),
        ("syncs_follower".to_string(), follower.into()),
    ]);
    ensure!(of(leader) >= WRITES, "the leader synced {} times", of(leader));
    // Each write is acknowledged after a sync of some follower that began after the write before was
    // acknowledged. On a busy machine that is not the same follower each time.
    let least = if context.small { followers().sum() } else { follower };
    ensure!(least >= WRITES, "the followers synced {} times", followers().sum::<usize>());
    Ok(figures)
}

/// How many syncs completed with success, by the place of the node.
fn completed(trace: &str, owners: &BTreeMap<u32, usize>) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for line in trace.lines() {
        // A call that is interrupted by another thread's is completed by its `resumed` line.
        let is_sync = line.contains(" fdatasync(") || line.contains("<... fdatasync resumed>");
        let succeeded = line.rsplit_once("= ").is_some_and(|(_, result)| result.trim() == "0");
        let thread = line.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
        let owner = thread.and_then(|thread| owners.get(&thread));
        if let (true, true, Some(owner)) = (is_sync, succeeded, owner) {
            *counts.entry(*owner).or_insert(0) += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::completed;
    use std::collections::BTreeMap;

    #[test]
    fn only_completed_syncs_of_known_threads_count() {
        let trace = "\
11 fdatasync(7)                      = 0
12 fdatasync(9 <unfinished ...>
11 fdatasync(7)                      = -1 EIO (Input/output error)
12 <... fdatasync resumed>)          = 0
99 fdatasync(7)                      = 0
11 +++ exited with 0 +++
";
        let owners = BTreeMap::from([(11, 0), (12, 1)]);
        assert_eq!(completed(trace, &owners), BTreeMap::from([(0, 1), (1, 1)]));
    }
}
