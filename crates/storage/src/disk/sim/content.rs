//! The bytes of one simulated file, and what of them a crash would leave.

use std::collections::BTreeMap;

const PAGE: u64 = 4096;

/// Invariant: a page that is neither in `dirty` nor in `lost` is durable as it stands.
#[derive(Clone, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    /// Pages written since the last sync → what is durable of them.
    dirty: BTreeMap<u64, Vec<u8>>,
    /// Pages whose sync failed: taken for clean by the operating system, durable in their old state.
    lost: BTreeMap<u64, Vec<u8>>,
    durable_len: u64,
    /// The memory of a page that is clean again: nearly every sync is followed by a write of one page.
    spare: Vec<u8>,
}

impl Content {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        let durable_len = bytes.len() as u64;
        Self { bytes, durable_len, ..Self::default() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let count = buffer.len().min(self.bytes.len() - start);
        buffer[..count].copy_from_slice(&self.bytes[start..start + count]);
        count
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len() as u64;
        for page in offset / PAGE..=(end - 1) / PAGE {
            self.touch(page);
        }
        if end > self.len() {
            self.bytes.resize(end as usize, 0);
        }
        self.bytes[offset as usize..end as usize].copy_from_slice(data);
    }

    pub(super) fn set_len(&mut self, length: u64) {
        for page in length / PAGE..self.len().div_ceil(PAGE) {
            self.touch(page);
        }
        if length == 0 {
            self.bytes = Vec::new();
        }
        if self.bytes.is_empty() {
            // A fresh zeroed allocation costs no memory until it is touched; growing one does.
            self.bytes = vec![0; length as usize];
        } else {
            self.bytes.resize(length as usize, 0);
        }
    }

    pub(super) fn sync(&mut self) {
        if let Some((_, page)) = self.dirty.pop_last() {
            self.spare = page;
        }
        self.dirty.clear();
        self.durable_len = self.len();
    }

    pub(super) fn fail_sync(&mut self) {
        self.lost.append(&mut self.dirty);
    }

    pub(super) fn sync_everything(&mut self) {
        self.lost.clear();
        self.sync();
    }

    pub(super) fn lose_unsynced(&mut self) {
        self.settle(|_, old| old, |durable, _| durable);
    }

    pub(super) fn crash(&mut self, random: &mut Random) {
        let keep_length = random.below(2) == 0;
        self.settle(
            |new, old| tear(new, old, random),
            |durable, now| if keep_length { now } else { durable },
        );
    }

    /// The page cache drops pages that it takes for clean: of those whose sync failed, what is read
    /// next is what is durable. Any of them, by chance.
    pub(super) fn evict(&mut self, random: &mut Random) {
        let lost = std::mem::take(&mut self.lost);
        for (page, mut durable) in lost {
            if random.below(2) == 0 {
                self.lost.insert(page, durable);
                continue;
            }
            let start = ((page * PAGE) as usize).min(self.bytes.len());
            let end = (((page + 1) * PAGE) as usize).min(self.bytes.len());
            durable.resize(end - start, 0);
            self.bytes[start..end].copy_from_slice(&durable);
        }
    }

    pub(super) fn rot(&mut self, offset: u64, change: impl FnOnce(&mut [u8])) -> bool {
        match self.bytes.get_mut(offset as usize..) {
            Some(bytes) if !bytes.is_empty() => {
                change(bytes);
                true
            }
            _ => false,
        }
    }

    fn touch(&mut self, page: u64) {
        if self.dirty.contains_key(&page) {
            return;
        }
        let durable = self.lost.remove(&page).unwrap_or_else(|| {
            let mut durable = std::mem::take(&mut self.spare);
            durable.clear();
            durable.extend_from_slice(self.page(page));
            durable
        });
        self.dirty.insert(page, durable);
    }

    fn page(&self, page: u64) -> &[u8] {
        let start = ((page * PAGE) as usize).min(self.bytes.len());
        let end = (((page + 1) * PAGE) as usize).min(self.bytes.len());
        &self.bytes[start..end]
    }

    fn settle(
        &mut self,
        mut choose: impl FnMut(Vec<u8>, Vec<u8>) -> Vec<u8>,
        length: impl FnOnce(u64, u64) -> u64,
    ) {
        let length = length(self.durable_len, self.len());
        let mut pages = std::mem::take(&mut self.dirty);
        pages.append(&mut self.lost);
        for (page, mut old) in pages {
            let mut new = self.page(page).to_vec();
            let size = PAGE as usize;
            old.resize(size, 0);
            new.resize(size, 0);
            let chosen = choose(new, old);
            let start = (page * PAGE) as usize;
            if self.bytes.len() < start + size {
                self.bytes.resize(start + size, 0);
            }
            self.bytes[start..start + size].copy_from_slice(&chosen);
        }
        self.bytes.resize(length as usize, 0);
        self.durable_len = length;
    }
}

fn tear(new: Vec<u8>, old: Vec<u8>, random: &mut Random) -> Vec<u8> {
    let at = random.below(new.len() as u64 + 1) as usize;
    match random.below(6) {
        0 | 1 => new,
        2 => old,
        3 => [&new[..at], &old[at..]].concat(),
        4 => [&old[..at], &new[at..]].concat(),
        _ => new
            .into_iter()
            .zip(old)
            .map(|(new, old)| if random.below(2) == 0 { new } else { old })
            .collect(),
    }
}

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
