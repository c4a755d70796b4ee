//! Shell patterns over bytes: `*`, `?`, `[a-z]`, `[!a-z]` and `**` for any number of folders.
//!
//! The names that come out are spelled as the pattern spells them: `./a*` gives `./ab`. A leading
//! dot is matched only by a pattern that writes it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::listing::path_of;

/// Whether `pattern` has anything to expand.
pub(super) fn is_pattern(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Every path that matches, in byte order, without duplicates.
pub(super) fn expand(pattern: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let (root, rest): (&[u8], &[u8]) = match pattern {
        [b'/', rest @ ..] => (b"/", rest),
        _ => (b"", pattern),
    };
    let parts: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
    descend(root.to_vec(), &parts, &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

fn descend(prefix: Vec<u8>, parts: &[&[u8]], found: &mut Vec<Vec<u8>>) -> io::Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        if fs::symlink_metadata(path_of(&prefix)).is_ok() {
            found.push(prefix);
        }
        return Ok(());
    };
    if *part == b"**" {
        // No folder, or one more, and the same again in it.
        descend(prefix.clone(), rest, found)?;
        for name in names(&prefix)?.into_iter().filter(|name| !name.starts_with(b".")) {
            let deeper = joined(&prefix, &name);
            if fs::symlink_metadata(path_of(&deeper)).is_ok_and(|it| it.is_dir()) {
                descend(deeper, parts, found)?;
            }
        }
        return Ok(());
    }
    if !is_pattern(part) {
        let deeper =
            if part.is_empty() && rest.is_empty() { prefix } else { joined(&prefix, part) };
        return descend(deeper, rest, found);
    }
    for name in names(&prefix)?.into_iter().filter(|name| matches(part, name)) {
        descend(joined(&prefix, &name), rest, found)?;
    }
    Ok(())
}

fn joined(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = prefix.to_vec();
    if !path.is_empty() && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

fn names(folder: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let folder = if folder.is_empty() { b"." } else { folder };
    let entries = match fs::read_dir(path_of(folder)) {
        Ok(entries) => entries,
        // What is not a folder has nothing in it that could match.
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().as_bytes().to_vec())).collect()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether the parts of a path match those of a pattern; `**` is any number of parts.
pub(super) fn path_matches(pattern: &[&[u8]], parts: &[&[u8]]) -> bool {
    match (pattern.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if *first == b"**" => {
            // Hidden folders are not entered.
            let enter = parts.split_first().filter(|(part, _)| !part.starts_with(b"."));
            path_matches(rest, parts)
                || enter.is_some_and(|(_, below)| path_matches(pattern, below))
        }
        (Some((first, rest)), Some((part, below))) => {
            matches(first, part) && path_matches(rest, below)
        }
        _ => false,
    }
}

/// Whether a name matches a pattern without slashes.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    // On a mismatch the last star takes one byte more; no other star needs to be tried again.
    let (mut at_pattern, mut at_name) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        let rest = pattern.get(at_pattern..).unwrap_or_default();
        let next = name.get(at_name).copied();
        if let Some(b'*') = rest.first() {
            last_star = Some((at_pattern + 1, at_name));
            at_pattern += 1;
            continue;
        }
        if let Some(length) = next.and_then(|byte| one(rest, byte)) {
            at_pattern += length;
            at_name += 1;
            continue;
        }
        if rest.is_empty() && next.is_none() {
            return true;
        }
        match last_star {
            Some((after_star, taken)) if taken < name.len() => {
                last_star = Some((after_star, taken + 1));
                (at_pattern, at_name) = (after_star, taken + 1);
            }
            _ => return false,
        }
    }
}

/// The length of the pattern's first element if it matches `byte`; stars are not handled here.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => match set(pattern) {
            Some((inner, length)) => in_set(inner, byte).then_some(length),
            // Without an end it is a bracket like any other byte.
            None => (byte == b'[').then_some(1),
        },
        first => (*first == byte).then_some(1),
    }
}

/// What stands between the brackets, and the length with them. The first byte may be `]`.
fn set(pattern: &[u8]) -> Option<(&[u8], usize)> {
    let skip = if pattern.get(1) == Some(&b'!') { 3 } else { 2 };
    let end = skip + pattern.get(skip..)?.iter().position(|byte| *byte == b']')?;
    Some((pattern.get(1..end)?, end + 1))
}

fn in_set(inner: &[u8], byte: u8) -> bool {
    let (negated, mut rest) = match inner {
        [b'!', rest @ ..] => (true, rest),
        _ => (false, inner),
    };
    let mut found = false;
    while let [first, after @ ..] = rest {
        if let [b'-', last, after @ ..] = after {
            found |= (*first..=*last).contains(&byte);
            rest = after;
        } else {
            found |= *first == byte;
            rest = after;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        let yes = [
            ("*", "a"),
            ("*.txt", "a.txt"),
            ("pg-*.txt", "pg-.txt"),
            ("a*b*c", "axxbyybzc"),
            ("?", "x"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]]", "]"),
            ("[x", "[x"),
            (".*", ".hidden"),
            ("**", "a"),
            ("*", "\u{e4}"),
        ];
        for (pattern, name) in yes {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        let no = [
            ("*", ".hidden"),
            ("?", ""),
            ("?", "ab"),
            ("[a-c]", "d"),
            ("[!a-c]", "a"),
            ("a*b", "a"),
            ("a", "A"),
        ];
        for (pattern, name) in no {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn paths_are_spelled_as_the_pattern_spells_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for name in ["a/x.txt", "a/y.txt", "b/x.txt", "b/c/x.txt", "b/.x.txt"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let check = |pattern: &str, expect: &[&str]| {
            let found = expand(format!("{root}/{pattern}").as_bytes()).unwrap();
            let expect: Vec<Vec<u8>> =
                expect.iter().map(|name| format!("{root}/{name}").into_bytes()).collect();
            assert_eq!(found, expect, "{pattern}");
        };
        check("a/*.txt", &["a/x.txt", "a/y.txt"]);
        check("./a/[x]*", &["./a/x.txt"]);
        check("*/x.txt", &["a/x.txt", "b/x.txt"]);
        check("**/x.txt", &["a/x.txt", "b/c/x.txt", "b/x.txt"]);
        check("a/../b/*.txt", &["a/../b/x.txt"]);
        check("none/*.txt", &[]);
        check("a/x.txt/*", &[]);
    }
}
