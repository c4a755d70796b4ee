//! Dead files: Rust that no target of its package reaches.

use super::{Finding, modules};
use crate::tree::Tree;

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in tree.packages() {
        let reached = modules::reached(tree, folder);
        let own = tree.rust().filter(|(path, _)| {
            path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        });
        let dead = own.filter(|(path, _)| !reached.contains_key(*path));
        findings.extend(dead.map(|(path, _)| {
            Finding::in_file(
                path,
                "no target reaches this file",
                "declare it as a module or delete it",
            )
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nothing_declares_is_found() {
        let tree = Tree::of(&[
            ("crates/kv/Cargo.toml", "[package]\nname = \"kontiki-kv\"\n"),
            ("crates/kv/src/lib.rs", "mod alive; // mod dead;"),
            ("crates/kv/src/alive.rs", ""),
            ("crates/kv/src/dead.rs", ""),
        ]);
        let found = inspect(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "crates/kv/src/dead.rs");
    }
}
