//! Which Rust files belong to which package, and which of those only to its tests.

use crate::rust_source::{Kind, Source, Token, after_group, is_test_attribute};
use crate::tree::Tree;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// How a file is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Use {
    /// Only when tests, examples or benchmarks are built.
    Tests,
    /// It is part of the library, the binary or the build.
    Product,
}

/// Every file that the package in `folder` reaches from its targets.
pub fn reached(tree: &Tree, folder: &str) -> BTreeMap<String, Use> {
    let mut files = BTreeMap::new();
    for (root, use_) in roots(tree, folder) {
        visit(tree, &root, directory(&root), use_, &mut files);
    }
    files
}

/// The root files of the package's targets, those that cargo finds and those that are named.
fn roots(tree: &Tree, folder: &str) -> Vec<(String, Use)> {
    let mut roots = vec![
        (format!("{folder}/src/lib.rs"), Use::Product),
        (format!("{folder}/src/main.rs"), Use::Product),
        (format!("{folder}/build.rs"), Use::Product),
    ];
    let kinds = [
        ("src/bin", Use::Product),
        ("tests", Use::Tests),
        ("examples", Use::Tests),
        ("benches", Use::Tests),
    ];
    for (kind, use_) in kinds {
        let prefix = format!("{folder}/{kind}/");
        let found = tree.rust().map(|(path, _)| path).filter(|path| is_target(path, &prefix));
        roots.extend(found.map(|path| (path.to_string(), use_)));
    }
    let manifest = tree.text(&format!("{folder}/Cargo.toml")).unwrap_or_default();
    let manifest: Table = manifest.parse().unwrap_or_default();
    for (kind, use_) in [
        ("lib", Use::Product),
        ("bin", Use::Product),
        ("test", Use::Tests),
        ("example", Use::Tests),
        ("bench", Use::Tests),
    ] {
        let targets = match manifest.get(kind) {
            Some(Value::Array(targets)) => targets.as_slice(),
            Some(table) => std::slice::from_ref(table),
            None => &[],
        };
        let paths = targets.iter().filter_map(|target| target.get("path")?.as_str());
        roots.extend(paths.map(|path| (format!("{folder}/{path}"), use_)));
    }
    roots.retain(|(path, _)| tree.text(path).is_some());
    roots
}

/// `tests/x.rs` and `tests/x/main.rs` are targets of their own; what else lies there is not.
fn is_target(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| match rest.split_once('/') {
        None => true,
        Some((_, file)) => file == "main.rs",
    })
}

/// Notes `path`, whose submodules live in `below`, and goes on to what it declares.
fn visit(tree: &Tree, path: &str, below: &str, use_: Use, files: &mut BTreeMap<String, Use>) {
    let Some(text) = tree.text(path) else { return };
    // Reached a second time through a weaker use: nothing new to say.
    if files.get(path).is_some_and(|known| *known >= use_) {
        return;
    }
    files.insert(path.to_string(), use_);
    for declared in declarations(text) {
        let use_ = if declared.test { Use::Tests } else { use_ };
        let inside =
            declared.inside.iter().fold(below.to_string(), |at, name| format!("{at}/{name}"));
        match declared.target {
            Target::Path(relative) => {
                let file = normal(&format!("{}/{relative}", directory(path)));
                visit(tree, &file, directory(&file), use_, files);
            }
            Target::Module(name) => {
                let below = format!("{inside}/{name}");
                visit(tree, &format!("{below}.rs"), &below, use_, files);
                visit(tree, &format!("{below}/mod.rs"), &below, use_, files);
            }
        }
    }
}

struct Declaration<'a> {
    /// The inline modules around it.
    inside: Vec<&'a str>,
    target: Target<'a>,
    test: bool,
}

