//! One renderer per table.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;

/// The table called `name`, in Markdown.
pub fn table(root: &Path, name: &str) -> Result<String> {
    let path = root.join("bench/results").join(format!("{name}.json"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(format!("*Not measured yet: `bench/results/{name}.json` is not there.*"));
    };
    let results: Value = serde_json::from_str(&text).with_context(|| format!("{name}.json"))?;
    match name {
        "issue-2" => Ok(acceptance(&results)),
        _ => bail!("nothing renders the table {name}\nhint: xtask/src/tables/render.rs"),
    }
}

/// What was tried, and how it went.
fn acceptance(results: &Value) -> String {
    let mut out = String::from("| item | what is tried | outcome | seconds |\n|---|---|---|---|\n");
    for item in results["items"].as_array().into_iter().flatten() {
        let seconds = item["seconds"].as_f64().unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {seconds:.0} |",
            text(&item["item"]),
            text(&item["title"]),
            text(&item["outcome"])
        );
    }
    out + &origin(results)
}

/// Where and when it was measured.
fn origin(results: &Value) -> String {
    let machine = &results["machine"];
    format!(
        "\n{}, {} cores, {} GiB, Linux {}, {}; {}; commit {}.\n",
        text(&machine["processor"]),
        machine["cores"],
        machine["memory_gib"],
        text(&machine["kernel"]),
        text(&machine["filesystem"]),
        text(&results["date"]),
        text(&results["commit"]),
    )
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
