//! The size of files: a file is one idea, and ideas of over 900 lines are rare.

use super::Finding;
use crate::tree::Tree;

const LINES_MAX: usize = 900;

/// Files that are longer for a reason, and the reason.
const EXCEPTIONS: [(&str, &str); 0] = [];

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    inspect_with(tree, &EXCEPTIONS)
}

fn inspect_with(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<Finding> {
    let excepted = |path: &str| exceptions.iter().any(|(file, _)| *file == path);
    let long = tree.rust().map(|(path, text)| (path, text.lines().count()));
    let long = long.filter(|(path, lines)| *lines > LINES_MAX && !excepted(path));
    let hint = "split it by idea, or give a reason in xtask/src/house/size.rs";
    let mut findings: Vec<Finding> =
        long.map(|(path, lines)| Finding::in_file(path, format!("{lines} lines"), hint)).collect();
    let gone = exceptions
        .iter()
        .filter(|(file, _)| tree.text(file).is_none_or(|text| text.lines().count() <= LINES_MAX));
    findings.extend(gone.map(|(file, _)| {
        Finding::in_file(
            file,
            "an exception that is not needed",
            "take it out of xtask/src/house/size.rs",
        )
    }));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_unless_there_is_a_reason() {
        let long = "// x\n".repeat(LINES_MAX + 1);
        let tree = Tree::of(&[("crates/kv/src/a.rs", &long), ("crates/kv/src/b.rs", "// short\n")]);
        assert_eq!(inspect_with(&tree, &[]).len(), 1);
        assert_eq!(inspect_with(&tree, &[("crates/kv/src/a.rs", "a table")]), []);
    }

    #[test]
    fn an_exception_that_is_not_needed_is_found() {
        let tree = Tree::of(&[("crates/kv/src/b.rs", "// short\n")]);
        assert_eq!(inspect_with(&tree, &[("crates/kv/src/b.rs", "was long")]).len(), 1);
    }
}
