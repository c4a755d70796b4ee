//! Item 2d: a node whose directory was emptied comes back under its old id and flags. It must not
//! vote: it could elect a leader that lacks what the node had once acknowledged.

use anyhow::{Result, ensure};

use super::minority::refusal;
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures};

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut cluster = Cluster::start(context)?;
    let leader = cluster.leader(0)?;
    let (emptied, witness) = ((leader + 1) % 3, (leader + 2) % 3);
    ensure!(cluster.client(leader)?.call(&["SET", "k", "kept"])?.is_ok(), "SET k");

    cluster.kill(emptied)?;
    let directory = cluster.nodes()[emptied].directory()?;
    std::fs::remove_dir_all(&directory)?;
    std::fs::create_dir_all(&directory)?;
    // Refusing to start at all is a way of not voting.
    let starts = cluster.restart(context, emptied).is_ok();

    cluster.kill(leader)?;
    let waited = refusal(&mut cluster.client(witness)?, &["SET", "k", "lost"])?;

    cluster.restart(context, leader)?;
    cluster.leader(witness)?;
    let value = cluster.client(witness)?.call(&["GET", "k"])?;
    let kept = [b"kept".to_vec(), b"lost".to_vec()].map(crate::acceptance::client::Reply::Bulk);
    ensure!(kept.contains(&value), "GET k says {value:?} once two true members are back");

    Ok(Figures::from_iter([
        ("emptied_node_starts".to_string(), starts.into()),
        ("refused_after_seconds".to_string(), waited.as_secs_f64().into()),
    ]))
}
