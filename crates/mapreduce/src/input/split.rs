//! Files cut into map tasks.

use serde::{Deserialize, Serialize};

use super::listing::{Codec, InputFile};
use crate::store::KeyRange;

/// Bytes of a split unless the job says otherwise.
pub const SPLIT_BYTES: u64 = 64 << 20;

/// Up to so many tasks every small file keeps a task of its own, so that a few small files are
/// still mapped in parallel; with more, small files share tasks.
const TASKS_UNPACKED_MAX: usize = 256;

/// A range of a file. It owns the lines that start in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The file's place in the input, from 0.
    pub file: u32,
    /// The file's path as it was spelled.
    pub name: Vec<u8>,
    /// How it is stored.
    pub codec: Codec,
    /// Length of the whole file when the job was planned. A file that has another length when it
    /// is read fails the attempt.
    pub file_bytes: u64,
    /// First byte.
    pub start: u64,
    /// The byte after the last one. Compressed files have one part, from 0 to their length.
    pub end: u64,
    /// If these are keys of a store: which. Then the bytes are a guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeyRange>,
}

impl Part {
    /// Bytes of the (stored) file.
    pub fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What one map task reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapTask {
    /// The task's number, from 0; X in `mr-X-Y`.
    pub number: u32,
    /// Its parts, in the order of the input.
    pub parts: Vec<Part>,
}

impl MapTask {
    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(Part::bytes).sum()
    }
}

/// Cuts files into tasks of about `split_bytes` (at least 1), in the order of the input.
pub fn plan(files: &[InputFile], split_bytes: u64) -> Vec<MapTask> {
    let split_bytes = split_bytes.max(1);
    let mut parts = Vec::new();
    for (number, file) in files.iter().enumerate() {
        cut(number as u32, file, split_bytes, &mut parts);
    }
    let packed = if parts.len() <= TASKS_UNPACKED_MAX {
        parts.into_iter().map(|part| vec![part]).collect()
    } else {
        pack(parts, split_bytes)
    };
    let numbered = packed.into_iter().enumerate();
    numbered.map(|(number, parts)| MapTask { number: number as u32, parts }).collect()
}

fn cut(number: u32, file: &InputFile, split_bytes: u64, parts: &mut Vec<Part>) {
    if let Some(keys) = &file.keys {
        let ranges = keys.ranges(file.bytes.div_ceil(split_bytes));
        let count = ranges.len() as u64;
        parts.extend((0..).zip(ranges).map(|(at, range)| Part {
            file: number,
            name: file.name.clone(),
            codec: file.codec,
            file_bytes: file.bytes,
            start: file.bytes / count * at,
            end: if at + 1 == count { file.bytes } else { file.bytes / count * (at + 1) },
            keys: Some(range),
        }));
        return;
    }
    let mut start = 0;
    loop {
        let rest = file.bytes - start;
        // The last part may be a tenth longer rather than leave a crumb.
        let whole = file.codec != Codec::Plain || rest <= split_bytes + split_bytes / 10;
        let end = if whole { file.bytes } else { start + split_bytes };
        parts.push(Part {
            file: number,
            name: file.name.clone(),
            codec: file.codec,
            file_bytes: file.bytes,
            start,
            end,
            keys: None,
        });
        if whole {
            return;
        }
        start = end;
    }
}

/// Neighbouring parts share a task up to a size at which there are still enough tasks.
fn pack(parts: Vec<Part>, split_bytes: u64) -> Vec<Vec<Part>> {
    let total: u64 = parts.iter().map(Part::bytes).sum();
    let target = (total / TASKS_UNPACKED_MAX as u64).clamp(1, split_bytes);
    let parts_max = parts.len().div_ceil(TASKS_UNPACKED_MAX);
    let mut tasks: Vec<Vec<Part>> = Vec::new();
    let mut bytes = 0;
    for part in parts {
        let length = part.bytes();
        match tasks.last_mut() {
            Some(task) if bytes + length <= target || (length == 0 && task.len() < parts_max) => {
                task.push(part);
                bytes += length;
            }
            _ => {
                tasks.push(vec![part]);
                bytes = length;
            }
        }
    }
    tasks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, bytes: u64) -> InputFile {
        InputFile { name: name.into(), bytes, codec: Codec::of(name.as_bytes()), keys: None }
    }

    fn ranges(files: &[InputFile], split_bytes: u64) -> Vec<Vec<(u32, u64, u64)>> {
        let tasks = plan(files, split_bytes);
        assert!(tasks.iter().enumerate().all(|(at, task)| task.number as usize == at));
        let parts = |task: &MapTask| {
            task.parts.iter().map(|part| (part.file, part.start, part.end)).collect()
        };
        tasks.iter().map(parts).collect()
    }

    #[test]
    fn large_files_are_cut_and_small_ones_are_not() {
        assert_eq!(
            ranges(&[file("a", 250), file("b", 3), file("c", 105)], 100),
            [
                vec![(0, 0, 100)],
                vec![(0, 100, 200)],
                vec![(0, 200, 250)],
                vec![(1, 0, 3)],
                vec![(2, 0, 105)]
            ]
        );
    }

    #[test]
    fn compressed_files_are_whole() {
        assert_eq!(ranges(&[file("a.gz", 250)], 100), [vec![(0, 0, 250)]]);
    }

    #[test]
    fn many_small_files_share_tasks() {
        let files: Vec<InputFile> = (0..10_000).map(|_| file("x", 1000)).collect();
        let tasks = plan(&files, SPLIT_BYTES);
        assert!((200..=300).contains(&tasks.len()), "{}", tasks.len());
        let files: Vec<u32> =
            tasks.iter().flat_map(|task| task.parts.iter().map(|part| part.file)).collect();
        assert_eq!(files, (0..10_000).collect::<Vec<u32>>());
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_part_in_order(
            sizes in prop::collection::vec(0_u64..5000, 0..600),
            split_bytes in 1_u64..6000,
        ) {
            let files: Vec<InputFile> = sizes.iter().map(|bytes| file("x", *bytes)).collect();
            let mut at = (0, 0);
            for (number, start, end) in ranges(&files, split_bytes).into_iter().flatten() {
                if number != at.0 {
                    prop_assert_eq!(at, (number - 1, sizes[number as usize - 1]));
                    at = (number, 0);
                }
                prop_assert_eq!(start, at.1);
                prop_assert!(end >= start && end - start <= split_bytes + split_bytes / 10);
                at.1 = end;
            }
            if let Some(last) = sizes.last() {
                prop_assert_eq!(at, (sizes.len() as u32 - 1, *last));
            }
        }
    }
}
