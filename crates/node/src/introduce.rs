//! A node that has joined under an id that others know by another directory.
//!
//! Peers refuse connections of a directory that they do not know, and so would never hear of it. So
//! it says who it is by a call of its own, to each of them, until each knows it. Whoever is called
//! believes it only if the directory that it knows has fallen silent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kontiki_net::proto;
use kontiki_replica::NodeInfo;
use kontiki_types::NodeId;
use tokio::sync::{oneshot, watch};

use crate::event_loop::Input;
use crate::founding::hello;
use crate::settings::Settings;
use crate::shared::Shared;

/// Between two rounds of calls.
const ROUND: Duration = Duration::from_millis(500);

/// Calls whoever does not know this directory, until everybody does or the node stops.
pub(crate) async fn run(node: Arc<Shared>, settings: Settings, mut stop: watch::Receiver<bool>) {
    let mut knowing = BTreeSet::new();
    loop {
        let done = tokio::select! {
            done = round(&node, &settings, &mut knowing) => done,
            _ = stop.changed() => return,
        };
        if done {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(ROUND) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Whether everybody knows this directory.
async fn round(node: &Shared, settings: &Settings, knowing: &mut BTreeSet<NodeId>) -> bool {
    let (sender, report) = oneshot::channel();
    node.events.send(Input::Status(sender));
    let Ok(report) = report.await else { return true };
    let Some((me, _)) = report.nodes.iter().find(|(info, _)| info.id == node.id) else {
        return true;
    };
    let others = report.nodes.iter().filter(|(info, _)| info.id != node.id);
    let mut is_done = true;
    for (peer, _) in others.filter(|(info, _)| !info.grpc.is_empty()) {
        if !knowing.contains(&peer.id) {
            match hello(settings, &peer.grpc, me).await {
                Ok(answer) if knows(&answer, me) => {
                    knowing.insert(peer.id);
                }
                _ => is_done = false,
            }
        }
    }
    is_done
}

fn knows(answer: &proto::HelloResponse, me: &NodeInfo) -> bool {
    answer.members.iter().any(|node| (node.id, node.incarnation) == (me.id.0, me.incarnation.0))
}
