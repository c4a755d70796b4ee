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
const HANDOFF_LEAST: usize = 11;
const HANDOFF_SEEDS_MAX: &str = "400";

/// A build with bugs to plant.
fn cargo(context: &Context, words: &[&str]) -> Result<String> {
    let common = ["--locked", "--release", "-p", "kontiki-sim", "--features", "plants"];
    let words = words[..1].iter().chain(&common).chain(&words[1..]);
    Program::new("cargo").args(words).in_directory(&context.root).output_within(LIMIT)
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    if context.small {
        return by_test(context, "each_seed_passes");
    }
    by_search(context, &[SEARCHES, SEEDS_MAX, "store"], LEAST)
}

/// The bugs of the handoff of slots, which a sharded store shows.
pub(in crate::acceptance) fn of_handoff(context: &Context) -> Result<Figures> {
    if context.small {
        return by_test(context, "of_the_handoff");
    }
    by_search(context, &[SEARCHES, HANDOFF_SEEDS_MAX, "handoff"], HANDOFF_LEAST)
}

/// Those that are found quickly, once each.
fn by_test(context: &Context, name: &str) -> Result<Figures> {
    let said = cargo(context, &["test", "--test", "plants", name])?;
    ensure!(said.contains("test result: ok. ") && !said.contains(" 0 passed"), "{said}");
    Ok(Figures::from_iter([("how".to_owned(), "the quick ones, by a test".into())]))
}

/// Medians of several searches for each.
fn by_search(context: &Context, words: &[&str], least: usize) -> Result<Figures> {
    let words: Vec<_> =
        ["run", "--quiet", "--example", "plants", "--"].iter().chain(words).collect();
    let words: Vec<&str> = words.into_iter().copied().collect();
    let said = cargo(context, &words)?;
    let rows: Vec<&str> = said.lines().filter(|line| line.contains(" | ")).collect();
    ensure!(rows.len() >= least, "{} planted bugs, less than {least}:\n{said}", rows.len());
    let median = |row: &&str| {
        let mut cells = row.split(" | ").map(str::trim);
        Some((cells.next()?.to_owned(), cells.next()?.parse::<u64>().ok()?))
    };
    let medians: Vec<_> = rows.iter().filter_map(median).collect();
    ensure!(medians.len() == rows.len(), "not all are found:\n{said}");
    Ok(medians.into_iter().map(|(name, seeds)| (name, seeds.into())).collect())
}
