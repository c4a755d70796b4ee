//! The purity of the cores: no I/O, clock, thread or ambient randomness, and no order that a
//! hash map chose.
//!
//! The simulator's promise, same seed and same trace, rests on this. Code under `#[cfg(test)]` is
//! exempt.

use super::Finding;
use super::modules::{self, Use};
use super::plan::HOUSE;
use crate::rust_source::{Kind, Source};
use crate::tree::Tree;

const EFFECT: &str = "hand it in as an event or a seed, or give it back as an output";
const ORDER: &str = "use a BTreeMap; or say `// lookup only` on the line if nothing iterates it";

/// Paths that reach the world outside.
const BANNED_PATHS: [&str; 14] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "tokio",
    "rand",
    "getrandom",
    "fastrand",
];

/// Words that are enough by themselves.
const BANNED_WORDS: [&str; 5] = ["SystemTime", "thread_rng", "thread_local", "async", "await"];

/// Macros that print.
const PRINTING: [&str; 4] = ["println", "eprintln", "print", "eprint"];

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    let cores = HOUSE.iter().filter(|place| place.pure);
    cores.flat_map(|place| inspect_core(tree, &format!("crates/{}", place.folder))).collect()
}

fn inspect_core(tree: &Tree, folder: &str) -> Vec<Finding> {
    let reached = modules::reached(tree, folder);
    let product = reached.iter().filter(|(_, use_)| **use_ == Use::Product);
    product
        .filter_map(|(path, _)| Some((path, tree.text(path)?)))
        .flat_map(|(path, text)| inspect_file(path, text))
        .collect()
}

fn inspect_file(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::scan(text).without_tests();
    let mut found: Vec<(usize, String, &'static str)> = Vec::new();
    for (name, line) in source.paths() {
        if is_banned(&name) {
            found.push((line, format!("a core uses `{name}`"), EFFECT));
        }
    }
    for (at, token) in source.tokens.iter().enumerate() {
        if token.kind != Kind::Word {
            continue;
        }
        if BANNED_WORDS.contains(&token.text) {
            found.push((token.line, format!("a core uses `{}`", token.text), EFFECT));
        } else if PRINTING.contains(&token.text) && source.matches(at + 1, &["!"]) {
            found.push((token.line, format!("a core prints with `{}!`", token.text), EFFECT));
        } else if matches!(token.text, "HashMap" | "HashSet")
            && !is_lookup_only(&source, token.line)
        {
            found.push((token.line, format!("a core uses a `{}`", token.text), ORDER));
        }
    }
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0 && a.2 == b.2);
    found.into_iter().map(|(line, what, hint)| Finding::at(path, line, what, hint)).collect()
}

fn is_banned(name: &str) -> bool {
    let below =
        |banned: &&str| name.strip_prefix(*banned).is_some_and(|rest| rest.starts_with("::"));
    name.ends_with("Instant::now")
        || BANNED_PATHS.iter().any(below)
        || BANNED_PATHS.iter().any(|banned| name == *banned && banned.contains("::"))
}

/// Whether the line, or the one above it, says that the order of the map reaches nothing.
fn is_lookup_only(source: &Source<'_>, line: usize) -> bool {
    let says = |text: &str| text.contains("lookup only");
    source
        .comments
        .iter()
        .any(|comment| (comment.line == line || comment.line + 1 == line) && says(comment.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let tree = Tree::of(&[
            ("crates/raft/Cargo.toml", "[package]\nname = \"kontiki-raft\"\n"),
            ("crates/raft/src/lib.rs", text),
        ]);
        let found = inspect(&tree);
        let found: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(found, expect, "in {text}");
    }

    #[test]
    fn a_pure_core_passes() {
        check("use std::collections::BTreeMap; use std::time::Duration; // tokio, std::fs", &[]);
        check("#[cfg(test)] mod tests { use std::fs; fn f() { println!(\"{}\", 1); } }", &[]);
        check("fn f(now: Instant) -> Instant { now } let rand = 3; x.rand();", &[]);
    }

    #[test]
    fn the_world_outside_is_found() {
        check("use std::fs;", &["a core uses `std::fs`"]);
        check("use std::{io, net::TcpStream};", &["a core uses `std::net::TcpStream`"]);
        check("fn f() { std::thread::yield_now(); }", &["a core uses `std::thread::yield_now`"]);
        check("fn f() { std::process::abort() }", &["a core uses `std::process::abort`"]);
        check("use tokio::sync::mpsc;", &["a core uses `tokio::sync::mpsc`"]);
        check("async fn f() {}", &["a core uses `async`"]);
        check("fn f() { println!(\"x\"); }", &["a core prints with `println!`"]);
    }

    #[test]
    fn clocks_and_randomness_are_found() {
        check("fn f() { let now = Instant::now(); }", &["a core uses `Instant::now`"]);
        check("use std::time::Instant;", &["a core uses `std::time::Instant`"]);
        check("fn f(t: SystemTime) {}", &["a core uses `SystemTime`"]);
        check("fn f() { rand::random::<u8>(); }", &["a core uses `rand::random`"]);
        check("fn f() { getrandom::fill(&mut b); }", &["a core uses `getrandom::fill`"]);
    }

    #[test]
    fn hash_maps_need_a_word_of_explanation() {
        check("struct S { m: HashMap<u8, u8> }", &["a core uses a `HashMap`"]);
        check("struct S { m: HashMap<u8, u8>, // lookup only\n}", &[]);
        check("// lookup only: nobody iterates it\nlet m = HashSet::new();", &[]);
        check("// lookup only\n\nlet m = HashSet::new();", &["a core uses a `HashSet`"]);
    }

    #[test]
    fn tests_in_files_of_their_own_are_exempt() {
        let tree = Tree::of(&[
            ("crates/raft/Cargo.toml", "[package]\nname = \"kontiki-raft\"\n"),
            ("crates/raft/src/lib.rs", "#[cfg(test)] mod tests;"),
            ("crates/raft/src/tests.rs", "use std::fs;"),
            ("crates/raft/examples/disk.rs", "use std::fs; fn main() {}"),
        ]);
        assert_eq!(inspect(&tree), []);
    }

    #[test]
    fn drivers_may_do_io() {
        let tree = Tree::of(&[
            ("crates/storage/Cargo.toml", "[package]\nname = \"kontiki-storage\"\n"),
            ("crates/storage/src/lib.rs", "use std::fs;"),
        ]);
        assert_eq!(inspect(&tree), []);
    }
}
