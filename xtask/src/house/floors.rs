//! The floors: a crate depends only on crates that stand below its own.
//!
//! Normal and build dependencies count. Development dependencies may point anywhere, except that
//! no cycle may come of them: a crate in its own tests would be there twice, with two of each type.

use super::Finding;
use super::plan::{BINARY, Floor, PURE_DEPENDENCIES, package_name, place, place_of_package};
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

const FLOORS: &str = "the floors are in ARCHITECTURE.md; move the code to the floor it belongs to";

/// Names that say nothing about what is inside.
const VAGUE: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut edges = BTreeMap::new();
    let workspace = tree.text("Cargo.toml").and_then(|text| text.parse().ok()).unwrap_or_default();
    for folder in tree.packages() {
        let path = format!("{folder}/Cargo.toml");
        let text = tree.text(&path).unwrap_or_default();
        match text.parse::<Table>() {
            Ok(manifest) => {
                let package = Package::read(path, &manifest, &workspace);
                findings.extend(package.inspect(folder));
                edges.insert(package.name, package.all);
            }
            Err(error) => {
                findings.push(Finding::in_file(&path, error.to_string(), "mend the TOML"))
            }
        }
    }
    findings.extend(cycle(&edges));
    findings
}

struct Package {
    path: String,
    name: String,
    /// Names of packages in normal and build dependencies.
    built: BTreeSet<String>,
    /// Those of development dependencies as well.
    all: BTreeSet<String>,
    workspace_lints: bool,
}

impl Package {
    fn read(path: String, manifest: &Table, workspace: &Table) -> Package {
        let mut built = BTreeSet::new();
        let mut all = BTreeSet::new();
        for (kind, table) in dependency_tables(manifest) {
            for (key, value) in table {
                let name = renamed(key, value, workspace);
                if kind != "dev-dependencies" {
                    built.insert(name.clone());
                }
                all.insert(name);
            }
        }
        let package = manifest.get("package").and_then(Value::as_table);
        let name = package.and_then(|package| package.get("name")).and_then(Value::as_str);
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace"));
        let workspace_lints = lints.and_then(Value::as_bool) == Some(true);
        Package { path, name: name.unwrap_or_default().to_string(), built, all, workspace_lints }
    }

    fn inspect(&self, folder: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found =
            |what: String, hint| findings.push(Finding::in_file(&self.path, what, hint));
        if !self.workspace_lints {
            found(
                "the workspace's lints are not switched on".into(),
                "add [lints] workspace = true",
            );
        }
        let Some(short) = folder.strip_prefix("crates/") else {
            return findings;
        };
        if VAGUE.contains(&short) {
            found(format!("`{short}` names no concept"), "name the crate after what it is about");
        }
        let Some(own) = place(short) else {
            found(
                format!("`{short}` stands on no floor"),
                "give it one in xtask/src/house/plan.rs",
            );
            return findings;
        };
        if self.name != package_name(short) {
            let hint = "the folder is the package's name without `kontiki-`";
            found(format!("package `{}` in folder `{short}`", self.name), hint);
        }
        for dependency in &self.built {
            match place_of_package(dependency) {
                Some(other) if !may_depend(short, own.floor, other.floor) => {
                    let what = format!(
                        "{short} ({}) depends on {} ({})",
                        spoken(own.floor),
                        other.folder,
                        spoken(other.floor)
                    );
                    found(what, FLOORS);
                }
                None if own.pure && !PURE_DEPENDENCIES.contains(&dependency.as_str()) => found(
                    format!("the core {short} depends on {dependency}"),
                    "cores do no I/O; if this crate does none either, list it in xtask/src/house/plan.rs",
                ),
                _ => {}
            }
        }
        findings
    }
}

fn may_depend(folder: &str, own: Floor, other: Floor) -> bool {
    match (own, other) {
        (_, Floor::Beside) => folder == BINARY,
        (Floor::Beside, Floor::Number(_)) => true,
        (Floor::Number(own), Floor::Number(other)) => other < own,
    }
}

fn spoken(floor: Floor) -> String {
    match floor {
        Floor::Number(number) => format!("floor {number}"),
        Floor::Beside => "beside the house".to_string(),
    }
}

/// Every dependency table of a manifest with its kind, those of targets included.
fn dependency_tables(manifest: &Table) -> Vec<(&'static str, &Table)> {
    const KINDS: [&str; 3] = ["dependencies", "build-dependencies", "dev-dependencies"];
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut tables = Vec::new();
    for table in std::iter::once(manifest).chain(targets) {
        for kind in KINDS {
            tables.extend(table.get(kind).and_then(Value::as_table).map(|found| (kind, found)));
        }
    }
    tables
}

/// The package that a dependency's key means.
fn renamed(key: &str, value: &Value, workspace: &Table) -> String {
    let inherited =
        workspace.get("workspace").and_then(|table| table.get("dependencies")?.get(key));
    let package =
        [Some(value), inherited].into_iter().flatten().find_map(|value| value.get("package"));
    package.and_then(Value::as_str).unwrap_or(key).to_string()
}