enum Target<'a> {
    /// `mod name;`
    Module(&'a str),
    /// `#[path = "…"] mod name;` or `include!("…")`.
    Path(&'a str),
}

fn declarations(text: &str) -> Vec<Declaration<'_>> {
    let source = Source::scan(text);
    let tokens = &source.tokens;
    let mut found = Vec::new();
    let mut modules: Vec<(&str, usize, bool)> = Vec::new();
    let mut depth = 0usize;
    let mut attributes = Attributes::default();
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at];
        let next = tokens.get(at + 1).map_or("", |next| next.text);
        let after = tokens.get(at + 2).map_or("", |after| after.text);
        let inside_test = modules.iter().any(|(_, _, test)| *test);
        let names = || modules.iter().map(|(name, _, _)| *name).collect();
        match token.text {
            "#" if next == "[" => {
                attributes.read(&tokens[at..]);
                at = after_group(tokens, at + 1);
                continue;
            }
            "mod" if token.kind == Kind::Word && after == ";" => {
                let target = attributes.path.map_or(Target::Module(next), Target::Path);
                found.push(Declaration {
                    inside: names(),
                    target,
                    test: inside_test || attributes.test,
                });
            }
            "mod" if token.kind == Kind::Word && after == "{" => {
                modules.push((next, depth, attributes.test));
            }
            "include" if next == "!" => {
                let literal = tokens.get(at + 3).filter(|token| token.kind == Kind::Literal);
                found.extend(literal.map(|literal| Declaration {
                    inside: Vec::new(),
                    target: Target::Path(literal.text.trim_matches('"')),
                    test: inside_test || attributes.test,
                }));
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                modules.retain(|(_, opened, _)| *opened < depth);
            }
            _ => {}
        }
        if matches!(token.text, ";" | "{" | "}") {
            attributes = Attributes::default();
        }
        at += 1;
    }
    found
}

/// What the attributes before an item say.
#[derive(Default)]
struct Attributes<'a> {
    path: Option<&'a str>,
    test: bool,
}

impl<'a> Attributes<'a> {
    fn read(&mut self, tokens: &[Token<'a>]) {
        self.test |= is_test_attribute(tokens);
        if crate::rust_source::matches(tokens, &["#", "[", "path", "="]) {
            self.path = tokens.get(4).map(|literal| literal.text.trim_matches('"'));
        }
    }
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// The path with `a/../` and `./` taken out.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_followed_and_told_from_tests() {
        let tree = Tree::of(&[
            ("crates/kv/Cargo.toml", "[package]\nname = \"kontiki-kv\"\n"),
            (
                "crates/kv/src/lib.rs",
                "mod a; pub mod inline { mod b; } #[path = \"odd/c.rs\"] mod c;",
            ),
            ("crates/kv/src/a.rs", "mod deep; #[cfg(test)] mod tests;"),
            ("crates/kv/src/a/deep/mod.rs", "mod deeper;"),
            ("crates/kv/src/a/deep/deeper.rs", ""),
            ("crates/kv/src/a/tests.rs", "mod more;"),
            ("crates/kv/src/a/tests/more.rs", ""),
            ("crates/kv/src/inline/b.rs", ""),
            ("crates/kv/src/odd/c.rs", ""),
            ("crates/kv/src/dead.rs", ""),
            ("crates/kv/tests/it/main.rs", "mod one;"),
            ("crates/kv/tests/it/one.rs", ""),
            ("crates/kv/tests/it/two.rs", ""),
        ]);
        let reached = reached(&tree, "crates/kv");
        let of = |use_: Use| {
            let files = reached.iter().filter(|(_, found)| **found == use_);
            files
                .map(|(path, _)| path.strip_prefix("crates/kv/").unwrap_or(path))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(Use::Product),
            [
                "src/a.rs",
                "src/a/deep/deeper.rs",
                "src/a/deep/mod.rs",
                "src/inline/b.rs",
                "src/lib.rs",
                "src/odd/c.rs"
            ]
        );
        assert_eq!(
            of(Use::Tests),
            ["src/a/tests.rs", "src/a/tests/more.rs", "tests/it/main.rs", "tests/it/one.rs"]
        );
    }

    #[test]
    fn a_module_used_both_ways_counts_as_product() {
        let tree = Tree::of(&[
            ("crates/kv/Cargo.toml", "[package]\nname = \"kontiki-kv\"\n"),
            ("crates/kv/src/lib.rs", "#[cfg(test)] mod a; #[path = \"a.rs\"] mod again;"),
            ("crates/kv/src/a.rs", ""),
        ]);
        assert_eq!(reached(&tree, "crates/kv")["crates/kv/src/a.rs"], Use::Product);
    }
}
