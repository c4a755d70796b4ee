//! What an entry carries.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

use kontiki_raft::Payload;

use crate::random::mix;

/// Bytes, with their hash. Each of the replicas has them, in memory and on its disk, so a clone is a
/// count; and since a cluster is run by one thread, one that need not be atomic.
#[derive(Clone)]
pub(super) struct Command {
    bytes: Rc<[u8]>,
    hash: u64,
}

impl Command {
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

impl From<&[u8]> for Command {
    fn from(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), hash: hash64(bytes) }
    }
}

impl Deref for Command {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Command {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Payload for Command {
    fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}

/// Quick rather than strong.
pub(super) fn hash64(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash =
        words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let last = rest.iter().rev().fold(0, |last, &byte| last << 8 | u64::from(byte));
    mix(hash, last)
}
