//! Item 3: each planted bug is looked for by the swarm. A small run looks for those that are found
//! quickly, once each, by a test.

use anyhow::{Result, ensure};
use std::time::Duration;

use crate::acceptance::{Context, Figures};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(55 * 60);
const LEAST: usize = 20;
const SEARCHES: &str = "5";
const SEEDS_MAX: &str = "2000";

pub(super) fn run(context: &Context) -> Result<Figures> {
    let cargo = |words: &[&str]| {
        let common = ["--locked", "--release", "-p", "kontiki-sim", "--features", "plants"];
        let words = words[..1].iter().chain(&common).chain(&words[1..]);
        Program::new("cargo").args(words).in_directory(&context.root).output_within(LIMIT)
    };
    if context.small {
        let said = cargo(&["test", "--test", "plants"])?;
        ensure!(said.contains("test result: ok. ") && !said.contains(" 0 passed"), "{said}");
        return Ok(Figures::from_iter([("how".to_owned(), "the quick ones, by a test".into())]));
    }
    let said = cargo(&["run", "--quiet", "--example", "plants", "--", SEARCHES, SEEDS_MAX])?;
    let rows: Vec<&str> = said.lines().filter(|line| line.contains(" | ")).collect();
    ensure!(rows.len() >= LEAST, "{} planted bugs, less than {LEAST}:\n{said}", rows.len());
    let median = |row: &&str| {
        let mut cells = row.split(" | ").map(str::trim);
        Some((cells.next()?.to_owned(), cells.next()?.parse::<u64>().ok()?))
    };
    let medians: Vec<_> = rows.iter().filter_map(median).collect();
    ensure!(medians.len() == rows.len(), "not all are found:\n{said}");
    Ok(medians.into_iter().map(|(name, seeds)| (name, seeds.into())).collect())
}
