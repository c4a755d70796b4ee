//! Which keys a command names, and the slots they lie in.

use bytes::Bytes;
use kontiki_types::Slot;

use super::{Parsed, Read, Write};

impl Parsed {
    /// Calls `visit` with each key, in the order of the request.
    pub fn each_key<'a>(&'a self, visit: &mut impl FnMut(&'a Bytes)) {
        match self {
            Self::Read(read) => read.each_key(visit),
            Self::Write(write) => write.each_key(visit),
        }
    }

    /// The keys, in the order of the request.
    pub fn keys(&self) -> Vec<&Bytes> {
        let mut keys = Vec::new();
        self.each_key(&mut |key| keys.push(key));
        keys
    }

    /// The slot of all keys. `None`: there are several, or the command names no key.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Self::Read(read) => read.slot(),
            Self::Write(write) => write.slot(),
        }
    }
}

impl Write {
    /// Calls `visit` with each key, in the order of the request.
    pub fn each_key<'a>(&'a self, visit: &mut impl FnMut(&'a Bytes)) {
        match self {
            Self::Set { key, .. }
            | Self::SetNx { key, .. }
            | Self::GetEx { key, .. }
            | Self::GetDel { key }
            | Self::Append { key, .. }
            | Self::SetRange { key, .. }
            | Self::IncrBy { key, .. }
            | Self::IncrByFloat { key, .. }
            | Self::SetBit { key, .. }
            | Self::BitField { key, .. }
            | Self::Expire { key, .. }
            | Self::Persist { key }
            | Self::PutIfVersion { key, .. } => visit(key),
            Self::MSet { pairs } | Self::MSetNx { pairs } => {
                pairs.iter().for_each(|(key, _)| visit(key));
            }
            Self::Del { keys } => keys.iter().for_each(visit),
            Self::BitOp { to, from, .. } => {
                visit(to);
                from.iter().for_each(visit);
            }
            Self::Rename { from, to, .. } | Self::Copy { from, to, .. } => {
                visit(from);
                visit(to);
            }
            Self::Flush | Self::FlushSlots { .. } | Self::Steward { .. } => {}
            Self::Exec { watched: keys, commands }
            | Self::Transaction { compare: keys, commands } => {
                keys.iter().for_each(|(key, _)| visit(key));
                commands.iter().for_each(|command| command.each_key(visit));
            }
        }
    }

    /// The slot of all keys. `None`: there are several, or the command names no key.
    pub fn slot(&self) -> Option<Slot> {
        let mut slots = CommonSlot::default();
        self.each_key(&mut |key| slots.add(key));
        slots.get()
    }

    /// Whether it empties the whole key space, by itself or within a transaction.
    pub(crate) fn is_flush(&self) -> bool {
        match self {
            Self::Flush => true,
            Self::Exec { commands, .. } | Self::Transaction { commands, .. } => commands
                .iter()
                .any(|command| matches!(command, Parsed::Write(write) if write.is_flush())),
            _ => false,
        }
    }

    /// Whether it may make the rows of whole slots dead.
    pub(crate) fn leaves_litter(&self) -> bool {
        matches!(self, Self::FlushSlots { .. }) || self.is_flush()
    }

    /// The slot that keeps the completion record: that of the first key, slot 0 without one.
    pub fn home_slot(&self) -> Slot {
        let mut home = match self {
            Self::FlushSlots { slots } => slots.first().map(|(first, _)| *first),
            _ => None,
        };
        self.each_key(&mut |key| {
            home.get_or_insert_with(|| Slot::of(key));
        });
        home.unwrap_or_default()
    }
}

impl Read {
    /// Calls `visit` with each key, in the order of the request.
    pub fn each_key<'a>(&'a self, visit: &mut impl FnMut(&'a Bytes)) {
        match self {
            Self::Get { key }
            | Self::IfLive { key, .. }
            | Self::StrLen { key }
            | Self::GetRange { key, .. }
            | Self::GetBit { key, .. }
            | Self::BitCount { key, .. }
            | Self::BitPos { key, .. }
            | Self::BitField { key, .. }
            | Self::Type { key }
            | Self::Ttl { key, .. }
            | Self::ObjectEncoding { key }
            | Self::MemoryUsage { key }
            | Self::GetWithVersion { key } => visit(key),
            Self::MGet { keys } | Self::Exists { keys } | Self::Versions { keys } => {
                keys.iter().for_each(visit);
            }
            Self::Lcs { first, second, .. } => {
                visit(first);
                visit(second);
            }
            Self::Answer(_)
            | Self::Keys { .. }
            | Self::RandomKey { .. }
            | Self::Scan { .. }
            | Self::DbSize
            | Self::CountSlots { .. }
            | Self::KeysOfSlots { .. }
            | Self::Steward { .. } => {}
        }
    }

    /// The slot of all keys. `None`: there are several, or the command names no key.
    pub fn slot(&self) -> Option<Slot> {
        let mut slots = CommonSlot::default();
        self.each_key(&mut |key| slots.add(key));
        slots.get()
    }

    /// The slot that must be served where a command about slots executes, which says itself how far
    /// it came from there.
    pub fn start_slot(&self) -> Option<Slot> {
        match self {
            Self::Scan { from, .. } => Some(from.slot()),
            Self::CountSlots { slots } | Self::KeysOfSlots { slots, .. } => {
                slots.first().map(|(first, _)| *first)
            }
            _ => None,
        }
    }
}

/// The slot that several keys have in common.
#[derive(Default)]
struct CommonSlot {
    first: Option<Slot>,
    differ: bool,
}

impl CommonSlot {
    fn add(&mut self, key: &[u8]) {
        let slot = Slot::of(key);
        self.differ |= *self.first.get_or_insert(slot) != slot;
    }

    fn get(self) -> Option<Slot> {
        self.first.filter(|_| !self.differ)
    }
}
