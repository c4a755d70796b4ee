//! Round trips, and files that are not what was written.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// Bucket, key and value; runs of them.
type Pair = (u32, Vec<u8>, Vec<u8>);

const IDENTITY: FileIdentity = FileIdentity { job: 7, map: 3, attempt: 11, buckets: 5 };

fn write(path: &Path, runs: &[Vec<Pair>]) {
    let mut writer = ShuffleWriter::create(path, IDENTITY).unwrap();
    for run in runs {
        for (bucket, key, value) in run {
            writer.push(*bucket, key, value).unwrap();
        }
        writer.end_run().unwrap();
    }
    writer.finish().unwrap();
}

fn fetch(path: &Path) -> LocalFetch {
    let mut paths = vec![PathBuf::new(); 3];
    paths.push(path.to_owned());
    LocalFetch::new(paths)
}

/// All runs as they are read, empty ones left out.
fn read(path: &Path, ahead_bytes: usize) -> Result<Vec<Vec<Pair>>, ShuffleError> {
    let fetch = fetch(path);
    let mut runs = Vec::new();
    for bucket in 0..IDENTITY.buckets {
        let found = fetch.bucket(3, bucket)?;
        for run in &found.runs {
            let mut reader = RunReader::new(&fetch, &found.file, bucket, *run, ahead_bytes);
            let mut pairs = Vec::new();
            while reader.advance()? {
                pairs.push((bucket, reader.key().to_vec(), reader.value().to_vec()));
            }
            runs.push(pairs);
        }
    }
    Ok(runs)
}

/// What reading gives: by bucket, then by run.
fn expected(runs: &[Vec<Pair>]) -> Vec<Vec<Pair>> {
    let mut expected = Vec::new();
    for bucket in 0..IDENTITY.buckets {
        for run in runs {
            let pairs: Vec<Pair> = run.iter().filter(|pair| pair.0 == bucket).cloned().collect();
            if !pairs.is_empty() {
                expected.push(pairs);
            }
        }
    }
    expected
}

fn pair(bucket: u32, key: &str, value: &str) -> Pair {
    (bucket, key.into(), value.into())
}

#[test]
fn names_of_buckets() {
    assert_eq!(bucket_name(12, 3), "mr-12-3");
    assert_eq!(parse_bucket_name("mr-12-3"), Some((12, 3)));
    for wrong in ["mr-12", "mr-out-3", "mr--1-3", "12-3", "mr-1-2-3"] {
        assert_eq!(parse_bucket_name(wrong), None, "{wrong}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(
        runs in prop::collection::vec(
            prop::collection::vec(
                (0..IDENTITY.buckets, prop::collection::vec(0_u8..4, 0..200), any::<Vec<u8>>()),
                0..40,
            ),
            0..5,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut runs = runs;
        runs.iter_mut().for_each(|run| run.sort());
        write(&path, &runs);
        prop_assert_eq!(read(&path, 0).unwrap(), expected(&runs));
    }
}

#[test]
fn large_and_many_records_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let mut state = 1_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    };
    let mut run: Vec<Pair> = (0..30_000).map(|n| (n / 6000, noise(20), noise(30))).collect();
    run.push((1, noise(300_000), noise(10)));
    run.push((1, noise(10), noise(700_000)));
    run.push((4, vec![b'x'; 200_000], vec![b'y'; 20_000]));
    run.sort();
    let runs = vec![run.clone(), run];
    write(&path, &runs);
    for ahead_bytes in [0, 100_000, 1 << 20] {
        assert!(read(&path, ahead_bytes).unwrap() == expected(&runs));
    }
}

fn small_file(folder: &Path) -> (PathBuf, Vec<Vec<Pair>>) {
    let path = folder.join("f");
    let runs = vec![
        vec![
            pair(0, "a", "1"),
            pair(0, "a", "22"),
            pair(2, "b", ""),
            pair(4, &"k".repeat(300), "v"),
        ],
        vec![pair(0, "", "x"), pair(2, "b", "y"), pair(2, "c", "z")],
    ];
    write(&path, &runs);
    (path, runs)
}

