//! Bytes that somebody else may have written: shuffle files. Reading one gives what was written or
//! an error, and never panics or reserves what a length in it claims.

use std::fs;
use std::path::Path;

use kontiki_mapreduce::shuffle::{
    Fetch, FileIdentity, LocalFetch, RunReader, ShuffleError, ShuffleWriter,
};

const IDENTITY: FileIdentity = FileIdentity { job: 1, map: 0, attempt: 2, buckets: 3 };

type Pairs = Vec<(u32, Vec<u8>, Vec<u8>)>;

/// A file with several blocks, compressed and not, and two runs.
fn write(path: &Path) -> Pairs {
    let mut writer = ShuffleWriter::create(path, IDENTITY).unwrap();
    let mut pairs = Vec::new();
    for run in 0..2_u32 {
        for number in 0..300_u32 {
            let (bucket, key) = (number / 200, format!("{:06}", number * 2 + run).into_bytes());
            let noise =
                number.wrapping_mul(2_654_435_761).to_le_bytes().repeat(1 + number as usize % 9);
            writer.push(bucket, &key, &noise).unwrap();
            pairs.push((bucket, key, noise));
        }
        writer.end_run().unwrap();
    }
    writer.finish().unwrap();
    // Read by bucket, then by run.
    pairs.sort_by_key(|(bucket, ..)| *bucket);
    pairs
}

fn read(path: &Path) -> Result<Pairs, ShuffleError> {
    let fetch = LocalFetch::new(vec![path.to_owned()]);
    let mut pairs = Vec::new();
    for bucket in 0..IDENTITY.buckets {
        let found = fetch.bucket(0, bucket)?;
        for run in &found.runs {
            let mut reader = RunReader::new(&fetch, &found.file, bucket, *run, 0);
            while reader.advance()? {
                pairs.push((bucket, reader.key().to_vec(), reader.value().to_vec()));
            }
        }
    }
    Ok(pairs)
}

#[test]
fn any_edits_of_a_shuffle_file_are_found_or_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good");
    let expect = write(&path);
    assert!(read(&path).unwrap() == expect);
    let good = fs::read(&path).unwrap();
    let edited = folder.path().join("edited");
    // Five bytes of the input are an edit: where, what, and whether to cut there.
    bolero::check!().with_iterations(2_000).for_each(|edits: &[u8]| {
        let mut bytes = good.clone();
        for edit in edits.chunks_exact(5) {
            let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize % bytes.len();
            match edit[3] % 8 {
                0 => bytes.truncate(at.max(1)),
                1 => bytes.insert(at, edit[4]),
                2 => bytes[at..].fill(0),
                3 => bytes.rotate_left(at % 64),
                _ => bytes[at] ^= edit[4],
            }
        }
        fs::write(&edited, &bytes).unwrap();
        match read(&edited) {
            Ok(found) => assert!(found == expect, "a wrong pair was read"),
            Err(error) => assert_eq!(error.map(), 0),
        }
    });
}

#[test]
fn any_bytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bytes");
    bolero::check!().with_iterations(2_000).for_each(|bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        assert!(read(&path).is_err());
    });
}