/// The first cycle among the packages, if there is one.
fn cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<Finding> {
    let mut done = BTreeSet::new();
    edges.keys().find_map(|start| {
        let mut path = Vec::new();
        let found = walk(start, edges, &mut path, &mut done)?;
        let what =
            format!("the dependencies (also those of tests) go round: {}", found.join(" → "));
        Some(Finding::in_file("Cargo.toml", what, "put the test above the crates that it needs"))
    })
}

fn walk<'a>(
    name: &'a str,
    edges: &'a BTreeMap<String, BTreeSet<String>>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(from) = path.iter().position(|earlier| *earlier == name) {
        return Some(path[from..].iter().chain([&name]).map(|name| name.to_string()).collect());
    }
    if !done.insert(name) {
        return None;
    }
    path.push(name);
    let next = edges.get(name).into_iter().flatten();
    let found = next.into_iter().find_map(|next| walk(next, edges, path, done));
    path.pop();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
    }

    fn check(manifests: &[(&str, &str, &str)], expect: &[&str]) {
        let files: Vec<(String, String)> = manifests
            .iter()
            .map(|(folder, name, rest)| (format!("{folder}/Cargo.toml"), manifest(name, rest)))
            .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let found = inspect(&Tree::of(&files));
        let found: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn downwards_is_allowed() {
        check(
            &[
                ("crates/types", "kontiki-types", ""),
                (
                    "crates/raft",
                    "kontiki-raft",
                    "[dependencies]\nkontiki-types = { workspace = true }",
                ),
                ("crates/kontiki", "kontiki", "[dependencies]\nkontiki-sim = { workspace = true }"),
                (
                    "crates/sim",
                    "kontiki-sim",
                    "[dependencies]\nkontiki-raft = { workspace = true }",
                ),
            ],
            &[],
        );
    }

    #[test]
    fn upwards_is_found() {
        check(
            &[(
                "crates/raft",
                "kontiki-raft",
                "[dependencies]\nkontiki-storage = { path = \"../storage\" }",
            )],
            &["raft (floor 1) depends on storage (floor 2)"],
        );
    }

    #[test]
    fn the_own_floor_is_found_in_build_and_target_dependencies_too() {
        check(
            &[(
                "crates/net",
                "kontiki-net",
                "[build-dependencies]\nkontiki-storage = \"0.1\"\n\
                 [target.'cfg(unix)'.dependencies]\nkontiki-replica = \"0.1\"",
            )],
            &[
                "net (floor 2) depends on replica (floor 2)",
                "net (floor 2) depends on storage (floor 2)",
            ],
        );
    }

    #[test]
    fn a_renamed_dependency_is_found() {
        check(
            &[("crates/kv", "kontiki-kv", "[dependencies]\nn = { package = \"kontiki-node\" }")],
            &["kv (floor 1) depends on node (floor 3)"],
        );
    }

    #[test]
    fn only_the_binary_depends_on_the_simulator() {
        check(
            &[(
                "crates/node",
                "kontiki-node",
                "[dependencies]\nkontiki-sim = { workspace = true }",
            )],
            &["node (floor 3) depends on sim (beside the house)"],
        );
    }

    #[test]
    fn tests_may_look_anywhere() {
        check(
            &[
                (
                    "crates/raft",
                    "kontiki-raft",
                    "[dev-dependencies]\nkontiki-node = { workspace = true }",
                ),
                ("crates/node", "kontiki-node", ""),
            ],
            &[],
        );
    }

    #[test]
    fn a_cycle_through_tests_is_found() {
        check(
            &[
                (
                    "crates/raft",
                    "kontiki-raft",
                    "[dev-dependencies]\nkontiki-sim = { workspace = true }",
                ),
                (
                    "crates/sim",
                    "kontiki-sim",
                    "[dependencies]\nkontiki-raft = { workspace = true }",
                ),
            ],
            &[
                "the dependencies (also those of tests) go round: kontiki-raft → kontiki-sim → kontiki-raft",
            ],
        );
    }

    #[test]
    fn a_core_with_io_is_found() {
        check(
            &[("crates/kv", "kontiki-kv", "[dependencies]\nbytes = \"1\"\ntokio = \"1\"")],
            &["the core kv depends on tokio"],
        );
    }

    #[test]
    fn an_unknown_crate_and_a_wrong_name_are_found() {
        check(
            &[("crates/common", "kontiki-common", ""), ("crates/raft", "raft", "")],
            &[
                "`common` names no concept",
                "`common` stands on no floor",
                "package `raft` in folder `raft`",
            ],
        );
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let tree = Tree::of(&[("crates/raft/Cargo.toml", "[package]\nname = \"kontiki-raft\"\n")]);
        assert_eq!(inspect(&tree).len(), 1);
    }
}
