//! Item 5: `kontiki chaos`, with its history kept.

use anyhow::{Result, ensure};
use std::time::Duration;

use crate::acceptance::{Context, Figures};
use crate::program::Program;

/// What starting, the last reads and judging take at the most.
const AROUND: Duration = Duration::from_secs(180);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let seconds = context.amount(600, 25);
    // Not in the scratch folder, which goes when the item has passed.
    let history = context.scratch.with_file_name("chaos-history.jsonl");
    let dir = context.scratch.join("nodes");
    let said = Program::new(&context.binary)
        .args(["chaos", "--seconds", &seconds.to_string()])
        .args([std::ffi::OsStr::new("--history"), history.as_os_str()])
        .args([std::ffi::OsStr::new("--dir"), dir.as_os_str()])
        .in_directory(&context.scratch)
        .output_within(Duration::from_secs(seconds) + AROUND)?;
    ensure!(said.contains("\nlinearizable: "), "no verdict:\n{said}");
    let operations = std::fs::read_to_string(&history)?.lines().count();
    let line = |begins: &str| {
        let found = said.lines().find_map(|line| line.strip_prefix(begins));
        found.unwrap_or_default().to_owned()
    };
    Ok(Figures::from_iter([
        ("seconds".to_owned(), seconds.into()),
        ("operations_in_history".to_owned(), operations.into()),
        ("faults".to_owned(), line("faults: ").into()),
        ("operations".to_owned(), line("operations: ").into()),
        ("longest_gap".to_owned(), line("longest time without an answer: ").into()),
    ]))
}
