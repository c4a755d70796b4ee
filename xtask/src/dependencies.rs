//! What we build upon: every dependency with its version and licence, and the test that we may.

mod licence;

use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::program::Program;

const PAGE: &str = "docs/dependencies.md";

const PREFACE: &str = "\
# Dependencies

Every package that Kontiki is built, tested or measured with on Linux, with its licence, written by
`cargo xtask deps`. The gate fails when this page is out of date, or when a package can be used
under none of the licences listed in `xtask/src/dependencies/licence.rs`.

";

/// Writes the page, or with `only_check` says whether it is true; in both cases checks licences.
pub fn run(root: &Path, only_check: bool) -> Result<bool> {
    let packages = read(root)?;
    let mut allowed = true;
    for package in &packages {
        if !licence::is_allowed(&package.licence) {
            println!("{} {}: licence `{}`", package.name, package.version, package.licence);
            println!("  hint: if we may use it, allow it in xtask/src/dependencies/licence.rs");
            allowed = false;
        }
    }
    let page = render(&packages);
    let path = root.join(PAGE);
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    if written == page {
        return Ok(allowed);
    }
    if only_check {
        println!("{PAGE} is out of date");
        return Ok(false);
    }
    std::fs::write(&path, page).with_context(|| format!("cannot write {PAGE}"))?;
    Ok(allowed)
}

/// One package from outside.
struct Package {
    name: String,
    version: String,
    licence: String,
    /// Whether the binary holds it, or its build runs it.
    product: bool,
}

fn render(packages: &[Package]) -> String {
    let mut page = PREFACE.to_string();
    for (product, title) in
        [(true, "In the binary or its build"), (false, "Only in tests and tools")]
    {
        page.push_str(&format!("## {title}\n\n| package | version | licence |\n|---|---|---|\n"));
        for package in packages.iter().filter(|package| package.product == product) {
            let Package { name, version, licence, .. } = package;
            page.push_str(&format!("| {name} | {version} | {licence} |\n"));
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    resolve: Resolve,
    workspace_members: Vec<String>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    kind: Option<String>,
}

fn read(root: &Path) -> Result<Vec<Package>> {
    let metadata = Program::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .in_directory(root)
        .output_within(Duration::from_secs(300))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("what cargo metadata says")?;
    let own: BTreeSet<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    let binary = metadata.packages.iter().filter(|package| package.name == crate::house::BINARY);
    let product = reachable(&metadata.resolve, binary.map(|package| package.id.as_str()));
    let mut packages: Vec<Package> = metadata
        .packages
        .iter()
        .filter(|package| !own.contains(package.id.as_str()))
        .map(|package| Package {
            name: package.name.clone(),
            version: package.version.clone(),
            licence: package.license.clone().unwrap_or_else(|| "none stated".to_string()),
            product: product.contains(package.id.as_str()),
        })
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(packages)
}

/// What `from` reaches by dependencies that are not only of tests.
fn reachable<'a>(resolve: &'a Resolve, from: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Node> =
        resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut waiting: Vec<&str> = from.collect();
    let mut reached = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !reached.insert(id) {
            continue;
        }
        let edges = nodes.get(id).into_iter().flat_map(|node| &node.deps);
        let built = edges
            .filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev")));
        waiting.extend(built.map(|edge| edge.pkg.as_str()));
    }
    reached
}
