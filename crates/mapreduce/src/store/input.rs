//! Keys as input: a view that is opened when the input is listed, and read in ranges.
//!
//! The view is of one node. If that node is gone, so is the view, and with it the job: nobody else has
//! the state of that index any more.

use std::io::{self, Read};

use bytes::Bytes;
use kontiki_client::{Client, GroupView, Page, Row, ViewId};
use serde::{Deserialize, Serialize};

use super::{StoreUrl, block_on, client, lines, told};
use crate::input::{InputError, InputFile};

/// Ranges that are remembered of a listed prefix: a job has no more maps of it.
const RANGES_MAX: u32 = 1024;

/// Ranges that are looked into to guess how much there is.
const LOOKS: usize = 8;

/// Read at each of them.
const LOOK_BYTES: u32 = 64 << 10;

/// Read at a time.
const PAGE_BYTES: u32 = 1 << 20;

/// All positions.
const ALL: (u64, u64) = (0, u64::MAX);

/// The keys of a prefix as they are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKeys {
    /// The node with the view.
    pub address: String,
    /// The view.
    pub view: u64,
    /// The applied index that the view is of.
    pub index: u64,
    /// Where ranges with about as many keys begin, and where the last one ends.
    pub cuts: Vec<u64>,
}

/// A range of a view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The node with the view.
    pub address: String,
    /// The view.
    pub view: u64,
    /// The applied index that the view is of.
    pub index: u64,
    /// The first position.
    pub from: u64,
    /// The position after the last one.
    pub to: u64,
}

impl ListedKeys {
    /// About equal ranges that together are everything; at most `ranges`, at least one.
    pub(crate) fn ranges(&self, ranges: u64) -> Vec<KeyRange> {
        let known = self.cuts.len().saturating_sub(1) as u64;
        let ranges = ranges.clamp(1, known.max(1));
        let cut = |number: u64| {
            let at = usize::try_from(number * known / ranges).unwrap_or(usize::MAX);
            self.cuts.get(at).copied().unwrap_or(u64::MAX)
        };
        let range = |number| KeyRange {
            address: self.address.clone(),
            view: self.view,
            index: self.index,
            from: cut(number),
            to: cut(number + 1),
        };
        (0..ranges).map(range).collect()
    }
}

/// Lists the keys of a URL: opens a view of each group, as an input file each.
pub(crate) fn list(url: &[u8]) -> Result<Vec<InputFile>, InputError> {
    let name = || String::from_utf8_lossy(url).into_owned();
    let failed = |source| InputError::Unreadable { name: name(), source };
    let parsed = StoreUrl::parse(url).map_err(failed)?;
    let listed = block_on(async {
        let views = client(&parsed.addresses, true).await?.open_views().await;
        let views = views.map_err(|error| told(&error))?;
        let mut files = Vec::new();
        for GroupView { address, node, opened, .. } in views.groups.iter().cloned() {
            let cuts = node.cut_view(opened.view, &parsed.prefix, RANGES_MAX).await;
            let cuts = cuts.map_err(|error| told(&error))?;
            let bytes = guess(&node, opened.view, &parsed.prefix, opened.keys, &cuts).await?;
            if bytes == 0 {
                // A kindness: it would be dropped by itself.
                let _ = node.close_view(opened.view).await;
                continue;
            }
            let (view, index) = (opened.view.0, opened.applied_index);
            let keys = ListedKeys { address, view, index, cuts };
            files.push(InputFile { keys: Some(keys), ..InputFile::plain(url.to_vec(), bytes) });
        }
        Ok(files)
    });
    let files = listed.map_err(failed)?;
    if files.is_empty() {
        return Err(InputError::Absent(format!("key that begins as in {}", name())));
    }
    Ok(files)
}

/// About how many bytes the lines of a prefix have; 0 if there are none.
async fn guess(
    client: &Client,
    view: ViewId,
    prefix: &Bytes,
    keys: u64,
    cuts: &[u64],
) -> io::Result<u64> {
    let ranges: Vec<(u64, u64)> = cuts.windows(2).filter_map(pair).collect();
    let (mut bytes, mut looked_at) = (0, 0);
    for range in ranges.iter().step_by(ranges.len().div_ceil(LOOKS).max(1)) {
        let page = client.read_view(view, prefix, *range, None, LOOK_BYTES).await;
        let page = page.map_err(|error| told(&error))?;
        bytes += bytes_of(&page);
        looked_at += page.looked_at;
    }
    if bytes > 0 {
        let all = u128::from(bytes) * u128::from(keys) / u128::from(looked_at.max(1));
        return Ok(u64::try_from(all).unwrap_or(u64::MAX).max(bytes));
    }
    let first = first_page(client, view, prefix).await?;
    Ok(bytes_of(&first))
}

