//! The fence of a job: keys that exist for as long as the job, and that its writes compare.

use bytes::Bytes;
use kontiki_client::{Client, Compare, Op, Version};
use kontiki_types::{SLOTS, Slot};
use serde::{Deserialize, Serialize};

use std::io;

use super::told;

/// Value of the mark of an output that is whole; behind it may be [`AGAIN`].
pub(super) const DONE: &[u8] = b"done";
/// In the value of a mark: an attempt has taken over from another one.
pub(super) const AGAIN: &[u8] = b" again";

/// Keys that are made or removed in one call.
const KEYS: usize = 2048;

/// Holds off attempts that were replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    key: Vec<u8>,
    /// Of the one key; 0 if there is one in each slot.
    version: u64,
}

impl Fence {
    /// Makes it. In a sharded store, unless the prefix has a hash tag, there is a key in each slot.
    pub(super) async fn make(client: &Client, key: Vec<u8>, prefix: &[u8]) -> io::Result<Self> {
        if !client.is_sharded() || has_tag(prefix) {
            let made = client.put_if_version(&key, "", Version::ABSENT).await;
            let version = made.map_err(|error| told(&error))?.0;
            return Ok(Self { key, version });
        }
        let fence = Self { key, version: 0 };
        for keys in fence.of_slots().chunks(KEYS) {
            let sets = keys.iter().map(|key| Op::Set { key: key.clone(), value: Bytes::new() });
            client.batch(sets).await.map_err(|error| told(&error))?;
        }
        Ok(fence)
    }

    /// Removes it with the marks of `outputs`: from now on nothing is written. Whether that was all:
    /// otherwise there are more keys that begin with [`Fence::key`].
    pub(super) async fn remove(&self, client: &Client, outputs: u32) -> io::Result<bool> {
        let keys = match self.is_by_slot() {
            true => self.of_slots(),
            false => vec![self.key()],
        };
        remove(client, keys).await?;
        let marks: Vec<Bytes> = (0..outputs).map(|number| self.mark(number).into()).collect();
        let mut is_all = true;
        if self.is_by_slot() {
            for keys in marks.chunks(KEYS) {
                let gets = keys.iter().map(|key| Op::Get { key: key.clone() });
                let found = client.batch(gets).await.map_err(|error| told(&error))?;
                let values = found.iter().filter_map(super::by_slot::value);
                is_all &= !values.into_iter().any(|(value, _)| value.ends_with(AGAIN));
            }
        }
        remove(client, marks).await?;
        Ok(is_all)
    }

    /// What all its keys and marks begin with.
    pub(super) fn key(&self) -> Bytes {
        Bytes::copy_from_slice(&self.key)
    }

    pub(super) fn is_by_slot(&self) -> bool {
        self.version == 0
    }

    /// Holds while the job lives. Not by slot.
    pub(super) fn compare(&self) -> Compare {
        Compare::version(&self.key, Version(self.version))
    }

    /// The key of an output's mark.
    pub(super) fn mark(&self, number: u32) -> Vec<u8> {
        [&self.key, format!("-{number}").as_bytes()].concat()
    }

    /// A key of each slot, in their order. The number in braces is the hash tag, unless the prefix
    /// has an open brace, when the tag begins there; either way it decides the slot.
    pub(super) fn of_slots(&self) -> Vec<Bytes> {
        let mut keys: Vec<Option<Bytes>> = vec![None; usize::from(SLOTS)];
        let (mut missing, mut number) = (keys.len(), 0_u64);
        while missing > 0 {
            let key = [&self.key, format!("{{{number}}}").as_bytes()].concat();
            if let Some(place @ None) = keys.get_mut(usize::from(Slot::of(&key).get())) {
                *place = Some(key.into());
                missing -= 1;
            }
            number += 1;
        }
        keys.into_iter().flatten().collect()
    }
}

async fn remove(client: &Client, keys: Vec<Bytes>) -> io::Result<()> {
    for some in keys.chunks(KEYS) {
        let deletes = some.iter().map(|key| Op::Delete { key: key.clone() });
        client.batch(deletes).await.map_err(|error| told(&error))?;
    }
    Ok(())
}

/// Whether all keys with this prefix are of one slot.
fn has_tag(prefix: &[u8]) -> bool {
    let open = prefix.iter().position(|byte| *byte == b'{');
    let rest = open.and_then(|open| prefix.get(open + 1..)).unwrap_or_default();
    rest.iter().position(|byte| *byte == b'}').is_some_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_its_key() {
        for prefix in ["out/", "a{b", "{}x"] {
            assert!(!has_tag(prefix.as_bytes()));
            let fence = Fence { key: format!("{prefix}_mr-1").into(), version: 0 };
            let keys = fence.of_slots();
            assert_eq!(keys.len(), usize::from(SLOTS));
            for (slot, key) in keys.iter().enumerate() {
                assert_eq!(usize::from(Slot::of(key).get()), slot, "{key:?}");
                assert!(key.starts_with(&fence.key));
            }
        }
        assert!(has_tag(b"a{b}c") && has_tag(b"{b}"));
    }
}
