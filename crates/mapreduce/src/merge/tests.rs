//! Merges against a sort of everything.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::shuffle::{LocalFetch, ShuffleWriter};
use crate::task::Unwatched;

type Pair = (Vec<u8>, Vec<u8>);

/// Writes each run as the output of a map of its own.
fn written(folder: &Path, runs: &[Vec<Pair>]) -> (LocalFetch, Vec<Bucket>) {
    let paths: Vec<PathBuf> =
        (0..runs.len()).map(|map| folder.join(format!("map-{map}"))).collect();
    for (map, run) in runs.iter().enumerate() {
        let identity = FileIdentity { job: 1, map: map as u32, attempt: 1, buckets: 1 };
        let mut writer = ShuffleWriter::create(&paths[map], identity).unwrap();
        for (key, value) in run {
            writer.push(0, key, value).unwrap();
        }
        writer.end_run().unwrap();
        writer.finish().unwrap();
    }
    let fetch = LocalFetch::new(paths);
    let buckets = (0..runs.len()).map(|map| fetch.bucket(map as u32, 0).unwrap()).collect();
    (fetch, buckets)
}

/// The merged pairs, and how many bytes went through scratch files.
fn merged(runs: &[Vec<Pair>], memory_bytes: u64) -> (Vec<Pair>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let (fetch, buckets) = written(folder.path(), runs);
    let surroundings = Surroundings {
        fetch: &fetch,
        folder: folder.path(),
        name: "test",
        memory_bytes,
        monitor: &Unwatched,
    };
    let sorted = Sorted::prepare(&buckets, surroundings).unwrap();
    let mut merge = sorted.merge().unwrap();
    let mut pairs = Vec::new();
    while let Some((key, value)) = merge.current() {
        pairs.push((key.to_vec(), value.to_vec()));
        merge.advance().unwrap();
    }
    drop(merge);
    let scratch_bytes = sorted.scratch_bytes;
    drop(sorted);
    let left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("map-"))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "scratch files are left");
    (pairs, scratch_bytes)
}

/// A stable sort by key of all runs one after the other.
fn expected(runs: &[Vec<Pair>]) -> Vec<Pair> {
    let mut all: Vec<Pair> = runs.concat();
    all.sort_by(|one, two| one.0.cmp(&two.0));
    all
}

fn numbered(runs: Vec<Vec<Vec<u8>>>) -> Vec<Vec<Pair>> {
    let mut number = 0_u32;
    let mut value = || {
        number += 1;
        number.to_be_bytes().to_vec()
    };
    let with_values = |mut keys: Vec<Vec<u8>>| {
        keys.sort();
        keys.into_iter().map(|key| (key, value())).collect()
    };
    runs.into_iter().map(with_values).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn runs_are_merged_in_order_and_equal_keys_in_the_order_of_the_runs(
        keys in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(0_u8..3, 0..12), 0..30),
            0..20,
        ),
        memory_bytes in prop::sample::select(vec![1_u64, 500, 3000, 1 << 20]),
    ) {
        let runs = numbered(keys);
        prop_assert_eq!(merged(&runs, memory_bytes).0, expected(&runs));
    }
}

#[test]
fn thousands_of_runs_are_merged_in_passes() {
    let keys = (0..3000_u32).map(|run| {
        (0..20)
            .map(move |n: u32| (run.wrapping_mul(2_654_435_761) ^ (n << 27)).to_be_bytes().to_vec())
    });
    let runs = numbered(keys.map(Iterator::collect).collect());
    let (pairs, scratch_bytes) = merged(&runs, 60_000);
    assert!(pairs == expected(&runs));
    assert!(scratch_bytes > 0);
    assert_eq!(merged(&runs, 1 << 30).1, 0);
}

#[test]
fn only_as_many_runs_are_merged_before_as_needed() {
    // Each takes 200 bytes and a bit; four of five fit.
    let runs: Vec<Vec<Pair>> = (0..5).map(|run| vec![(vec![run; 100], vec![run; 100])]).collect();
    let one = merged(&runs[..1], 1).1;
    assert_eq!(one, 0);
    let (pairs, scratch_bytes) = merged(&runs, 1000);
    assert!(pairs == expected(&runs));
    assert!(scratch_bytes > 0 && scratch_bytes < 1000, "{scratch_bytes}");
}
