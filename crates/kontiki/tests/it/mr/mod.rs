//! MapReduce by real processes that are killed, stopped and lied to.

mod costs;
mod damage;
mod farm;
mod kills;
mod labs;
mod machines;
mod process;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod s3_server;
mod store;
mod streaming;
mod takeover;
mod words;
mod work;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::form::{amount, figure, is_full, kontiki};

/// A random number below `end`, another one each time: what these tests are about comes at any
/// moment, and nobody could repeat it.
fn random(end: u64) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(end);
    hasher.finish() % end.max(1)
}

/// Asks until there is an answer, and panics when that takes too long.
fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The lines of all `mr-out-*` of a folder in byte order, as one text.
fn union(output: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(output).expect("the output folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("mr-out-") {
            all.extend(std::fs::read(&path).expect("an output"));
        }
    }
    sorted(&all)
}

fn sorted(text: &[u8]) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_unstable();
    lines.concat()
}

/// Nothing but whole outputs is in the folder.
fn nothing_half_written(output: &Path) {
    let names: BTreeSet<String> = std::fs::read_dir(output)
        .expect("the output folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().all(|name| name.starts_with("mr-out-")), "{names:?}");
}
