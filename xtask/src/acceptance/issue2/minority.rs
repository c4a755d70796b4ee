//! Item 7: a node that is cut off from the majority answers nothing, least of all old data.

use anyhow::{Context as _, Result, bail, ensure};
use std::time::{Duration, Instant};

use crate::acceptance::client::{Client, Reply};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures};

/// The default request timeout is 5 s; beyond three of them a client waits in vain.
const REFUSED_MAX: Duration = Duration::from_secs(15);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut cluster = Cluster::start(context)?;
    let mut figures = Figures::new();
    ensure!(cluster.client(0)?.call(&["SET", "k", "old"])?.is_ok(), "SET k");

    let waited = follower_alone(context, &mut cluster).context("a follower alone")?;
    figures.insert("follower_refused_after_seconds".into(), waited.as_secs_f64().into());
    let waited = leader_alone(&cluster).context("the leader alone")?;
    figures.insert("leader_refused_after_seconds".into(), waited.as_secs_f64().into());
    let waited = deposed_leader_alone(&cluster).context("a deposed leader alone")?;
    figures.insert("deposed_leader_refused_after_seconds".into(), waited.as_secs_f64().into());
    cluster.stop()?;
    Ok(figures)
}

/// The other two are dead.
fn follower_alone(context: &Context, cluster: &mut Cluster) -> Result<Duration> {
    let leader = cluster.leader(0)?;
    let (alone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(other)?;
    cluster.kill(leader)?;
    let waited = refuses_both(cluster, alone)?;
    cluster.restart(context, leader)?;
    cluster.restart(context, other)?;
    cluster.await_whole(alone)?;
    Ok(waited)
}

/// The other two hang.
fn leader_alone(cluster: &Cluster) -> Result<Duration> {
    let leader = cluster.leader(0)?;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    others.iter().try_for_each(|node| cluster.freeze(*node))?;
    let waited = refuses_both(cluster, leader)?;
    others.iter().try_for_each(|node| cluster.thaw(*node))?;
    cluster.await_whole(leader)?;
    Ok(waited)
}

/// It slept while the others chose another leader and wrote; now they sleep and it wakes up,
/// still believing that it leads.
fn deposed_leader_alone(cluster: &Cluster) -> Result<Duration> {
    let deposed = cluster.leader(0)?;
    let others = [(deposed + 1) % 3, (deposed + 2) % 3];
    // Connected before it sleeps, so that its first words after waking are the answer to us.
    let mut client = cluster.client(deposed)?;
    cluster.freeze(deposed)?;
    let written = cluster.client(others[0])?.call(&["SET", "k", "new"])?;
    ensure!(written.is_ok(), "the majority answered SET with {written:?}");
    others.iter().try_for_each(|node| cluster.freeze(*node))?;
    cluster.thaw(deposed)?;
    let waited = refusal(&mut client, &["GET", "k"])?;
    others.iter().try_for_each(|node| cluster.thaw(*node))?;
    cluster.await_whole(deposed)?;
    let value = client.call(&["GET", "k"])?;
    ensure!(value == Reply::Bulk(b"new".to_vec()), "the deposed leader says {value:?} of k");
    Ok(waited)
}

fn refuses_both(cluster: &Cluster, alone: usize) -> Result<Duration> {
    let read = refusal(&mut cluster.client(alone)?, &["GET", "k"])?;
    let write = refusal(&mut cluster.client(alone)?, &["SET", "other", "x"])?;
    Ok(read.max(write))
}

/// How long it took until the command was answered with an error; any other answer is a failure.
pub fn refusal(client: &mut Client, words: &[&str]) -> Result<Duration> {
    let asked = Instant::now();
    match client.call(words)? {
        Reply::Error(_) if asked.elapsed() <= REFUSED_MAX => Ok(asked.elapsed()),
        Reply::Error(text) => {
            bail!("{words:?} was refused only after {:?}: {text}", asked.elapsed())
        }
        other => bail!("without a majority, {words:?} was answered with {other:?}"),
    }
}
