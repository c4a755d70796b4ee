//! What a command sees of the state while it executes.

use bytes::Bytes;
use kontiki_types::{LogTime, Slot};

use crate::command::ScanPosition;

/// A live key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value.
    pub value: Bytes,
    /// When the key expires, in log time; `None`: never.
    pub expires: Option<LogTime>,
    /// Version of the key: from a counter of its slot that never decreases (PROTOCOL 14).
    pub version: u64,
}

/// Read access at one point of the log. A key whose expiry is at or before [`Access::now`] is
/// never returned.
pub trait Access {
    /// Log time of the state that is read.
    fn now(&self) -> LogTime;

    /// The live record of `key`.
    fn get(&self, key: &[u8]) -> Option<Record>;

    /// Version of `key`: its own while it lives, else its slot's counter as of its last deletion.
    fn version(&self, key: &[u8]) -> u64;

    /// Up to `limit` live keys at or after `from`, ordered by ([`ScanPosition::of`] the key, key).
    /// Fewer than `limit`: no key follows. The engine's rows stand in this order (slot,
    /// [`ScanPosition::hash_bytes`], key), so that a step of SCAN reads only what it answers.
    fn scan(&self, from: ScanPosition, limit: usize) -> Vec<Bytes>;

    /// Number of live keys.
    fn len(&self) -> u64;

    /// Whether there is no live key.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some live key, chosen by `choice`; `None` if there is none.
    fn random_key(&self, choice: u64) -> Option<Bytes>;

    /// The first slot from `first` to `last`, both included, that is not served here; `None`: all
    /// of them are, as in a state that has the whole key space.
    fn first_unserved(&self, first: Slot, last: Slot) -> Option<Slot> {
        let _ = (first, last);
        None
    }

    /// Number of live keys in `slots`, which are in order, each once.
    fn count_in(&self, slots: &[Slot]) -> u64 {
        let count = |slot: &Slot| {
            let mut limit = 64;
            loop {
                let keys = self.scan(ScanPosition::start_of(*slot), limit);
                let inside = keys.iter().take_while(|key| Slot::of(key) == *slot).count();
                if inside < limit {
                    return inside as u64;
                }
                limit *= 2;
            }
        };
        slots.iter().map(count).sum()
    }
}

/// Read and write access of one command at apply. Its effects become visible and durable as one.
pub trait AccessMut: Access {
    /// Sets `key`, whatever it held; its version rises.
    fn put(&mut self, key: &[u8], value: Bytes, expires: Option<LogTime>);

    /// Changes only the expiry of a live key; its version rises.
    fn set_expiry(&mut self, key: &[u8], expires: Option<LogTime>);

    /// Removes `key`; `false` if it was not live.
    fn delete(&mut self, key: &[u8]) -> bool;

    /// Removes every live key.
    fn clear(&mut self);

    /// Removes every live key of `slots`, which are in order, each once.
    fn clear_in(&mut self, slots: &[Slot]) {
        for slot in slots {
            loop {
                let mut keys = self.scan(ScanPosition::start_of(*slot), 64);
                keys.retain(|key| Slot::of(key) == *slot);
                if keys.is_empty() {
                    break;
                }
                for key in keys {
                    self.delete(&key);
                }
            }
        }
    }
}
