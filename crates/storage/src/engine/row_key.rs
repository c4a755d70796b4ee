//! Keys that are compared without following a pointer, nearly always.
//!
//! A search in a tree of a hundred thousand keys compares seventeen of them, each of which lies
//! somewhere else in memory. The first 16 bytes of a key, which for a row of data are its table,
//! slot, incarnation and hash, lie in the tree's node.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

/// The first bytes of a key as a number, zeros behind a shorter one: if two keys differ in it, it
/// orders them as their bytes do.
type Head = (u64, u64);

fn head(key: &[u8]) -> Head {
    let mut first = [0; 16];
    let length = key.len().min(16);
    first[..length].copy_from_slice(&key[..length]);
    let head = u128::from_be_bytes(first);
    ((head >> 64) as u64, head as u64)
}

/// A key of a tree. The order is that of its bytes.
#[derive(Clone, Debug)]
pub(super) struct RowKey {
    head: Head,
    bytes: Bytes,
}

impl RowKey {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { head: head(&bytes), bytes }
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn is_before(&self, sought: &Sought<'_>) -> bool {
        compare(self.parts(), sought.parts()).is_lt()
    }
}

/// Something to look for among [`RowKey`]s.
pub(super) trait Look {
    fn parts(&self) -> (Head, &[u8]);
}

/// A key to look for.
pub(super) struct Sought<'a>(Head, &'a [u8]);

impl<'a> Sought<'a> {
    pub(super) fn new(key: &'a [u8]) -> Self {
        Self(head(key), key)
    }

    /// As what a tree is asked with.
    pub(super) fn look(&self) -> &(dyn Look + 'a) {
        self
    }
}

impl Look for RowKey {
    fn parts(&self) -> (Head, &[u8]) {
        (self.head, &self.bytes)
    }
}

impl Look for Sought<'_> {
    fn parts(&self) -> (Head, &[u8]) {
        (self.0, self.1)
    }
}

impl<'a> Borrow<dyn Look + 'a> for RowKey {
    fn borrow(&self) -> &(dyn Look + 'a) {
        self
    }
}

fn compare(left: (Head, &[u8]), right: (Head, &[u8])) -> Ordering {
    left.0.cmp(&right.0).then_with(|| left.1.cmp(right.1))
}

impl Ord for dyn Look + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.parts(), other.parts())
    }
}

impl PartialOrd for dyn Look + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Look + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Look + '_ {}

impl Ord for RowKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.parts(), other.parts())
    }
}

impl PartialOrd for RowKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for RowKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for RowKey {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_order_is_that_of_the_bytes() {
        let long = vec![7; 40];
        let mut keys = vec![vec![], vec![0], vec![0, 0], vec![0; 16], vec![0; 17], vec![0xff; 3]];
        keys.extend((0..40).map(|length| long[..length].to_vec()));
        keys.extend((0..40).map(|at| {
            let mut key = long.clone();
            key[at] = 8;
            key
        }));
        for one in &keys {
            for two in &keys {
                let (first, second) = (Sought::new(one), Sought::new(two));
                let rows = RowKey::new(Bytes::copy_from_slice(one))
                    .cmp(&RowKey::new(Bytes::copy_from_slice(two)));
                assert_eq!(rows, one.cmp(two), "{one:?} {two:?}");
                assert_eq!(first.look().cmp(second.look()), one.cmp(two));
            }
        }
        let tree: BTreeMap<RowKey, usize> =
            keys.iter().map(|key| (RowKey::new(Bytes::copy_from_slice(key)), key.len())).collect();
        for key in &keys {
            assert_eq!(tree.get(Sought::new(key).look()), Some(&key.len()));
        }
    }
}
