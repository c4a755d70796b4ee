//! Every pair, sorted when the buffer is full. Equal keys keep the order in which they came.

use super::prefix::sort_prefix;
use super::spill::Spiller;
use crate::api::{Emit, Partition};
use crate::shuffle::{ShuffleWriter, lengths, put_varint};

/// One pair; its bytes are in the arena.
#[derive(Clone, Copy)]
struct Entry {
    prefix: u64,
    bucket: u32,
    at: u32,
}

const ENTRY_BYTES: usize = size_of::<Entry>();

/// Offsets in the arena are 32 bits.
const ARENA_BYTES_MAX: usize = 1 << 31;

/// A buffer that keeps every pair.
pub(crate) struct SortBuffer<P> {
    partition: P,
    pub(crate) spiller: Spiller,
    entries: Vec<Entry>,
    /// Pairs as they are written to runs: lengths, key, value.
    arena: Vec<u8>,
    limit: usize,
}

impl<P: Partition> SortBuffer<P> {
    /// A buffer that takes about `limit` bytes of memory.
    pub(crate) fn new(partition: P, spiller: Spiller, limit: usize) -> SortBuffer<P> {
        let limit = limit.min(ARENA_BYTES_MAX);
        SortBuffer {
            partition,
            spiller,
            // Address space only, until it is written to: growing would copy.
            entries: Vec::with_capacity(limit / ENTRY_BYTES),
            arena: Vec::with_capacity(limit),
            limit,
        }
    }

    fn spill(&mut self) -> bool {
        let arena = &self.arena;
        let key = |entry: &Entry| record(arena, entry.at).1;
        // Unstable is stable here, as no two entries have the same place.
        self.entries.sort_unstable_by(|one, two| {
            (one.bucket, one.prefix)
                .cmp(&(two.bucket, two.prefix))
                .then_with(|| key(one).cmp(key(two)).then(one.at.cmp(&two.at)))
        });
        let entries = &self.entries;
        let done = self.spiller.spill(|writer| {
            for entry in entries {
                write(writer, arena, entry)?;
            }
            Ok(entries.len() as u64)
        });
        self.entries.clear();
        self.arena.clear();
        done
    }

    /// Spills what is left and gives back the runs.
    pub(crate) fn finish(mut self) -> Spiller {
        if !self.entries.is_empty() {
            self.spill();
        }
        self.spiller
    }
}

/// A pair in the arena: the bytes of the whole record, its key, its value.
#[inline]
fn record(arena: &[u8], at: u32) -> (&[u8], &[u8], &[u8]) {
    let rest = arena.get(at as usize..).unwrap_or_default();
    let (key, value, prefix) = lengths(rest).unwrap_or_default();
    let whole = rest.get(..prefix + key + value).unwrap_or_default();
    let (key, value) =
        whole.get(prefix..).unwrap_or_default().split_at_checked(key).unwrap_or_default();
    (whole, key, value)
}

#[inline]
fn write(writer: &mut ShuffleWriter, arena: &[u8], entry: &Entry) -> std::io::Result<()> {
    let (whole, key, value) = record(arena, entry.at);
    if ShuffleWriter::is_large(whole.len()) {
        writer.push(entry.bucket, key, value)
    } else {
        writer.push_encoded(entry.bucket, whole)
    }
}

impl<P: Partition> Emit for SortBuffer<P> {
    #[inline]
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        let bytes = key.len() + value.len();
        if !self.spiller.admit(bytes) {
            return;
        }
        let bucket = self.partition.reduce_of(key, self.spiller.buckets());
        if !self.spiller.is_bucket(bucket) {
            return;
        }
        let needed = bytes + 10 + ENTRY_BYTES;
        let used = self.arena.len() + self.entries.len() * ENTRY_BYTES;
        if used + needed > self.limit && !self.entries.is_empty() {
            self.spiller.figures.full += 1;
            if !self.spill() {
                return;
            }
        }
        self.entries.push(Entry { prefix: sort_prefix(key), bucket, at: self.arena.len() as u32 });
        put_varint(&mut self.arena, key.len() as u32);
        put_varint(&mut self.arena, value.len() as u32);
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(value);
    }

    fn count(&mut self, group: &str, name: &str, amount: i64) {
        self.spiller.counters.add(group, name, amount);
    }
}
