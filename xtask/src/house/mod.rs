//! The house rules: what a reviewer should not have to remember.
//!
//! Each rule is a function of the [`Tree`] that returns what it found, in a module of its own with
//! tests that plant violations. One more test runs all of them on the real tree.

mod dead_dependencies;
mod dead_files;
mod floors;
mod leftovers;
mod machine_paths;
mod modules;
mod plan;
mod purity;
mod readme;
mod size;

pub use plan::BINARY;

use crate::tree::Tree;
use std::fmt;

/// One violation of one rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// A file, with the line where there is one.
    pub place: String,
    pub what: String,
    pub hint: &'static str,
}

impl Finding {
    fn at(path: &str, line: usize, what: impl Into<String>, hint: &'static str) -> Finding {
        Finding { place: format!("{path}:{line}"), what: what.into(), hint }
    }

    fn in_file(path: &str, what: impl Into<String>, hint: &'static str) -> Finding {
        Finding { place: path.to_string(), what: what.into(), hint }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  hint: {}", self.place, self.what, self.hint)
    }
}

/// Everything that all rules find in `tree`.
pub fn inspect(tree: &Tree) -> Vec<Finding> {
    let rules: [fn(&Tree) -> Vec<Finding>; 8] = [
        floors::inspect,
        purity::inspect,
        leftovers::inspect,
        machine_paths::inspect,
        dead_dependencies::inspect,
        dead_files::inspect,
        size::inspect,
        readme::inspect,
    ];
    rules.iter().flat_map(|rule| rule(tree)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_keeps_its_house_rules() {
        let tree = Tree::read(&crate::root()).expect("the tree can be read");
        let findings: Vec<String> = inspect(&tree).iter().map(Finding::to_string).collect();
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }
}
