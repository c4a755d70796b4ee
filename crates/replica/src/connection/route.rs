//! Where a command goes, and which clients are told to go there themselves.
//!
//! Any node serves any slot: what it does not lead it passes on. So a client that knows nothing of
//! clusters is never redirected. One that has asked for the map of slots routes by itself, and is
//! told by MOVED when its map is out of date.

use kontiki_kv::Reply;
use std::collections::BTreeSet;

use kontiki_kv::command::{Parsed, Read, Write};
use kontiki_types::{GroupId, NodeId, SLOTS, Slot};

use super::parts::Parts;
use super::{Connection, Held, Host, Step, error, map};
use crate::atlas::{Atlas, FIRST_GROUP, Target};
use crate::routed::Patience;

/// Who is told MOVED.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redirect {
    /// Clients that have asked for the map of slots, in a store that is sharded.
    #[default]
    Auto,
    /// Every client, as in Redis Cluster.
    Always,
    /// Nobody: every command is passed on.
    Never,
}

impl Redirect {
    /// The word for it in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// What a word means.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Auto, Self::Always, Self::Never].into_iter().find(|one| one.name() == name)
    }
}

/// What a client has said about clusters.
#[derive(Debug, Default)]
pub(super) struct Manners {
    /// It has asked for the map of slots.
    pub(super) has_asked: bool,
    /// Nobody else of its kind had, as of this number of the host's.
    pub(super) seen_changes: u64,
    /// READONLY: a replica will do for its reads.
    pub(super) is_readonly: bool,
    /// ASKING: the next command is served here.
    pub(super) is_asking: bool,
    /// Slots whose reads it was told to take elsewhere.
    told: BTreeSet<Slot>,
}

/// Slots that are remembered to have been told; of more, all are forgotten.
const TOLD_MAX: usize = 1024;

const CROSS_SLOT: &str = "CROSSSLOT Keys in request don't hash to the same slot";

impl Connection {
    /// Learns whether others of this client's kind have asked for the map: so would this one, if it
    /// had to.
    pub(super) fn learn_manners(&mut self, host: &dyn Host) {
        let library = &self.description.library_name;
        if self.manners.has_asked || library.is_empty() {
            return;
        }
        let changes = host.asked_changes();
        if self.manners.seen_changes != changes {
            self.manners.seen_changes = changes;
            self.manners.has_asked = host.has_asked(self.id, library);
        }
    }

    /// What becomes of a data command.
    pub(super) fn route(&mut self, command: Parsed, host: &dyn Host) -> Step {
        let atlas = host.atlas();
        let is_asking = std::mem::take(&mut self.manners.is_asking);
        let slot = command.slot();
        if let Some(slot) = slot.filter(|_| !is_asking) {
            let is_read = matches!(command, Parsed::Read(_));
            if let Some(elsewhere) = self.redirection(slot, is_read, &atlas, host) {
                return Step::Reply(elsewhere);
            }
        }
        if !atlas.is_sharded() {
            return Step::Hold(Held::Data(command, Target::Group(FIRST_GROUP)));
        }
        let is_write = matches!(command, Parsed::Write(_));
        if let Some(slot) = slot {
            if is_write {
                self.writes_to(&atlas, slot);
            }
            return Step::Hold(Held::Data(command, Target::Slot(slot)));
        }
        let only = self.sees_only(host);
        let parts = match command {
            // Of no key, as OBJECT HELP.
            Parsed::Read(Read::Answer(reply)) => return Step::Reply(reply),
            command => Parts::by_slot(command)
                .or_else(|command| Parts::of_everything(command, &atlas, only)),
        };
        match parts {
            Ok(parts) => {
                if parts.is_write() {
                    self.written.extend(
                        atlas
                            .configuration
                            .iter()
                            .flat_map(|known| known.groups().map(|(group, _)| group)),
                    );
                }
                Step::Hold(Held::Parts(Box::new(parts)))
            }
            Err(_) => Step::Reply(error(CROSS_SLOT)),
        }
    }

    /// What becomes of an EXEC that is about to be submitted.
    pub(super) fn route_exec(&mut self, commands: Vec<Parsed>, host: &dyn Host) -> Step {
        let atlas = host.atlas();
        let is_asking = std::mem::take(&mut self.manners.is_asking);
        let mut slots = self.watched.iter().map(|(key, _)| Slot::of(key)).collect::<Vec<_>>();
        for command in &commands {
            command.each_key(&mut |key| slots.push(Slot::of(key)));
        }
        slots.sort_unstable();
        slots.dedup();
        let is_sharded = atlas.is_sharded();
        let spans = slots.len() > 1 || commands.iter().any(is_of_everything);
        if is_sharded && spans {
            self.watched.clear();
            return Step::Reply(error(CROSS_SLOT));
        }
        let slot = slots.first().copied().filter(|_| !spans);
        if let Some(slot) = slot.filter(|_| !is_asking) {
            let is_read = commands.iter().all(|command| matches!(command, Parsed::Read(_)));
            if let Some(elsewhere) = self.redirection(slot, is_read, &atlas, host) {
                self.watched.clear();
                return Step::Reply(elsewhere);
            }
        }
        let to = match slot {
            _ if !is_sharded => Target::Group(FIRST_GROUP),
            Some(slot) => {
                self.writes_to(&atlas, slot);
                Target::Slot(slot)
            }
            // Nothing in it concerns a key.
            None => {
                let replies = commands.into_iter().filter_map(|command| match command {
                    Parsed::Read(Read::Answer(reply)) => Some(reply),
                    _ => None,
                });
                return Step::Reply(Reply::Array(replies.collect()));
            }
        };
        Step::Hold(Held::Exec(commands, to))
    }

