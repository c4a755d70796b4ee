//! The report of an acceptance run: a JSON file, item by item.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;

use super::machine::{self, Machine};

/// How an item went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    /// It could not be tried on this machine.
    Skipped,
}

/// One item. It carries its own commit and date: a run of one item leaves the others as they were.
#[derive(Serialize, Deserialize)]
pub struct Entry {
    pub item: String,
    pub title: String,
    pub outcome: Outcome,
    pub seconds: f64,
    pub commit: String,
    pub date: String,
    #[serde(default)]
    pub figures: Map<String, Value>,
    /// Why it failed or was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        write!(f, "acceptance: {} {outcome} in {} s", self.item, self.seconds)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        for (name, value) in &self.figures {
            write!(f, "\n  {name}: {value}")?;
        }
        Ok(())
    }
}

/// The whole file.
#[derive(Serialize, Deserialize)]
pub struct Report {
    issue: String,
    small: bool,
    commit: String,
    date: String,
    machine: Machine,
    items: Vec<Entry>,
}

impl Report {
    /// A report of this commit and machine, with the items that `file` has already.
    pub fn open(root: &Path, file: &Path, issue: &str, small: bool) -> Result<Report> {
        let earlier = std::fs::read_to_string(file).ok();
        let earlier = earlier.and_then(|text| serde_json::from_str::<Report>(&text).ok());
        Ok(Report {
            issue: issue.to_string(),
            small,
            commit: machine::commit(root)?,
            date: machine::date()?,
            machine: Machine::here(&crate::target_directory(root))?,
            items: earlier.map(|report| report.items).unwrap_or_default(),
        })
    }

    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Puts `entry` in its place.
    pub fn put(&mut self, entry: Entry) {
        self.items.retain(|item| item.item != entry.item);
        self.items.push(entry);
        self.items.sort_by_key(|item| order(&item.item));
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let parent = file.parent().context("a report has a folder")?;
        std::fs::create_dir_all(parent)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// `10` comes after `2b`.
fn order(item: &str) -> (u32, String) {
    let letters = item.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &item[..item.len() - letters.len()];
    (number.parse().unwrap_or(u32::MAX), letters.to_string())
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn items_are_ordered_by_number() {
        let mut items = ["10", "2b", "1", "2a"];
        items.sort_by_key(|item| order(item));
        assert_eq!(items, ["1", "2a", "2b", "10"]);
    }
}
