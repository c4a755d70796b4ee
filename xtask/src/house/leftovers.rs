//! Leftovers: what somebody meant to come back to.

use super::Finding;
use crate::rust_source::Source;
use crate::tree::Tree;

const HINT: &str = "do it, or say in prose what is missing on purpose";

/// Notes to oneself, put together here so that this file holds none.
const NOTES: [&str; 3] = [concat!("FIX", "ME"), concat!("X", "XX"), concat!("TO", "DO")];

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    tree.rust().flat_map(|(path, text)| inspect_file(path, text)).collect()
}

fn inspect_file(path: &str, text: &str) -> Vec<Finding> {
    let source = Source::scan(text);
    let mut found: Vec<(usize, String)> = Vec::new();
    for name in ["todo", "unimplemented", "dbg"] {
        let lines = source.lines_of(&[name, "!"]);
        found.extend(lines.into_iter().map(|line| (line, format!("`{name}!`"))));
    }
    let ignored = source.lines_of(&["#", "[", "ignore"]);
    found.extend(ignored.into_iter().map(|line| (line, "a test that never runs".to_string())));
    for comment in &source.comments {
        for (offset, line) in comment.text.lines().enumerate() {
            let note = NOTES.iter().find(|note| words(line).any(|word| word == **note));
            found.extend(note.map(|note| (comment.line + offset, format!("a note: {note}"))));
        }
    }
    found.sort();
    found.into_iter().map(|(line, what)| Finding::at(path, line, what, HINT)).collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let found = inspect(&Tree::of(&[("crates/kv/src/lib.rs", text)]));
        let found: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(found, expect, "in {text}");
    }

    #[test]
    fn planted_leftovers_are_found() {
        check(concat!("fn f() { to", "do!() }"), &["`todo!`"]);
        check(concat!("fn f() { unimple", "mented!(\"x\") }"), &["`unimplemented!`"]);
        check(concat!("fn f() { d", "bg!(1); }"), &["`dbg!`"]);
        check(concat!("#[ig", "nore = \"slow\"] #[test] fn f() {}"), &["a test that never runs"]);
        let note = concat!("FIX", "ME");
        check(&format!("// {note}: later"), &[&format!("a note: {note}")]);
        check(&format!("/* one\n   {note} */"), &[&format!("a note: {note}")]);
    }

    #[test]
    fn words_that_look_alike_are_not() {
        check("/// The mastodon! and `\\xXX` escapes.\nfn ignore() {} let s = \"todo!\";", &[]);
    }
}