    /// What becomes of a WATCH.
    pub(super) fn route_watch(&mut self, keys: &[bytes::Bytes], host: &dyn Host) -> Step {
        let atlas = host.atlas();
        let is_asking = std::mem::take(&mut self.manners.is_asking);
        let mut slots = keys.iter().map(|key| Slot::of(key));
        let first = slots.next().unwrap_or_default();
        let is_one = slots.all(|slot| slot == first);
        if is_one
            && !is_asking
            && let Some(elsewhere) = self.redirection(first, false, &atlas, host)
        {
            return Step::Reply(elsewhere);
        }
        let to = match (atlas.is_sharded(), is_one) {
            (false, _) => Target::Group(FIRST_GROUP),
            (true, true) => Target::Slot(first),
            (true, false) => return Step::Reply(error(CROSS_SLOT)),
        };
        Step::Hold(Held::Watch(keys.to_vec(), to))
    }

    /// What a command on `slot` gets instead of being served here, if this client is to be told.
    ///
    /// A read that comes again here after that is served: some libraries (ioredis) send reads to
    /// replicas, but READONLY only to nodes that are master of nothing. A library whose map was out
    /// of date does not come again.
    pub(super) fn redirection(
        &mut self,
        slot: Slot,
        is_read: bool,
        atlas: &Atlas,
        host: &dyn Host,
    ) -> Option<Reply> {
        let is_told = match host.redirect() {
            Redirect::Auto => self.manners.has_asked && atlas.is_sharded(),
            Redirect::Always => true,
            Redirect::Never => false,
        };
        if !is_told {
            return None;
        }
        let Some(group) = atlas.owner(slot) else {
            return Some(error("CLUSTERDOWN Hash slot not served"));
        };
        let me = host.node_id();
        let place = atlas.groups.get(&group);
        let serves = is_read
            && self.manners.is_readonly
            && place.is_some_and(|place| place.nodes.contains(&me));
        // Nobody known to lead: the command waits here for whoever will.
        let leader = atlas.leader(group).filter(|leader| *leader != me && !serves)?;
        let (node, _) = atlas.nodes.get(&leader)?;
        if is_read {
            if self.manners.told.len() >= TOLD_MAX {
                self.manners.told.clear();
            }
            if !self.manners.told.insert(slot) {
                return None;
            }
        }
        let (address, port) = map::endpoint(node);
        Some(error(&format!("MOVED {slot} {address}:{port}")))
    }

    /// How long commands wait for a slot that stands still.
    pub(super) fn patience(&self) -> Patience {
        if self.manners.has_asked { Patience::Short } else { Patience::Whole }
    }

    /// The node whose groups are the whole key space for this client; `None`: it sees everything.
    pub(super) fn sees_only(&self, host: &dyn Host) -> Option<NodeId> {
        let is_told = self.manners.has_asked || host.redirect() == Redirect::Always;
        is_told.then(|| host.node_id())
    }

    /// Notes a group that this connection writes to, for WAIT.
    fn writes_to(&mut self, atlas: &Atlas, slot: Slot) {
        if let Some(group) = atlas.owner(slot).filter(|group| self.last_written != Some(*group)) {
            self.last_written = Some(group);
            self.written.insert(group);
        }
    }

    /// How many replicas other than the leader hold every write of this connection: the fewest of
    /// the groups that it wrote to.
    pub(super) fn replicas(&self, host: &dyn Host) -> usize {
        let atlas = host.atlas();
        let Some(known) = &atlas.configuration else { return host.replicas_in_quorum() };
        let of = |group: &GroupId| atlas.groups.get(group).map(|place| place.nodes.len() / 2);
        let least = if self.written.is_empty() {
            known.groups().filter_map(|(group, _)| of(&group)).min()
        } else {
            self.written.iter().filter_map(of).min()
        };
        least.unwrap_or_else(|| host.replicas_in_quorum())
    }
}

/// Whether a command concerns the whole key space.
fn is_of_everything(command: &Parsed) -> bool {
    matches!(
        command,
        Parsed::Write(Write::Flush)
            | Parsed::Read(
                Read::Keys { .. } | Read::DbSize | Read::RandomKey { .. } | Read::Scan { .. }
            )
    )
}

/// The first slot from `from` on whose group is led by `node`.
pub(super) fn first_led(atlas: &Atlas, node: NodeId, from: Slot) -> Option<Slot> {
    let mut slots = (from.get()..SLOTS).filter_map(Slot::new);
    slots.find(|slot| atlas.owner(*slot).and_then(|group| atlas.leader(group)) == Some(node))
}
