//! MapReduce by real processes that are killed, stopped and lied to.
//!
//! `cargo test` runs small forms; `cargo xtask acceptance 4` sets `KONTIKI_ACCEPTANCE=full` for the
//! full ones, and `KONTIKI_BINARY` for the released program. What was measured is printed as lines
//! `figure NAME VALUE`.

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
use std::fmt::Display;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whether the full form was asked for.
fn is_full() -> bool {
    std::env::var_os("KONTIKI_ACCEPTANCE").is_some_and(|form| form == "full")
}

fn amount<T>(full: T, small: T) -> T {
    if is_full() { full } else { small }
}

/// The program under test.
fn kontiki() -> PathBuf {
    std::env::var_os("KONTIKI_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kontiki")), PathBuf::from)
}

fn figure(name: &str, value: impl Display) {
    println!("figure {name} {value}");
}

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
