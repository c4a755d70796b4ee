//! Item 4, and the course suites: every scenario that `kontiki sim --list` names, by `--all`.

use anyhow::{Result, ensure};
use std::time::Duration;

use crate::acceptance::{Context, Figures};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(15 * 60);
const LEAST: usize = 60;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let kontiki = || Program::new(&context.binary).in_directory(&context.scratch);
    let listed = kontiki().args(["sim", "--list"]).output()?;
    let named = listed.lines().filter(|line| line.starts_with("lab-")).count();
    ensure!(named >= LEAST, "{named} scenarios, less than {LEAST}");
    // Once for each scenario; the swarm, which also runs, has an item of its own.
    let said = kontiki().args(["sim", "--all", "--seeds", "1"]).output_within(LIMIT)?;
    let ran = said.lines().filter(|line| line.starts_with("lab-")).count();
    ensure!(ran == named, "{ran} of {named} scenarios ran:\n{said}");
    Ok(Figures::from_iter([("scenarios".to_owned(), ran.into())]))
}
