//! A pair of key and value as a line: `key TAB value`.
//!
//! So that each pair is one line and comes back as it was, `\` is written `\\` and a newline `\n`, and
//! in a key a tab `\t`. What else is behind a backslash stays as it is when it is read.

/// Appends the line of a pair.
pub(super) fn write(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    escape(key, true, out);
    out.push(b'\t');
    escape(value, false, out);
    out.push(b'\n');
}

fn escape(bytes: &[u8], is_key: bool, out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' if is_key => out.extend_from_slice(b"\\t"),
            byte => out.push(*byte),
        }
    }
}

/// The pair of a line without its newline: what is before the first tab, or else before the first
/// space, is the key, and what comes after it the value.
pub(super) fn read(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let tab = line.iter().position(|byte| *byte == b'\t');
    let end = tab.or_else(|| line.iter().position(|byte| *byte == b' '));
    let (key, value) = match end {
        Some(end) => (line.get(..end), line.get(end + 1..)),
        None => (Some(line), None),
    };
    (unescape(key.unwrap_or_default()), unescape(value.unwrap_or_default()))
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let meant = match (first, after.first()) {
            (b'\\', Some(b'\\')) => Some(b'\\'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            (b'\\', Some(b't')) => Some(b'\t'),
            _ => None,
        };
        bytes.push(meant.unwrap_or(*first));
        rest = if meant.is_some() { after.get(1..).unwrap_or_default() } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (key.to_vec(), value.to_vec())
    }

    #[test]
    fn lines_of_jobs_are_cut_at_the_tab_or_the_space() {
        assert_eq!(read(b"a b\tc d"), pair(b"a b", b"c d"));
        assert_eq!(read(b"word 7"), pair(b"word", b"7"));
        assert_eq!(read(b"alone"), pair(b"alone", b""));
        assert_eq!(read(b"a\\d\t\\"), pair(b"a\\d", b"\\"));
        assert_eq!(read(b""), pair(b"", b""));
    }

    proptest! {
        #[test]
        fn every_pair_is_one_line_and_comes_back(
            key in prop::collection::vec(prop::sample::select(&b"\\\n\tnt a\xff"[..]), 0..12),
            value in prop::collection::vec(prop::sample::select(&b"\\\n\tnt a\0"[..]), 0..12),
        ) {
            let mut line = Vec::new();
            write(&key, &value, &mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(read(&line), (key, value));
        }
    }
}
