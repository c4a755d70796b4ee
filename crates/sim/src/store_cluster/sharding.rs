//! What a node's directory says of the groups of a sharded store, and how their machines are opened:
//! as on a real node.

use std::sync::Arc;

use kontiki_kv::{Machine, MachineError, QueryAnswer, Store};
use kontiki_replica::FIRST_GROUP;
use kontiki_replica::steward::{self, Beginning, CONTROLLER, StewardMaker};
use kontiki_shard::{Answer, Configuration, Controller, GroupRef, Query};
use kontiki_storage::directory::{Directory, DirectoryError};
use kontiki_storage::disk::SimDisk;
use kontiki_types::{GroupId, LogTime, Member, NodeId};

/// A group's state machine.
pub(super) fn machine<S: Store>(store: S) -> Result<Machine<S>, MachineError> {
    Machine::open(store)?.with_stewards(Box::new(StewardMaker))
}

/// The configuration as of what the controller's machine has applied.
pub(super) fn configuration<S: Store>(
    group: GroupId,
    machine: &Machine<S>,
) -> Option<Arc<Configuration>> {
    if group != CONTROLLER {
        return None;
    }
    let query = steward::ask(&Query::Configuration { at: None });
    let Ok(QueryAnswer::Reply(reply)) = machine.query(&query, LogTime(0)) else { return None };
    match steward::answered(&reply) {
        Ok(Answer::Configuration { found, .. }) => found.map(Arc::new),
        _ => None,
    }
}

/// The configuration with which the store began, if it was sharded then.
pub(super) fn founding_configuration(directory: &Directory<SimDisk>) -> Option<Arc<Configuration>> {
    match beginning(directory, CONTROLLER)? {
        Beginning::FoundingController(groups) => {
            Some(Arc::new(Controller::founding(&groups).configuration().clone()))
        }
        _ => None,
    }
}

/// Name of the directory's note of what a group began as that began here.
fn beginning_note(group: GroupId) -> String {
    format!("begins-{group}")
}

/// Notes what a group begins as that begins here, when the store is there already.
pub(super) fn note_beginning(
    directory: &mut Directory<SimDisk>,
    group: GroupId,
    beginning: &Beginning,
) -> Result<(), DirectoryError> {
    let text = match beginning {
        Beginning::Joined(GroupRef { joined, .. }) => format!("joined {joined}"),
        Beginning::AdoptingController { nodes, .. } => {
            let nodes: Vec<_> = nodes.iter().map(|node| node.0.to_string()).collect();
            format!("adopts {}", nodes.join(","))
        }
        Beginning::FoundingController(_) | Beginning::FoundingGroup { .. } => return Ok(()),
    };
    directory.set_note(&beginning_note(group), &text)
}

fn read_beginning(group: GroupId, note: &str) -> Option<Beginning> {
    match note.split_once(' ')? {
        ("joined", joined) => {
            Some(Beginning::Joined(GroupRef { id: group, joined: joined.parse().ok()? }))
        }
        (_, nodes) => {
            let nodes = nodes.split(',').map(|node| node.parse().ok().map(NodeId));
            let (group, nodes) = (FIRST_GROUP, nodes.collect::<Option<_>>()?);
            Some(Beginning::AdoptingController { group, nodes })
        }
    }
}

/// What a group of this store began as; `None`: without a steward, with every slot.
pub(super) fn beginning(directory: &Directory<SimDisk>, group: GroupId) -> Option<Beginning> {
    if let Some(note) = directory.note(&beginning_note(group)) {
        return read_beginning(group, note);
    }
    directory.initial(CONTROLLER)?;
    let nodes = |members: &[Member]| members.iter().map(|member| member.node).collect();
    let founders: Vec<(GroupId, Vec<NodeId>)> = directory
        .initials()
        .filter(|(id, _)| *id != CONTROLLER)
        .map(|(id, members)| (id, nodes(members)))
        .collect();
    if group == CONTROLLER {
        return Some(Beginning::FoundingController(founders));
    }
    let at = founders.iter().position(|(id, _)| *id == group)?;
    Some(Beginning::FoundingGroup { group, at, of: founders.len() })
}
