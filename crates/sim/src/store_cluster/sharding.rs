//! What a node's directory says of the groups of a sharded store, and how their machines are opened:
//! as on a real node.

use std::sync::Arc;

use kontiki_kv::{Machine, MachineError, QueryAnswer, Store};
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
fn joined_note(group: GroupId) -> String {
    format!("begins-{group}")
}

/// Notes that a group begins here that has joined.
pub(super) fn note_joined(
    directory: &mut Directory<SimDisk>,
    group: GroupRef,
) -> Result<(), DirectoryError> {
    directory.set_note(&joined_note(group.id), &group.joined.to_string())
}

/// What a group of this store began as; `None`: without a steward, with every slot.
pub(super) fn beginning(directory: &Directory<SimDisk>, group: GroupId) -> Option<Beginning> {
    if let Some(joined) = directory.note(&joined_note(group)) {
        return Some(Beginning::Joined(GroupRef { id: group, joined: joined.parse().ok()? }));
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