fn pair(of: &[u64]) -> Option<(u64, u64)> {
    Some((*of.first()?, *of.get(1)?))
}

fn bytes_of(page: &Page) -> u64 {
    page.rows.iter().map(|row| (row.key.len() + row.value.len() + 2) as u64).sum()
}

/// The first page with a key; empty if there is none.
async fn first_page(client: &Client, view: ViewId, prefix: &Bytes) -> io::Result<Page> {
    let mut after = None;
    loop {
        let page = client.read_view(view, prefix, ALL, after, 1).await;
        let page = page.map_err(|error| told(&error))?;
        if !page.rows.is_empty() || page.last.is_none() {
            return Ok(page);
        }
        after = page.last;
    }
}

/// Some lines of a prefix, from all over it: of at most `places` places, so many each.
pub(crate) fn sample_lines(
    url: &[u8],
    keys: &ListedKeys,
    places: u64,
    per_place: usize,
) -> io::Result<Vec<Vec<u8>>> {
    let prefix = StoreUrl::parse(url)?.prefix;
    let mut found = Vec::new();
    for range in keys.ranges(places) {
        let mut reader = KeysReader::of(&prefix, range, LOOK_BYTES.min(8 << 10));
        reader.fill()?;
        let lines = reader.lines.split_inclusive(|byte| *byte == b'\n').take(per_place);
        found.extend(lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec()));
    }
    Ok(found)
}

/// The lines of a range, one after the other.
pub(crate) struct KeysReader {
    prefix: Bytes,
    range: KeyRange,
    page_bytes: u32,
    after: Option<Bytes>,
    is_at_end: bool,
    lines: Vec<u8>,
    given: usize,
}

impl KeysReader {
    /// A reader of a range of the keys of a URL.
    pub(crate) fn open(url: &[u8], range: KeyRange) -> io::Result<Self> {
        Ok(Self::of(&StoreUrl::parse(url)?.prefix, range, PAGE_BYTES))
    }

    fn of(prefix: &Bytes, range: KeyRange, page_bytes: u32) -> Self {
        let (prefix, lines) = (prefix.clone(), Vec::new());
        Self { prefix, range, page_bytes, after: None, is_at_end: false, lines, given: 0 }
    }

    /// Gets more lines, unless all have been read.
    fn fill(&mut self) -> io::Result<()> {
        self.lines.clear();
        self.given = 0;
        while self.lines.is_empty() && !self.is_at_end {
            let KeyRange { address, view, index, from, to } = &self.range;
            let after = self.after.take();
            let read = block_on(async {
                let client = client(std::slice::from_ref(address), false).await?;
                let (view, range) = (ViewId(*view), (*from, *to));
                let page = client.read_view(view, &self.prefix, range, after, self.page_bytes);
                page.await.map_err(|error| told(&error))
            });
            let page = read.map_err(|error| {
                let why = format!("the keys as of index {index} on {address}: {error}");
                io::Error::new(error.kind(), why)
            })?;
            for Row { key, value, .. } in &page.rows {
                let key = key.get(self.prefix.len()..).unwrap_or_default();
                lines::write(key, value, &mut self.lines);
            }
            self.is_at_end = page.last.is_none();
            self.after = page.last;
        }
        Ok(())
    }
}

impl Read for KeysReader {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.given == self.lines.len() {
            self.fill()?;
        }
        let rest = self.lines.get(self.given..).unwrap_or_default();
        let length = rest.len().min(room.len());
        if let (Some(room), Some(rest)) = (room.get_mut(..length), rest.get(..length)) {
            room.copy_from_slice(rest);
        }
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_one_another_from_end_to_end() {
        let listed = |cuts: &[u64]| ListedKeys {
            address: "a:1".into(),
            view: 1,
            index: 2,
            cuts: cuts.to_vec(),
        };
        let cuts: Vec<u64> = (0..=10).map(|at| at * 10).collect();
        for wanted in [0, 1, 3, 10, 99] {
            let ranges = listed(&cuts).ranges(wanted);
            assert_eq!(ranges.len() as u64, wanted.clamp(1, 10));
            assert_eq!((ranges[0].from, ranges[ranges.len() - 1].to), (0, 100));
            assert!(ranges.windows(2).all(|pair| pair[0].to == pair[1].from));
        }
        assert_eq!(listed(&[5, 6]).ranges(7).len(), 1);
    }
}
