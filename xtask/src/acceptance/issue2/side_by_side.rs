//! Item 8: Kontiki, etcd and Redis measured in one run by `bench/side-by-side.py`.
//!
//! A small run only shows that all of it works: figures of a second say nothing.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::time::Duration;

use crate::acceptance::{Context, Figures, needs};
use crate::program::Program;

const LIMIT: Duration = Duration::from_secs(25 * 60);

/// What is asked of the comparisons in the results: a name, and the least that it must be.
const AT_LEAST: [(&str, f64); 4] = [
    ("put-64-leader_vs_etcd", 5.0),
    ("put-64-spread_vs_etcd", 5.0),
    ("get-64-leader_vs_etcd", 5.0),
    ("get-64-spread_vs_etcd", 5.0),
];
/// The same, and the most.
const AT_MOST: [(&str, f64); 1] = [("put-1-leader_p50_share_of_etcd", 0.5)];

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["python3", "redis-server", "etcd"])?;
    let out = match context.small {
        true => context.scratch.join("kv-side-by-side.json"),
        false => context.root.join("bench/results/kv-side-by-side.json"),
    };
    let script = context.root.join("bench/side-by-side.py");
    let said = Program::new("python3")
        .args([&script])
        .args(["--rounds", context.amount("3", "1"), "--seconds", context.amount("3", "0.5")])
        .args(["--kontiki".as_ref(), context.binary.as_os_str()])
        .args(["--dir".as_ref(), context.scratch.join("servers").as_os_str()])
        .args(["--out".as_ref(), out.as_os_str()])
        .output_within(LIMIT)?;
    println!("{}", said.trim_end());
    let results = std::fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let results: Value = serde_json::from_str(&results)?;
    no_errors(&results)?;
    let comparisons = results["comparisons"].as_object().cloned().unwrap_or_default();
    if !context.small {
        good_enough(&comparisons)?;
    }
    Ok(comparisons)
}

fn no_errors(results: &Value) -> Result<()> {
    for (cell, figures) in results["results"]["kontiki"].as_object().into_iter().flatten() {
        ensure!(figures["errors"] == 0, "{cell}: errors, the first: {}", figures["first_error"]);
    }
    Ok(())
}

fn good_enough(comparisons: &Figures) -> Result<()> {
    let value = |name: &str| {
        let found = comparisons.get(name).and_then(Value::as_f64);
        found.with_context(|| format!("the results do not compare {name}"))
    };
    for (name, least) in AT_LEAST {
        let value = value(name)?;
        ensure!(value >= least, "{name} is {value}, less than {least}");
    }
    for (name, most) in AT_MOST {
        let value = value(name)?;
        ensure!(value <= most, "{name} is {value}, more than {most}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn comparisons(put: f64, get: f64, latency: f64) -> Figures {
        let value = json!({
            "put-64-leader_vs_etcd": 5.0,
            "put-64-spread_vs_etcd": put,
            "get-64-leader_vs_etcd": get,
            "get-64-spread_vs_etcd": 5.0,
            "put-1-leader_p50_share_of_etcd": latency,
        });
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn each_bound_counts() {
        good_enough(&comparisons(5.0, 6.0, 0.5)).expect("just good enough");
        assert!(good_enough(&comparisons(4.9, 6.0, 0.5)).is_err());
        assert!(good_enough(&comparisons(5.0, 4.9, 0.5)).is_err());
        assert!(good_enough(&comparisons(5.0, 6.0, 0.51)).is_err());
        assert!(good_enough(&Figures::new()).is_err());
    }

    #[test]
    fn an_error_under_load_counts() {
        let results =
            |errors| json!({"results": {"kontiki": {"put-64-leader": {"errors": errors}}}});
        assert!(no_errors(&results(0)).is_ok());
        assert!(no_errors(&results(1)).is_err());
    }
}
