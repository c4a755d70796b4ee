//! Dead dependencies: packages that are built for nobody.

use super::Finding;
use crate::rust_source::Source;
use crate::tree::Tree;
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Dependencies that only generated code names: package folder and key.
const GENERATED: [(&str, &str); 6] = [
    ("crates/mapreduce", "prost"),
    ("crates/mapreduce", "tonic-prost"),
    ("crates/net", "prost"),
    ("crates/net", "tonic-prost"),
    ("crates/bench", "prost"),
    ("crates/bench", "tonic-prost"),
];

const KINDS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used_anywhere = BTreeSet::new();
    for folder in tree.packages() {
        let path = format!("{folder}/Cargo.toml");
        let keys = dependencies(tree, &path);
        let words = words(tree, folder);
        let dead = keys.iter().filter(|key| {
            !words.contains(key.replace('-', "_").as_str())
                && !GENERATED.contains(&(folder, key.as_str()))
        });
        findings.extend(dead.map(|key| {
            Finding::in_file(&path, format!("no code names the dependency {key}"), "take it out")
        }));
        used_anywhere.extend(keys);
    }
    for key in workspace_dependencies(tree) {
        if !used_anywhere.contains(&key) {
            let what = format!("no package uses the workspace's dependency {key}");
            findings.push(Finding::in_file("Cargo.toml", what, "take it out"));
        }
    }
    findings
}

/// The keys of all dependency tables.
fn dependencies(tree: &Tree, manifest: &str) -> BTreeSet<String> {
    let manifest: Table = tree.text(manifest).unwrap_or_default().parse().unwrap_or_default();
    let tables = KINDS.iter().filter_map(|kind| manifest.get(*kind).and_then(Value::as_table));
    tables.flat_map(Table::keys).cloned().collect()
}

/// Those of the workspace but for our own crates, which stand there for later ones too.
fn workspace_dependencies(tree: &Tree) -> Vec<String> {
    let manifest: Table = tree.text("Cargo.toml").unwrap_or_default().parse().unwrap_or_default();
    let table = manifest.get("workspace").and_then(|table| table.get("dependencies")?.as_table());
    let keys = table.into_iter().flat_map(Table::keys);
    keys.filter(|key| !key.starts_with("kontiki-")).cloned().collect()
}

/// Every word of the package's own Rust.
fn words<'a>(tree: &'a Tree, folder: &str) -> BTreeSet<&'a str> {
    let own = tree
        .rust()
        .filter(|(path, _)| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
    own.flat_map(|(_, text)| Source::scan(text).tokens).map(|token| token.text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_that_nothing_names_are_found() {
        let tree = Tree::of(&[
            (
                "Cargo.toml",
                "[workspace.dependencies]\nbytes = \"1\"\nslog = \"2\"\nkontiki-x = \"1\"\n",
            ),
            (
                "crates/kv/Cargo.toml",
                "[package]\nname = \"kontiki-kv\"\n[dependencies]\nbytes = \"1\"\n\
                 tokio-stream = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n",
            ),
            ("crates/kv/src/lib.rs", "use bytes::Bytes; // proptest"),
            ("crates/kv/tests/it.rs", "tokio_stream::iter();"),
        ]);
        let found = inspect(&tree);
        let found: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            found,
            [
                "no code names the dependency proptest",
                "no package uses the workspace's dependency slog"
            ]
        );
    }
}
