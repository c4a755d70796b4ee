//! Inline commands: a line of words, as a person types it into `nc`.

use bytes::Bytes;

use crate::ProtocolError;

/// Splits a line (without its line end) into words and appends them to `args`.
///
/// Words are separated by blanks. `"…"` understands `\n \r \t \b \a \xHH` and takes any other
/// escaped byte as it is; `'…'` understands only `\'`. A closing quote ends its word, so a blank
/// or the end of the line must follow it; an opening quote may come in the middle of a word.
pub(crate) fn split(line: &Bytes, args: &mut Vec<Bytes>) -> Result<(), ProtocolError> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|byte| is_blank(*byte)) {
            at += 1;
        }
        if at >= line.len() {
            return Ok(());
        }
        let start = at;
        while line.get(at).is_some_and(|byte| !ends_plain_run(*byte)) {
            at += 1;
        }
        match line.get(at) {
            Some(b'"' | b'\'') => args.push(quoted_word(line, start, &mut at)?),
            _ => args.push(line.slice(start..at)),
        }
    }
}

/// Between words any of these is skipped …
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// … but within a word vertical tab and form feed belong to it, as in Redis.
fn ends_word(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn ends_plain_run(byte: u8) -> bool {
    ends_word(byte) || matches!(byte, b'"' | b'\'')
}

/// A word with a quoted part. Its plain beginning is `line[start..*at]`, and a quote is at `*at`.
fn quoted_word(line: &[u8], start: usize, at: &mut usize) -> Result<Bytes, ProtocolError> {
    let mut word = line[start..*at].to_vec();
    let quote = line[*at];
    *at += 1;
    loop {
        let rest = &line[*at..];
        let (byte, used) = match *rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [end, ..] if end == quote => break,
            [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
            [b'\\', b'x', high, low, ..] if quote == b'"' && is_hex(high) && is_hex(low) => {
                (hex(high) << 4 | hex(low), 4)
            }
            [b'\\', escaped, ..] if quote == b'"' => (unescape(escaped), 2),
            [byte, ..] => (byte, 1),
        };
        word.push(byte);
        *at += used;
    }
    *at += 1;
    match line.get(*at) {
        Some(byte) if !is_blank(*byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(word.into()),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn hex(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut args = Vec::new();
        split(&Bytes::copy_from_slice(line.as_bytes()), &mut args)?;
        Ok(args.iter().map(|arg| arg.to_vec()).collect())
    }

    #[track_caller]
    fn check(line: &str, expect: &[&[u8]]) {
        assert_eq!(words(line).expect(line), expect, "{line}");
    }

    // The expectations below were taken from a Redis 7.0.15.
    #[test]
    fn words_are_split_as_redis_splits_them() {
        check("", &[]);
        check("  PING \t", &[b"PING"]);
        check("GET a", &[b"GET", b"a"]);
        check("ECHO \"a b\"", &[b"ECHO", b"a b"]);
        check("ECHO \"\"", &[b"ECHO", b""]);
        check("ECHO a\"b\"", &[b"ECHO", b"ab"]);
        check("PING\x0b", &[b"PING\x0b"]);
        check("ECHO a\rb", &[b"ECHO", b"a", b"b"]);
        check("ECHO \"a\rb\"", &[b"ECHO", b"a\rb"]);
    }

    #[test]
    fn escapes_are_read_as_redis_reads_them() {
        check("ECHO \"a\\x41\\n\\q\\xzz\"", &[b"ECHO", b"aA\nqxzz"]);
        check("ECHO \"\\\"\\\\\\t\\b\\a\\r\"", &[b"ECHO", b"\"\\\t\x08\x07\r"]);
        check("ECHO 'a\\'b\\n'", &[b"ECHO", b"a'b\\n"]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in
            ["ECHO \"a", "ECHO 'a", "ECHO \"a\"b", "ECHO 'a'b", "a\"b c\"d", "\"a\\\"", "\"\\"]
        {
            assert_eq!(words(line), Err(ProtocolError::UnbalancedQuotes), "{line}");
        }
    }
}
