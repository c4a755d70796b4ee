//! What a log entry carries for the state machine.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// The bytes of a command. The core never looks into them; it only counts and clones them, so a
/// clone should be cheap (a reference count). `Vec<u8>` is there for tests and small tools.
pub trait Payload: Clone {
    /// Size in bytes, as it counts towards every byte limit of [`Config`](crate::Config).
    fn len(&self) -> usize;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Payload for Arc<[u8]> {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }
}

impl Payload for Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }
}

#[cfg(feature = "bytes")]
impl Payload for bytes::Bytes {
    fn len(&self) -> usize {
        bytes::Bytes::len(self)
    }
}