/// A damaged file gives an error, or else exactly what was written.
fn check_damaged(folder: &Path, bytes: &[u8], expect: &[Vec<Pair>], what: &str) -> bool {
    let path = folder.join("damaged");
    fs::write(&path, bytes).unwrap();
    match read(&path, 0) {
        Ok(found) => {
            assert_eq!(found, expect, "{what}");
            false
        }
        Err(error) => {
            assert_eq!(error.map(), 3);
            true
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, runs) = small_file(folder.path());
    let bytes = fs::read(path).unwrap();
    let expect = expected(&runs);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let what = format!("bit {bit} of byte {at}");
            assert!(check_damaged(folder.path(), &damaged, &expect, &what), "{what} not found");
        }
    }
}

#[test]
fn every_missing_and_every_zeroed_end_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, runs) = small_file(folder.path());
    let bytes = fs::read(path).unwrap();
    let expect = expected(&runs);
    for length in 0..bytes.len() {
        let what = format!("cut to {length}");
        assert!(check_damaged(folder.path(), &bytes[..length], &expect, &what), "{what}");
        let mut zeroed = bytes[..length].to_vec();
        zeroed.resize(bytes.len(), 0);
        if zeroed != bytes {
            let what = format!("zeroed from {length}");
            assert!(check_damaged(folder.path(), &zeroed, &expect, &what), "{what}");
        }
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(check_damaged(folder.path(), &longer, &expect, "longer"));
}

#[test]
fn every_zeroed_range_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (path, runs) = small_file(folder.path());
    let bytes = fs::read(path).unwrap();
    let expect = expected(&runs);
    for start in (0..bytes.len()).step_by(3) {
        for length in [1, 2, 4, 8, 20, 24, 40, 64, 200] {
            let mut damaged = bytes.clone();
            let end = (start + length).min(bytes.len());
            damaged[start..end].fill(0);
            if damaged != bytes {
                let what = format!("zeros from {start} to {end}");
                assert!(check_damaged(folder.path(), &damaged, &expect, &what), "{what}");
            }
        }
    }
}

#[test]
fn a_block_from_elsewhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    // Two buckets with blocks of the same length.
    write(&path, &[vec![pair(0, "a", "1"), pair(1, "b", "2")]]);
    let mut bytes = fs::read(&path).unwrap();
    let runs: Vec<Run> =
        (0..2).map(|bucket| fetch(&path).bucket(3, bucket).unwrap().runs[0]).collect();
    let [one, two] = [runs[0], runs[1]].map(|run| run.offset as usize);
    let length = runs[0].stored_bytes as usize;
    assert_eq!(runs[0].stored_bytes, runs[1].stored_bytes);
    let block = bytes[one..one + length].to_vec();
    bytes[two..two + length].copy_from_slice(&block);
    assert!(check_damaged(folder.path(), &bytes, &[], "a block of another bucket"));
}

#[test]
fn files_of_other_maps_and_versions_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = small_file(folder.path());
    assert!(ShuffleFile::open(&path, 4).is_err());
    assert!(matches!(
        ShuffleFile::open(&folder.path().join("none"), 3),
        Err(ShuffleError::Lost { map: 3, .. })
    ));
    let file = ShuffleFile::open(&path, 3).unwrap();
    assert!(file.bucket(5).is_err());
    assert_eq!(file.bucket(1).unwrap().runs, []);
}

proptest! {
    #[test]
    fn any_bytes_are_no_shuffle_file_and_no_panic(bytes: Vec<u8>, at in 0_usize..2000, byte: u8) {
        let folder = tempfile::tempdir().unwrap();
        prop_assert!(check_damaged(folder.path(), &bytes, &[], "any bytes"));
        // Nearly right, which gets further.
        let (path, runs) = small_file(folder.path());
        let mut nearly = fs::read(path).unwrap();
        let at = at % nearly.len();
        nearly.splice(at..at, bytes.iter().copied().chain([byte]));
        check_damaged(folder.path(), &nearly, &expected(&runs), "more bytes");
    }
}
