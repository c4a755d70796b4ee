//! Glob patterns of KEYS and SCAN.
//!
//! `*` any bytes, `?` one byte, `[abc]`, `[a-z]`, `[^a]` one byte of (not of) a set, `\` takes the
//! next byte as it is. Bytes, not characters; bounds of a range compare as signed bytes and in
//! either order; a set that is not closed ends with the pattern: all as in Redis.
//!
//! Takes at most pattern × text steps: after a mismatch only the last `*` takes one byte more,
//! since whatever an earlier one could reach, the last one can too.

/// Whether all of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // After the last star: where the pattern goes on, and from where in the text it was tried.
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            if at == pattern.len() {
                return true;
            }
            star = Some((at, seen));
            continue;
        }
        let step = match text.get(seen) {
            Some(&byte) => matches_one(&pattern[at..], byte),
            None if at == pattern.len() => return true,
            None => return false,
        };
        match (step, &mut star) {
            (Some(width), _) => {
                at += width;
                seen += 1;
            }
            (None, Some((after, tried))) => {
                *tried += 1;
                (at, seen) = (*after, *tried);
            }
            (None, None) => return false,
        }
    }
}

/// How many bytes of the pattern stand for `byte`; `None` if it does not match.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ref set @ ..] => {
            let (found, width) = matches_set(set, byte);
            found.then_some(1 + width)
        }
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [literal, ..] => (literal == byte).then_some(1),
    }
}

/// Whether a set contains `byte`, and the length of the set with its bracket.
fn matches_set(set: &[u8], byte: u8) -> (bool, usize) {
    let negated = set.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match set[at..] {
            [] => return (found != negated, at),
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [b']', ..] => return (found != negated, at + 1),
            [first, b'-', last, ..] => {
                let (first, last, byte) =
                    (first.cast_signed(), last.cast_signed(), byte.cast_signed());
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= literal == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }

    #[test]
    fn literals_and_wildcards() {
        check("", "", true);
        check("", "a", false);
        check("abc", "abc", true);
        check("abc", "ab", false);
        check("ab", "abc", false);
        check("*", "", true);
        check("**", "anything", true);
        check("h?llo", "hello", true);
        check("h?llo", "hllo", false);
        check("h*llo", "heeeello", true);
        check("h*llo", "hell", false);
        check("*llo*", "hello world", true);
        check("a*b*c", "a1b2b3c", true);
        check("a*b*c", "a1b2b3", false);
        check("a*", "a", true);
    }

    #[test]
    fn sets() {
        check("h[ae]llo", "hallo", true);
        check("h[ae]llo", "hillo", false);
        check("h[^e]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("[a-c]", "b", true);
        check("[c-a]", "b", true);
        check("[a-c]", "d", false);
        check("[\\]]", "]", true);
        // The bracket is the end of the range, and nothing closes the set.
        check("[a-]", "_", true);
        check("[a-]", "-", false);
        check("[abc", "c", true);
        check("[", "[", false);
        check("[^", "x", true);
        check("[]", "]", false);
    }

    #[test]
    fn escapes() {
        check("\\*", "*", true);
        check("\\*", "a", false);
        check("a\\", "a\\", true);
        check("\\[a]", "[a]", true);
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "a*".repeat(60) + "b";
        check(&pattern, &"a".repeat(2000), false);
    }
}
