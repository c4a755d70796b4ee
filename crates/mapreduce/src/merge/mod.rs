//! Sorted runs merged into one stream, however many there are, within a budget of memory.
//!
//! What must be in memory for a run is known from the index: its largest block, and a piece of the
//! file ahead. If that is too much for all runs together, neighbouring runs are first merged into
//! larger ones in scratch files, as few as possible, until the rest fits. The order of equal keys is
//! kept: it is that of the runs.

mod scratch;
mod tree;

use std::path::Path;

use scratch::Scratch;
use tree::Tree;

use crate::error::TaskError;
use crate::shuffle::{Bucket, Fetch, FileIdentity, Run, RunReader};
use crate::task::Monitor;

/// Read ahead of each run when memory is plenty.
const AHEAD_BYTES: usize = 256 * 1024;

/// Records between two looks at the monitor.
const RECORDS_PER_LOOK: u32 = 4096;

/// Merged however large they are: below two there is nothing to merge.
const RUNS_MIN: usize = 2;

/// A run, and where it is.
#[derive(Clone, Copy)]
struct Place {
    origin: Origin,
    file: FileIdentity,
    bucket: u32,
    run: Run,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Fetched,
    Scratch,
}

impl Place {
    fn memory(&self) -> u64 {
        RunReader::memory(&self.run, 0)
    }
}

/// What a merge needs beside the runs.
pub(crate) struct Surroundings<'a> {
    pub fetch: &'a dyn Fetch,
    /// Where scratch files go.
    pub folder: &'a Path,
    /// Makes their names unique.
    pub name: &'a str,
    /// Bytes for the runs' blocks and pieces.
    pub memory_bytes: u64,
    pub monitor: &'a dyn Monitor,
}

/// Runs that fit in memory together, and the scratch files that some of them are in.
pub(crate) struct Sorted<'a> {
    surroundings: Surroundings<'a>,
    scratch: Scratch,
    places: Vec<Place>,
    /// Bytes that were written to scratch files.
    pub(crate) scratch_bytes: u64,
}

impl<'a> Sorted<'a> {
    /// Merges runs of `buckets` (in this order) until the rest fits in memory.
    pub(crate) fn prepare(
        buckets: &[Bucket],
        surroundings: Surroundings<'a>,
    ) -> Result<Sorted<'a>, TaskError> {
        let places = buckets.iter().flat_map(|bucket| {
            let place = |run: &Run| Place {
                origin: Origin::Fetched,
                file: bucket.file,
                bucket: bucket.bucket,
                run: *run,
            };
            bucket.runs.iter().map(place)
        });
        let mut places: Vec<Place> = places.filter(|place| place.run.records > 0).collect();
        let mut scratch = Scratch::new(surroundings.folder, surroundings.name);
        let mut scratch_bytes = 0;
        while let Some(passed) = pass(&places, &surroundings, &mut scratch, &mut scratch_bytes)? {
            places = passed;
        }
        Ok(Sorted { surroundings, scratch, places, scratch_bytes })
    }

    /// The merged records.
    pub(crate) fn merge(&self) -> Result<Merge<'_>, TaskError> {
        open(&self.places, &self.surroundings, &self.scratch)
    }

    /// Records of all runs.
    pub(crate) fn records(&self) -> u64 {
        self.places.iter().map(|place| place.run.records).sum()
    }
}

/// One pass over the runs from the first one on: groups are merged until the rest fits. Nothing if
/// it fits already.
fn pass(
    places: &[Place],
    surroundings: &Surroundings<'_>,
    scratch: &mut Scratch,
    scratch_bytes: &mut u64,
) -> Result<Option<Vec<Place>>, TaskError> {
    let budget = surroundings.memory_bytes;
    let mut left: u64 = places.iter().map(Place::memory).sum();
    if left <= budget || places.len() <= RUNS_MIN {
        return Ok(None);
    }
    let mut merged: Vec<Place> = Vec::new();
    let mut rest = places;
    while !rest.is_empty() {
        let settled: u64 = merged.iter().map(Place::memory).sum();
        if settled + left <= budget {
            break;
        }
        let length = group_length(rest, budget);
        let (group, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        left -= group.iter().map(Place::memory).sum::<u64>();
        rest = after;
        if let [single] = group {
            merged.push(*single);
            continue;
        }
        let place = merge_to_scratch(group, surroundings, scratch)?;
        *scratch_bytes += place.run.stored_bytes;
        merged.push(place);
    }
    merged.extend_from_slice(rest);
    scratch.forget_all_but(|file| {
        merged.iter().any(|place| place.origin == Origin::Scratch && place.file.map == file)
    });
    Ok(Some(merged))
}

/// How many runs from the first on are merged at once.
fn group_length(places: &[Place], budget: u64) -> usize {
    let mut sum = 0;
    let fitting = places.iter().take_while(|place| {
        sum += place.memory();
        sum <= budget
    });
    fitting.count().max(RUNS_MIN).min(places.len())
}

fn merge_to_scratch(
    group: &[Place],
    surroundings: &Surroundings<'_>,
    scratch: &mut Scratch,
) -> Result<Place, TaskError> {
    let mut pen = scratch.begin()?;
    let mut merge = open(group, surroundings, scratch)?;
    while let Some((key, value)) = merge.current() {
        pen.push(key, value)?;
        merge.advance()?;
    }
    drop(merge);
    let (file, run) = scratch.finish(pen)?;
    Ok(Place { origin: Origin::Scratch, file, bucket: 0, run })
}

fn open<'b>(
    places: &[Place],
    surroundings: &Surroundings<'b>,
    scratch: &'b Scratch,
) -> Result<Merge<'b>, TaskError> {
    // What is left of the budget lengthens the pieces that are read ahead.
    let least: u64 = places.iter().map(Place::memory).sum();
    let spare = surroundings.memory_bytes.saturating_sub(least) / places.len().max(1) as u64;
    let ahead = (72 * 1024 + usize::try_from(spare).unwrap_or(usize::MAX / 2)).min(AHEAD_BYTES);
    let readers = places.iter().map(|place| {
        let fetch = match place.origin {
            Origin::Fetched => surroundings.fetch,
            Origin::Scratch => scratch,
        };
        let reader = RunReader::new(fetch, &place.file, place.bucket, place.run, ahead);
        (reader, place.origin == Origin::Scratch)
    });
    let tree = Tree::new(readers.collect(), scratch)?;
    Ok(Merge { tree, monitor: surroundings.monitor, until_look: RECORDS_PER_LOOK })
}

/// The records of several runs in order of key; equal keys in the order of the runs.
pub(crate) struct Merge<'a> {
    tree: Tree<'a>,
    monitor: &'a dyn Monitor,
    until_look: u32,
}

impl Merge<'_> {
    /// Key and value of the current record; nothing after the last one.
    #[inline]
    pub(crate) fn current(&self) -> Option<(&[u8], &[u8])> {
        self.tree.current()
    }

    /// Goes to the next record.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<(), TaskError> {
        self.until_look -= 1;
        if self.until_look == 0 {
            self.until_look = RECORDS_PER_LOOK;
            if self.monitor.is_cancelled() {
                return Err(TaskError::Cancelled);
            }
            self.monitor.advanced(u64::from(RECORDS_PER_LOOK));
        }
        self.tree.advance()
    }
}

#[cfg(test)]
mod tests;
