//! Plants one bug after the other and lets the swarm find it, from several first seeds: the table of
//! the simulator's README.
//!
//! ```text
//! cargo run --release -p kontiki-sim --features plants --example plants -- [SEARCHES [BOUND [NAME]...]]
//! ```
//!
//! Besides a bug's, there is the name `handoff`, for all those that only a sharded store can show,
//! and `store`, for all others.
//!
//! A line has the median, the seeds that each search needed, and what was found to be violated. A seed
//! counts only if it passes without the bug.

use std::env::args;
use std::time::Instant;

use kontiki_sim::plants::{Found, Plant, median, run_of, search};

/// The searches for one bug begin so many seeds apart.
const APART: u64 = 1_000_000;

fn main() {
    // A run that ends by an assertion is a find; nobody wants to see each.
    std::panic::set_hook(Box::new(|_| {}));
    let mut numbers = args().skip(1).map_while(|word| word.parse::<u64>().ok());
    let searches = numbers.next().unwrap_or(5);
    let bound = numbers.next().unwrap_or(2000);
    let names: Vec<String> = args().skip(1).filter(|word| word.parse::<u64>().is_err()).collect();
    let (mut missed, mut unsound) = (0, Vec::new());
    for &plant in Plant::ALL {
        let area = if plant.is_of_handoff() { "handoff" } else { "store" };
        if !names.is_empty() && !names.iter().any(|name| [plant.name(), area].contains(&&**name)) {
            continue;
        }
        let begun = Instant::now();
        let found: Vec<_> =
            (1..=searches).map(|at| find(plant, at * APART, bound, &mut unsound)).collect();
        let counts: Vec<_> = found.iter().map(|it| it.as_ref().map(|it| it.seeds)).collect();
        let middle = median(counts.clone());
        missed += u32::from(middle.is_none());
        let text = |count: &Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
        let counts: Vec<_> = counts.iter().map(text).collect();
        let mut seen: Vec<_> = found.iter().flatten().map(|it| it.violation.property).collect();
        seen.sort_unstable();
        seen.dedup();
        println!("{plant:26} | {:>5} | {} | {}", text(&middle), counts.join(", "), seen.join("; "),);
        eprintln!("{plant}: {:.1?}", begun.elapsed());
        if let Some(it) = found.iter().flatten().next() {
            eprintln!("  seed {}: {}", it.seed, it.violation);
        }
    }
    if missed > 0 || !unsound.is_empty() {
        println!("{missed} planted bugs were not found by most of their searches");
        println!("seeds that fail also without a planted bug: {unsound:?}");
        std::process::exit(1);
    }
}

/// A search in which a seed counts only if it passes without the bug; others are `unsound`.
fn find(plant: Plant, first: u64, bound: u64, unsound: &mut Vec<u64>) -> Option<Found> {
    let mut from = first;
    loop {
        let found = search(plant, from, first + bound - from, run_of(plant))?;
        from = found.seed;
        if found.passes_without {
            return Some(Found { seeds: from - first, ..found });
        }
        eprintln!("seed {from} fails also without {plant}: {}", found.violation);
        unsound.push(from);
    }
}
