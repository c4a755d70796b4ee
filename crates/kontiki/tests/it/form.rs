//! Two forms of a test: `cargo test` runs the small one; `cargo xtask acceptance` sets
//! `KONTIKI_ACCEPTANCE=full` for the other, and `KONTIKI_BINARY` for the released program. What was
//! measured is printed as lines `figure NAME VALUE`.

use std::fmt::Display;
use std::path::PathBuf;

/// Whether the full form was asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("KONTIKI_ACCEPTANCE").is_some_and(|form| form == "full")
}

pub(crate) fn amount<T>(full: T, small: T) -> T {
    if is_full() { full } else { small }
}

/// The program under test.
pub(crate) fn kontiki() -> PathBuf {
    std::env::var_os("KONTIKI_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_kontiki")), PathBuf::from)
}

pub(crate) fn figure(name: &str, value: impl Display) {
    println!("figure {name} {value}");
}
