//! Item 6: Kontiki, programs written for one task each, DuckDB and Spark, in one run of
//! `bench/mr/side-by-side.py`.
//!
//! A small run only shows that all of it works: figures of a fraction of a second say nothing.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

use crate::acceptance::{Context, Figures, needs, process_test};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(25 * 60);

/// What is asked of the comparisons in the results: a name, and the most that it may be.
const AT_MOST: [(&str, f64); 6] = [
    ("wc_vs_yardstick", 1.5),
    ("indexer_vs_yardstick", 1.5),
    ("sort_vs_yardstick", 2.0),
    ("grep_seconds", 0.5),
    ("small_threads_seconds", 0.06),
    ("small_seconds", 0.25),
];
/// The same, and the least, where there is something to compare with.
const AT_LEAST: [(&str, f64); 1] = [("wc_faster_than_spark", 8.0)];

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["python3"])?;
    let out = match context.small {
        true => context.scratch.join("mr.json"),
        false => context.root.join("bench/results/mr.json"),
    };
    let yardstick = context.root.join("bench/mr/yardstick");
    let target = context.scratch.with_file_name("yardstick");
    Program::new("cargo")
        .args(["build", "--release", "--target-dir"])
        .args([&target])
        .in_directory(&yardstick)
        .output_within(LIMIT)?;
    let books = match process_test::books(context) {
        Some(books) => books,
        None => made_up(context)?,
    };
    let mut script = Program::new("python3")
        .args([context.root.join("bench/mr/side-by-side.py")])
        .args(["--rounds", context.amount("3", "1"), "--text", context.amount("1GiB", "4MiB")])
        .args(["--records", context.amount("10000000", "20000")])
        .args(["--kontiki".as_ref(), context.binary.as_os_str()])
        .args(["--yardstick".as_ref(), target.join("release/yardstick").as_os_str()])
        .args(["--books".as_ref(), books.as_os_str()])
        .args(["--directory".as_ref(), context.scratch.join("data").as_os_str()])
        .args(["--results".as_ref(), out.as_os_str()]);
    if let Some(python) = std::env::var_os("KONTIKI_BENCH_PYTHON") {
        script = script.args(["--python".as_ref(), python.as_os_str()]);
    }
    println!("{}", script.output_within(LIMIT)?.trim_end());
    let results = std::fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let results: Value = serde_json::from_str(&results)?;
    let comparisons = results["comparisons"].as_object().cloned().unwrap_or_default();
    if !context.small {
        good_enough(&comparisons)?;
    }
    Ok(comparisons)
}

/// Text to draw lines from where there are no books.
fn made_up(context: &Context) -> Result<PathBuf> {
    let folder = context.scratch.join("books");
    Program::new(&context.binary)
        .args(["mr", "gen", "text", "--size", "3300KiB", "--files", "8", "--output"])
        .args([&folder])
        .output_within(LIMIT)?;
    Ok(folder)
}

fn good_enough(comparisons: &Figures) -> Result<()> {
    for (name, most) in AT_MOST {
        let value = comparisons.get(name).and_then(Value::as_f64);
        let value = value.with_context(|| format!("the results do not compare {name}"))?;
        ensure!(value <= most, "{name} is {value}, more than {most}");
    }
    for (name, least) in AT_LEAST {
        // Spark is compared with where it is installed.
        if let Some(value) = comparisons.get(name).and_then(Value::as_f64) {
            ensure!(value >= least, "{name} is {value}, less than {least}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_counts() {
        let mut all: Figures =
            AT_MOST.into_iter().map(|(name, most)| (name.to_owned(), most.into())).collect();
        good_enough(&all).expect("just good enough");
        all.insert("wc_faster_than_spark".to_owned(), 7.9.into());
        assert!(good_enough(&all).is_err());
        all.insert("wc_faster_than_spark".to_owned(), 8.0.into());
        good_enough(&all).expect("just good enough");
        all.insert("grep_seconds".to_owned(), 0.51.into());
        assert!(good_enough(&all).is_err());
        assert!(good_enough(&Figures::new()).is_err());
    }
}
