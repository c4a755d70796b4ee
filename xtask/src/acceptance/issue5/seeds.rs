//! Item 8: seeds of the simulator with a sharded store, whose slots move all the while under all
//! faults; and the planted bugs of the handoff, each of which must be found.
//!
//! A full run goes part by part, and notes what has passed: called again on the same commit it goes
//! on where it stopped.

use anyhow::{Context as _, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::acceptance::issue3::{number_behind, plants};
use crate::acceptance::{Context, Figures};
use crate::program::Program;

const SEEDS: u64 = 10_000;
/// Seeds of a part.
const PART: u64 = 250;
const SEEDS_SMALL: u64 = 24;
/// What the command counts, and a full run must have seen.
const TOTALS: [&str; 7] = [
    "moves",
    "groups that joined",
    "snapshots installed in the middle of moves",
    "virtual hours",
    "operations",
    "faults",
    "crashes",
];
const PART_LIMIT: Duration = Duration::from_secs(20 * 60);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let passed = Passed::open(context)?;
    let count = context.amount(SEEDS, SEEDS_SMALL);
    let mut sums = Sums::default();
    for first in (1..=count).step_by(PART as usize) {
        let seeds = PART.min(count + 1 - first);
        let said = match passed.read(first, seeds) {
            Some(said) => said,
            None => {
                let said = shards(context, first, seeds)?;
                passed.write(first, seeds, &said)?;
                said
            }
        };
        sums.add(&said)?;
    }
    let mut figures = Figures::from_iter([("seeds".to_owned(), count.into())]);
    for (name, sum) in &sums.totals {
        figures.insert(name.replace(' ', "_"), (*sum).into());
    }
    if !context.small {
        let missing = sums.missing();
        ensure!(missing.is_empty(), "never seen in {count} seeds: {}", missing.join(", "));
    }
    figures.extend(plants::of_handoff(context)?);
    Ok(figures)
}

fn shards(context: &Context, first: u64, seeds: u64) -> Result<String> {
    let (first, seeds) = (first.to_string(), seeds.to_string());
    let finished = Program::new(&context.binary)
        .args(["sim", "--scenario", "shards", "--from", &first, "--seeds", &seeds])
        .in_directory(&context.scratch)
        .finish_within(PART_LIMIT)?;
    ensure!(finished.success, "kontiki sim: {}{}", finished.stdout, finished.stderr);
    Ok(finished.stdout)
}

/// What parts have said that passed, on disk. Small runs, and such of a tree that is not committed,
/// keep nothing.
struct Passed(Option<PathBuf>);

impl Passed {
    fn open(context: &Context) -> Result<Self> {
        let described = Program::new("git")
            .args(["describe", "--always", "--abbrev=40", "--dirty"])
            .in_directory(&context.root)
            .output()?;
        let commit = described.trim();
        if context.small || commit.ends_with("-dirty") {
            return Ok(Self(None));
        }
        let beside = context.scratch.parent().unwrap_or(&context.scratch);
        let folder = beside.join("issue-5-seeds").join(commit);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(Self(Some(folder)))
    }

    fn file(&self, first: u64, seeds: u64) -> Option<PathBuf> {
        Some(self.0.as_deref()?.join(format!("{first}-{seeds}")))
    }

    fn read(&self, first: u64, seeds: u64) -> Option<String> {
        std::fs::read_to_string(self.file(first, seeds)?).ok()
    }

    fn write(&self, first: u64, seeds: u64, said: &str) -> Result<()> {
        let Some(file) = self.file(first, seeds) else { return Ok(()) };
        write_whole(&file, said)
    }
}

/// A part that was cut off while it was noted has not passed.
fn write_whole(file: &Path, text: &str) -> Result<()> {
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, text).with_context(|| unfinished.display().to_string())?;
    std::fs::rename(&unfinished, file).with_context(|| file.display().to_string())
}

/// The numbers of all parts: totals by their names, and how often each kind of fault happened and
/// each step of a move was met by one.
#[derive(Default)]
struct Sums {
    totals: BTreeMap<String, f64>,
    kinds: BTreeMap<String, u64>,
}

impl Sums {
    fn add(&mut self, said: &str) -> Result<()> {
        for name in TOTALS {
            *self.totals.entry(name.to_owned()).or_default() +=
                number_behind(said, &format!("\n{name}: "))?;
        }
        let mut kinds = 0;
        for line in said.lines().filter_map(|line| line.strip_prefix("  ")) {
            let Some((name, count)) = kind(line) else { bail!("not understood: `{line}`") };
            *self.kinds.entry(name).or_default() += count;
            kinds += 1;
        }
        ensure!(kinds > 0, "no kinds of faults in:\n{said}");
        Ok(())
    }

    fn missing(&self) -> Vec<&str> {
        let kinds = self.kinds.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name);
        let totals = self.totals.iter().filter(|(_, sum)| **sum == 0.0).map(|(name, _)| name);
        kinds.chain(totals).map(String::as_str).collect()
    }
}

/// A kind of fault and how often it happened, or a step of moves and how often it was met by a fault:
/// `bridge      12` and `Freeze      90, 12 of them met by a fault`.
fn kind(line: &str) -> Option<(String, u64)> {
    if let Some(step) = line.strip_suffix(" of them met by a fault") {
        let (step, struck) = step.split_once(", ")?;
        let (name, _) = step.trim_end().rsplit_once(' ')?;
        return Some((format!("a fault at the step {}", name.trim_end()), struck.parse().ok()?));
    }
    let (name, count) = line.trim_end().rsplit_once(' ')?;
    Some((name.trim_end().to_owned(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parts_say_is_added_up() {
        let said = "shards: seeds 1 to 2\nseeds: 2 (1 with 3 nodes, the others with 5)\n\
                    virtual hours: 0.5 (the shortest seed 30.5 s)\n\
                    operations: 900 completed (at least 400 a seed), 1 refused, 0 unknown\n\
                    crashes: 3\nfaults: 12\n  power loss                   4\n  \
                    power loss, any subset survives          60\n  \
                    ring                         0\nmoves: 7\n\
                    snapshots installed in the middle of moves: 1\ngroups that joined: 3\n  \
                    Freeze                       9, 2 of them met by a fault\n  \
                    Plan                         9, 0 of them met by a fault\ntrace: 00\n";
        let mut sums = Sums::default();
        sums.add(said).expect("understood");
        sums.add(said).expect("understood");
        assert_eq!(sums.totals["moves"], 14.0);
        assert_eq!(sums.totals["virtual hours"], 1.0);
        assert_eq!(sums.kinds["power loss"], 8);
        assert_eq!(sums.kinds["power loss, any subset survives"], 120);
        assert_eq!(sums.kinds["a fault at the step Freeze"], 4);
        assert_eq!(sums.missing(), ["a fault at the step Plan", "ring"]);
    }
}
