//! Item 2: how fast it is simulated. The virtual time of a second of CPU time, for a store of three
//! nodes under load and for bare cores.

use anyhow::{Result, ensure};
use std::time::Duration;

use super::seeds::number_behind;
use crate::acceptance::{Context, Figures};
use crate::program::{Finished, Program};

const LIMIT: Duration = Duration::from_secs(5 * 60);
/// Times real time, of a store of three nodes that the swarm's clients use, without faults.
const STORE_MIN: f64 = 5_000.0;
/// Hours of five cores in a second of CPU time, without work and with a proposal each 100 ms.
const IDLE_MIN: f64 = 50.0;
const LOADED_MIN: f64 = 10.0;

pub(super) fn run(context: &Context) -> Result<Figures> {
    let seeds = context.amount(1_000, 30).to_string();
    let store = sim(context, &["--calm", "--seeds", &seeds])?;
    let cores = sim(context, &["--cores"])?;
    let seconds = number_behind(&store.stdout, "virtual hours: ")? * 3600.0;
    let operations = number_behind(&store.stdout, "operations: ")?;
    let ratio = number_behind(&store.stderr, "ms a seed, ")?;
    let idle = rate(&cores.stderr, "idle")?;
    let loaded = rate(&cores.stderr, "loaded")?;
    ensure!(operations > 0.0 && ratio > 1.0 && loaded > 0.0, "{}{}", store.stdout, cores.stderr);
    // A small run shares its machine and judges no times.
    for (what, found, least) in [
        ("a store under load, times real time", ratio, STORE_MIN),
        ("idle cores, hours a second", idle, IDLE_MIN),
        ("loaded cores, hours a second", loaded, LOADED_MIN),
    ] {
        ensure!(context.small || found >= least, "{what}: {found}, less than {least}");
    }
    Ok(Figures::from_iter([
        ("store_times_real_time".to_owned(), ratio.into()),
        ("store_operations_per_virtual_second".to_owned(), (operations / seconds).round().into()),
        ("idle_core_hours_per_second".to_owned(), idle.into()),
        ("loaded_core_hours_per_second".to_owned(), loaded.into()),
    ]))
}

fn sim(context: &Context, arguments: &[&str]) -> Result<Finished> {
    let finished = Program::new(&context.binary)
        .args(["sim"])
        .args(arguments)
        .in_directory(&context.scratch)
        .finish_within(LIMIT)?;
    ensure!(finished.success, "kontiki sim: {}{}", finished.stdout, finished.stderr);
    Ok(finished)
}

/// The rate in the line of `name`: `idle: CPU 501.2ms, 99.8 cluster-hours per CPU second`.
fn rate(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    number_behind(line, ", ")
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_are_read() {
        let said = "idle: CPU 501.2ms, 99.8 cluster-hours per CPU second\n\
                    loaded: CPU 1.0s, 9.9 cluster-hours per CPU second\n";
        assert_eq!(rate(said, "idle").expect("there"), 99.8);
        assert_eq!(rate(said, "loaded").expect("there"), 9.9);
        assert!(rate(said, "other").is_err());
    }
}
