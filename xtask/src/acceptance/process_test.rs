//! Items that are tests of real processes in `crates/kontiki/tests/it`: a full run makes their full
//! form with the released binary, CI runs the small form with all tests and only looks here that
//! they are among them.

use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

use super::cargo_test::{listed, passed};
use super::{Context, Figures};
use crate::program::Program;

/// Less than any item's own limit, so that the tests end what they started.
const LIMIT: Duration = Duration::from_secs(50 * 60);

/// Runs the tests whose names begin with one of `names`; what they measured.
pub(super) fn run(context: &Context, names: &[&str]) -> Result<Figures> {
    let mut tests = Program::new("cargo")
        .args(["test", "--locked", "-p", "kontiki", "--test", "it", "--"])
        .args(names)
        .in_directory(&context.root);
    if context.small {
        let found = listed(&tests.args(["--list"]).output_within(LIMIT)?);
        ensure!(found >= names.len(), "there are no tests {names:?}");
        return Ok(Figures::from_iter([
            ("tests".to_string(), found.into()),
            ("how".to_string(), "listed; cargo test runs them".into()),
        ]));
    }
    tests = tests
        .args(["--nocapture", "--test-threads", "1"])
        .env("KONTIKI_ACCEPTANCE", "full")
        .env("KONTIKI_BINARY", &context.binary)
        .env("TMPDIR", &context.scratch);
    if let Some(books) = books(context) {
        tests = tests.env("KONTIKI_BOOKS", books);
    }
    let said = tests.output_within(LIMIT)?;
    let found = passed(&said);
    ensure!(found >= names.len(), "there are no tests {names:?}:\n{said}");
    let mut all = figures(&said);
    all.insert("tests".to_string(), found.into());
    Ok(all)
}

/// A folder with books, if there is one beside the project.
pub(super) fn books(context: &Context) -> Option<PathBuf> {
    let books = context.root.join("../shared/data/gutenberg");
    books.is_dir().then_some(books)
}

/// Lines that end with `figure NAME VALUE`, the first of a test after its name; of one name all
/// values.
fn figures(said: &str) -> Figures {
    let mut all = Figures::new();
    for line in said.lines() {
        let Some((name, value)) = figure(line) else {
            continue;
        };
        let value = value.parse::<f64>().map_or_else(|_| value.into(), serde_json::Value::from);
        match all.get_mut(name) {
            None => {
                all.insert(name.to_owned(), value);
            }
            Some(serde_json::Value::Array(values)) => values.push(value),
            Some(first) => *first = serde_json::Value::Array(vec![first.clone(), value]),
        }
    }
    all
}

fn figure(line: &str) -> Option<(&str, &str)> {
    let said = line.rsplit_once(" ... ").map_or(line, |(_, said)| said);
    said.strip_prefix("figure ")?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_tests_say() {
        let said = "running 1 test\ntest x::y ... figure a 0.5\nfigure b 2 of 3\nfigure b 4 of 5\nfigures\n";
        let found = figures(said);
        assert_eq!(found["a"], 0.5);
        assert_eq!(found["b"], serde_json::json!(["2 of 3", "4 of 5"]));
        assert_eq!(found.len(), 2);
    }
}
