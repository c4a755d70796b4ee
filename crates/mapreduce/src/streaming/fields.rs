//! Where in a line the key ends, as Hadoop Streaming's options say it.

use serde::{Deserialize, Serialize};

/// What separates keys from values. The default: a tab, and the key is one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// Between the fields that the mapper and the combiner write; not empty
    /// (`stream.map.output.field.separator`).
    pub map_output: Vec<u8>,
    /// The key is so many fields, at least 1 (`stream.num.map.output.key.fields`).
    pub key_fields: u32,
    /// Between key and value where the reducer and the combiner read
    /// (`stream.reduce.input.field.separator`).
    pub reduce_input: Vec<u8>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { map_output: b"\t".to_vec(), key_fields: 1, reduce_input: b"\t".to_vec() }
    }
}

impl Fields {
    /// The key of a line, and its value with the separator that reducers read before it. A line
    /// with too few fields is a key without value and separator. `room` is for the value, if it has
    /// to be put together.
    pub(super) fn cut<'a>(&self, line: &'a [u8], room: &'a mut Vec<u8>) -> (&'a [u8], &'a [u8]) {
        let Some(end) = self.key_end(line) else { return (line, b"") };
        let (key, rest) = line.split_at_checked(end).unwrap_or((line, b""));
        if self.map_output == self.reduce_input {
            return (key, rest);
        }
        room.clear();
        room.extend_from_slice(&self.reduce_input);
        room.extend_from_slice(rest.get(self.map_output.len()..).unwrap_or_default());
        (key, room)
    }

    fn key_end(&self, line: &[u8]) -> Option<usize> {
        let mut end = self.find(line)?;
        for _ in 1..self.key_fields {
            let next = end + self.map_output.len();
            end = next + self.find(line.get(next..).unwrap_or_default())?;
        }
        Some(end)
    }

    fn find(&self, line: &[u8]) -> Option<usize> {
        match self.map_output.as_slice() {
            [byte] => memchr::memchr(*byte, line),
            several => memchr::memmem::find(line, several),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(fields: &Fields, line: &str) -> (String, String) {
        let mut room = Vec::new();
        let (key, value) = fields.cut(line.as_bytes(), &mut room);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(key), text(value))
    }

    #[test]
    fn the_key_ends_where_the_options_say() {
        let dots =
            |key_fields| Fields { map_output: b".".to_vec(), key_fields, ..Fields::default() };
        let long = Fields { map_output: b"::".to_vec(), ..dots(2) };
        let same = Fields { reduce_input: b".".to_vec(), ..dots(1) };
        for (fields, line, key, value) in [
            (Fields::default(), "a\tb\tc", "a", "\tb\tc"),
            (Fields::default(), "a.b", "a.b", ""),
            (dots(1), "a.b.c", "a", "\tb.c"),
            (dots(2), "a.b.c", "a.b", "\tc"),
            (dots(3), "a.b.c", "a.b.c", ""),
            (dots(3), "a.b.c.", "a.b.c", "\t"),
            (long, "a::b:::c", "a::b", "\t:c"),
            (same, "a.b.c", "a", ".b.c"),
        ] {
            assert_eq!(cut(&fields, line), (key.to_owned(), value.to_owned()), "{fields:?} {line}");
        }
    }
}
