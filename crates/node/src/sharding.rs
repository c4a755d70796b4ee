//! What a node's directory says of the groups of a sharded store, and how their machines are opened.
//!
//! A store that is sharded from the beginning has an initial configuration of every group, the
//! controller's too, in every directory. That is all: which slots each group begins with follows
//! from it ([`Beginning`]), so nothing has to be agreed on when the store starts for the first time.

use std::sync::Arc;

use kontiki_kv::{Machine, MachineError, QueryAnswer, Store};
use kontiki_replica::FIRST_GROUP;
use kontiki_replica::placement::CONTROLLER_REPLICAS_MAX;
use kontiki_replica::steward::{self, Beginning, CONTROLLER, StewardMaker};
use kontiki_shard::{Answer, Configuration, Controller, GroupRef, Query};
use kontiki_storage::directory::{Directory, DirectoryError};
use kontiki_storage::disk::{Disk, RealDisk};
use kontiki_types::{GroupId, LogTime, Member, NodeId};

/// A group's state machine.
pub(crate) fn machine<S: Store>(store: S) -> Result<Machine<S>, MachineError> {
    Machine::open(store)?.with_stewards(Box::new(StewardMaker))
}

/// Notes the first configuration of each group of a new store on these nodes: of `replicas`
/// replicas, and of one group if `groups` is 0 or 1. The node that is named first in a group's
/// configuration is to lead it.
pub(crate) fn set_initials(
    directory: &mut Directory<RealDisk>,
    nodes: &[Member],
    replicas: usize,
    groups: usize,
) -> Result<(), DirectoryError> {
    let replicas = replicas.min(nodes.len());
    let most = nodes.len().min(CONTROLLER_REPLICAS_MAX);
    let odd = most - usize::from(most.is_multiple_of(2));
    let controller = (groups > 1).then(|| (CONTROLLER, nodes.iter().take(odd).copied().collect()));
    let ids = (FIRST_GROUP.0..).map(GroupId).take(groups.max(1));
    let groups = ids.enumerate().map(|(at, group)| {
        let from = nodes.iter().cycle().skip(at % nodes.len().max(1));
        (group, from.take(replicas).copied().collect())
    });
    // All or none: what a group begins with follows from how many there are.
    directory.set_initials(controller.into_iter().chain(groups))
}

/// The configuration as of what the controller's machine has applied.
pub(crate) fn configuration<S: Store>(
    group: GroupId,
    machine: &Machine<S>,
) -> Option<Arc<Configuration>> {
    if group != CONTROLLER {
        return None;
    }
    let query = steward::ask(&Query::Configuration { at: None });
    match machine.query(&query, LogTime(0)) {
        Ok(QueryAnswer::Reply(reply)) => match steward::answered(&reply) {
            Ok(Answer::Configuration { found, .. }) => found.map(Arc::new),
            _ => None,
        },
        _ => None,
    }
}

/// The configuration with which the store began, if it was sharded then: what a node knows that has
/// heard of no other.
pub(crate) fn founding_configuration(
    directory: &Directory<RealDisk>,
) -> Option<Arc<Configuration>> {
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
pub(crate) fn note_beginning(
    directory: &mut Directory<RealDisk>,
    group: GroupId,
    beginning: &Beginning,
) -> Result<(), DirectoryError> {
    let text = match beginning {
        Beginning::Joined(GroupRef { joined, .. }) => format!("joined {joined}"),
        Beginning::AdoptingController { group, nodes } => {
            let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
            format!("adopts {group} {}", nodes.join(","))
        }
        // It follows from the initial configurations.
        Beginning::FoundingController(_) | Beginning::FoundingGroup { .. } => return Ok(()),
    };
    directory.set_note(&beginning_note(group), &text)
}

fn read_beginning(group: GroupId, note: &str) -> Option<Beginning> {
    let mut words = note.split(' ');
    match (words.next()?, words.next()?, words.next()) {
        ("joined", joined, None) => {
            Some(Beginning::Joined(GroupRef { id: group, joined: joined.parse().ok()? }))
        }
        ("adopts", adopted, Some(nodes)) => {
            let nodes = nodes.split(',').map(|node| node.parse().ok().map(NodeId));
            let group = GroupId(adopted.parse().ok()?);
            Some(Beginning::AdoptingController { group, nodes: nodes.collect::<Option<_>>()? })
        }
        _ => None,
    }
}

/// What a group of this store began as; `None`: without a steward, with every slot.
pub(crate) fn beginning<D: Disk>(directory: &Directory<D>, group: GroupId) -> Option<Beginning> {
    if let Some(note) = directory.note(&beginning_note(group)) {
        return read_beginning(group, note);
    }
    directory.initial(CONTROLLER)?;
    let founders = || directory.initials().filter(|(id, _)| *id != CONTROLLER);
    if group == CONTROLLER {
        let nodes = |members: &[Member]| members.iter().map(|member| member.node).collect();
        let founders = founders().map(|(id, members)| (id, nodes(members)));
        return Some(Beginning::FoundingController(founders.collect()));
    }
    let at = founders().position(|(id, _)| id == group)?;
    Some(Beginning::FoundingGroup { group, at, of: founders().count() })
}
