//! Item 9: the consensus core alone, beside the `raft` crate in the same harness
//! (`kontiki bench raft`). A full run keeps the rows for README's table.

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

use crate::acceptance::machine::{self, Machine};
use crate::acceptance::{Context, Figures};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(8 * 60);
const OURS: &str = "kontiki-raft";
/// The share of the other's best time per entry that we may take.
const SHARE_MAX: f64 = 0.5;
/// Entries under way, and the allocations that each may cost.
const DEPTHS: [(u64, f64); 3] = [(1, 4.0), (64, 1.1), (1024, 1.1)];

/// One implementation at one depth.
#[derive(Serialize, Deserialize)]
struct Row {
    name: String,
    depth: u64,
    /// Nanoseconds per entry, applied by all three: the median of some runs, and the best.
    ns: f64,
    ns_best: f64,
    messages: f64,
    allocations: Option<f64>,
}

pub(super) fn run(context: &Context) -> Result<Figures> {
    let said = Program::new(&context.binary)
        .args(["bench", "raft", "--json"])
        .in_directory(&context.root)
        .output_within(LIMIT)?;
    let rows: Vec<Row> = serde_json::from_str(&said).context("what kontiki bench raft says")?;
    if !context.small {
        keep(context, &rows)?;
    }
    judge(&rows, context.small)
}

fn keep(context: &Context, rows: &[Row]) -> Result<()> {
    let document = json!({
        "commit": machine::commit(&context.root)?,
        "date": machine::date()?,
        "machine": Machine::here(&context.scratch)?,
        "rows": rows,
    });
    let path = context.root.join("bench/results/raft.json");
    Ok(std::fs::write(&path, serde_json::to_string_pretty(&document)? + "\n")?)
}

/// The figures, if they are good enough; a small run shares its machine and judges no times.
fn judge(rows: &[Row], small: bool) -> Result<Figures> {
    let mut figures = Figures::new();
    for (depth, allocations_max) in DEPTHS {
        let at_depth = || rows.iter().filter(|row| row.depth == depth);
        let ours = at_depth().find(|row| row.name == OURS).context("no row of ours")?;
        let theirs = at_depth().filter(|row| row.name != OURS).map(|row| row.ns_best);
        let theirs = theirs.min_by(f64::total_cmp).context("no row of the raft crate")?;
        let share = ours.ns_best / theirs;
        let allocations = ours.allocations.context("the binary does not count allocations")?;
        figures.insert(format!("ns_per_entry_at_{depth}"), ours.ns_best.round().into());
        figures.insert(format!("share_of_raft_at_{depth}"), ((share * 1e3).round() / 1e3).into());
        figures.insert(format!("allocations_at_{depth}"), allocations.into());
        ensure!(
            allocations <= allocations_max,
            "depth {depth}: {allocations} allocations per entry, more than {allocations_max}"
        );
        ensure!(
            small || share <= SHARE_MAX,
            "depth {depth}: {share:.2} of the best time of the raft crate, more than {SHARE_MAX}"
        );
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ns: f64, allocations: f64) -> Vec<Row> {
        let row = |name: &str, depth, ns, allocations| Row {
            name: name.to_string(),
            depth,
            ns,
            ns_best: ns,
            messages: 1.0,
            allocations: Some(allocations),
        };
        let at = |(depth, _)| {
            [
                row(OURS, depth, ns, allocations),
                row("raft 0.7", depth, 300.0, 9.0),
                row("raft 0.7, batch_append", depth, 200.0, 9.0),
            ]
        };
        DEPTHS.into_iter().flat_map(at).collect()
    }

    #[test]
    fn the_best_of_the_others_is_the_bar() {
        judge(&rows(100.0, 1.1), false).expect("exactly half");
        assert!(judge(&rows(101.0, 1.0), false).is_err());
        judge(&rows(101.0, 1.0), true).expect("times are not judged");
    }

    #[test]
    fn allocations_are_judged_always() {
        assert!(judge(&rows(50.0, 1.2), true).is_err());
        assert!(judge(&[], true).is_err());
    }
}
