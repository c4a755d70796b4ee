//! Item 1: `kontiki sim --seeds`, with what it must have covered, what it costs, and that a seed is
//! the same run in another process.

use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

use crate::acceptance::{Context, Figures};
use crate::program::{Finished, Program};

const LIMIT: Duration = Duration::from_secs(15 * 60);
/// CPU time that 10,000 seeds may take.
const CPU_SECONDS_MAX: f64 = 120.0;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let count = context.amount(10_000, 300);
    let all = sim(context, count)?;
    let again = context.amount(1_000, 100);
    let (one, two) = (sim(context, again)?, sim(context, again)?);
    ensure!(one.stdout == two.stdout, "the same seeds print something else in another process");
    let mut figures = Figures::from_iter([
        ("seeds".to_owned(), count.into()),
        ("virtual_hours".to_owned(), number_behind(&all.stdout, "virtual hours: ")?.into()),
        ("operations".to_owned(), number_behind(&all.stdout, "operations: ")?.into()),
        ("elections".to_owned(), number_behind(&all.stdout, "elections: ")?.into()),
        ("faults".to_owned(), number_behind(&all.stdout, "\nfaults: ")?.into()),
    ]);
    let cpu = number_behind(&all.stderr, "CPU ")?;
    figures.insert("cpu_seconds".to_owned(), cpu.into());
    figures.insert("ms_per_seed".to_owned(), (cpu * 1e3 / count as f64).into());
    // A small run shares its machine and judges no times.
    ensure!(
        context.small || cpu <= CPU_SECONDS_MAX,
        "{count} seeds took {cpu} s of CPU time, more than {CPU_SECONDS_MAX}"
    );
    Ok(figures)
}

fn sim(context: &Context, seeds: u64) -> Result<Finished> {
    let finished = Program::new(&context.binary)
        .args(["sim", "--seeds", &seeds.to_string()])
        .in_directory(&context.scratch)
        .finish_within(LIMIT)?;
    ensure!(finished.success, "kontiki sim: {}{}", finished.stdout, finished.stderr);
    Ok(finished)
}

/// The number that follows `before`.
pub(in crate::acceptance) fn number_behind(text: &str, before: &str) -> Result<f64> {
    let (_, rest) = text.split_once(before).with_context(|| format!("no `{before}` in {text}"))?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().with_context(|| format!("no number behind `{before}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        let said = "2.4s, CPU 4.7s: 15.54 ms a seed\nvirtual hours: 2.6 (the shortest 30.5 s)\n";
        assert_eq!(number_behind(said, "CPU ").expect("there"), 4.7);
        assert_eq!(number_behind(said, "virtual hours: ").expect("there"), 2.6);
        assert!(number_behind(said, "elections: ").is_err());
    }
}
