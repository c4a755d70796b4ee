//! Item 3: each planted bug is looked for by the swarm. A small run looks for a few that are found
//! quickly, one search each.

use anyhow::{Result, ensure};
use std::time::Duration;

use crate::acceptance::{Context, Figures};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(55 * 60);
/// Found by the first few seeds.
const QUICK: [&str; 4] =
    ["vote-before-sync", "leader-counts-unsynced", "records-by-seq-alone", "pair-reordered"];
const LEAST: usize = 20;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let searches = context.amount(["5", "2000"], ["1", "500"]);
    let names: &[&str] = context.amount(&[], &QUICK);
    let said = Program::new("cargo")
        .args(["run", "--locked", "--release", "--quiet", "-p", "kontiki-sim"])
        .args(["--features", "plants", "--example", "plants", "--"])
        .args(searches)
        .args(names)
        .in_directory(&context.root)
        .output_within(LIMIT)?;
    let rows: Vec<&str> = said.lines().filter(|line| line.contains(" | ")).collect();
    let least = context.amount(LEAST, QUICK.len());
    ensure!(rows.len() >= least, "{} planted bugs, less than {least}:\n{said}", rows.len());
    let median = |row: &&str| {
        let mut cells = row.split(" | ").map(str::trim);
        Some((cells.next()?.to_owned(), cells.next()?.parse::<u64>().ok()?))
    };
    let medians: Vec<_> = rows.iter().filter_map(median).collect();
    ensure!(medians.len() == rows.len(), "not all are found:\n{said}");
    Ok(medians.into_iter().map(|(name, seeds)| (name, seeds.into())).collect())
}
