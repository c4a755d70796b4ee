//! README's tables, rendered from the figures that runs left under `bench/results/`.
//!
//! A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; nobody writes one by hand.

mod render;

use anyhow::{Context, Result, bail};
use std::path::Path;

/// The documents that may hold tables.
const DOCUMENTS: [&str; 2] = ["README.md", "crates/raft/README.md"];

const BEGIN: &str = "<!-- table: ";
const BEGIN_CLOSE: &str = " -->";
const END: &str = "<!-- /table -->";

/// Renders the tables, or with `only_check` says whether they are current.
pub fn run(root: &Path, only_check: bool) -> Result<bool> {
    let mut current = true;
    for document in DOCUMENTS {
        let path = root.join(document);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let rendered = replace_tables(&text, |name| render::table(root, name))
            .with_context(|| format!("the tables of {document}"))?;
        if rendered == text {
            continue;
        }
        if only_check {
            println!("{document}: a table is not what bench/results/ says");
            current = false;
        } else {
            std::fs::write(&path, rendered).with_context(|| format!("cannot write {document}"))?;
        }
    }
    Ok(current)
}

/// `text` with what stands between each pair of markers replaced.
fn replace_tables(text: &str, table: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        let after = &rest[begin + BEGIN.len()..];
        let Some((name, body)) = after.split_once(BEGIN_CLOSE) else {
            bail!("a marker without its end: {}", after.lines().next().unwrap_or_default());
        };
        let Some(end) = body.find(END) else {
            bail!("the table {name} is not closed by {END}");
        };
        out.push_str(&rest[..begin]);
        out.push_str(&format!("{BEGIN}{name}{BEGIN_CLOSE}\n{}\n", table(name)?.trim_end()));
        rest = &body[end..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_markers_is_replaced() {
        let text = "a\n<!-- table: x -->\nold\n<!-- /table -->\nb\n";
        let rendered = replace_tables(text, |name| Ok(format!("new {name}"))).expect("closed");
        assert_eq!(rendered, "a\n<!-- table: x -->\nnew x\n<!-- /table -->\nb\n");
        assert_eq!(
            replace_tables(&rendered, |name| Ok(format!("new {name}"))).expect("closed"),
            rendered
        );
    }

    #[test]
    fn a_table_without_an_end_is_refused() {
        assert!(replace_tables("<!-- table: x -->\nold\n", |_| Ok(String::new())).is_err());
    }
}
