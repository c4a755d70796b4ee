//! Which operation comes next: keys, values, reads and writes, all from one seed.

use crate::random::Random;

/// A read or a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

/// One operation on the key of this number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub kind: Kind,
    pub key: u64,
}

/// Length of every key: `key:` and twelve digits.
pub(crate) const KEY_BYTES: usize = 16;

/// The key of this number.
pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        // The remainder of a division by ten is one digit.
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Random bytes from which every value is cut, so that making one costs nothing and no two
/// neighbours are equal or compressible.
const POOL_EXTRA_BYTES: usize = 64 * 1024;

/// The operations of one client.
#[derive(Debug)]
pub(crate) struct Workload {
    random: Random,
    keys: u64,
    read_share: f64,
    value_bytes: usize,
    pool: std::rc::Rc<[u8]>,
}

/// The bytes that [`Workload::value`] cuts values from, shared by all clients.
pub(crate) fn value_pool(seed: u64, value_bytes: usize) -> std::rc::Rc<[u8]> {
    let mut random = Random::new(seed ^ 0x76616c7565);
    let mut pool = vec![0; value_bytes + POOL_EXTRA_BYTES];
    random.fill(&mut pool);
    pool.into()
}

impl Workload {
    pub(crate) fn new(options: &super::KvOptions, client: usize, pool: std::rc::Rc<[u8]>) -> Self {
        Self {
            random: Random::new(options.seed.wrapping_mul(0x1_0000_0001) ^ client as u64),
            keys: options.keys,
            read_share: options.read_share,
            value_bytes: options.value_bytes,
            pool,
        }
    }

    /// The next operation of the measured kind.
    pub(crate) fn next(&mut self) -> Operation {
        let read = self.read_share > 0.0 && self.random.unit() < self.read_share;
        let kind = if read { Kind::Read } else { Kind::Write };
        Operation { kind, key: self.random.below(self.keys) }
    }

    /// A value to write.
    pub(crate) fn value(&mut self) -> &[u8] {
        let start = self.random.below(POOL_EXTRA_BYTES as u64) as usize;
        &self.pool[start..start + self.value_bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{KvOptions, Target};

    fn operations(seed: u64, client: usize, read_share: f64) -> Vec<(Kind, u64)> {
        let mut options = KvOptions::new(Target::Redis, Vec::new());
        (options.seed, options.read_share, options.keys) = (seed, read_share, 100);
        let mut workload = Workload::new(&options, client, value_pool(seed, 128));
        (0..1000)
            .map(|_| workload.next())
            .map(|operation| (operation.kind, operation.key))
            .collect()
    }

    #[test]
    fn a_key_has_sixteen_bytes() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(123_456), b"key:000000123456");
    }

    #[test]
    fn the_same_seed_gives_the_same_operations_and_each_client_its_own() {
        assert_eq!(operations(7, 3, 0.5), operations(7, 3, 0.5));
        assert_ne!(operations(7, 3, 0.5), operations(8, 3, 0.5));
        assert_ne!(operations(7, 3, 0.5), operations(7, 4, 0.5));
    }

    #[test]
    fn the_read_share_is_kept_and_all_keys_are_used() {
        let reads = |share| {
            let operations = operations(1, 0, share);
            assert!(operations.iter().all(|(_, key)| *key < 100));
            operations.iter().filter(|(kind, _)| *kind == Kind::Read).count()
        };
        assert_eq!(reads(0.0), 0);
        assert_eq!(reads(1.0), 1000);
        assert!((200..300).contains(&reads(0.25)));
    }
}
