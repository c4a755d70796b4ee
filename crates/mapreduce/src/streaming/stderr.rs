//! What a command says on stderr: counters, and what a person may want to read if it fails.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};

use crate::task::Counters;

/// Kept of what is not for us, from the end.
const KEPT_BYTES: usize = 4096;

/// Longer lines are taken in pieces.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) counters: Counters,
    kept: VecDeque<u8>,
}

impl Said {
    /// Reads until the command closes its end. `status` gets what it says of itself.
    pub(super) fn read(stderr: impl Read, status: impl Fn(&str)) -> Said {
        let mut said = Said::default();
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                // What cannot be read cannot be told; the exit code still decides.
                Ok(0) | Err(_) => return said,
                Ok(_) => said.line(&line, &status),
            }
        }
    }

    fn line(&mut self, line: &[u8], status: impl Fn(&str)) {
        if let Some(counter) = line.strip_prefix(b"reporter:counter:")
            && let Some((group, name, amount)) = parsed(counter)
        {
            self.counters.add(&group, &name, amount);
        } else if let Some(said) = line.strip_prefix(b"reporter:status:") {
            status(String::from_utf8_lossy(said).trim());
        } else {
            self.kept.extend(line);
            let surplus = self.kept.len().saturating_sub(KEPT_BYTES);
            self.kept.drain(..surplus);
        }
    }

    /// The end of what was said, for people.
    pub(super) fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }
}

/// Group, name and amount; the name may contain commas.
fn parsed(counter: &[u8]) -> Option<(String, String, i64)> {
    let text = String::from_utf8_lossy(counter);
    let (names, amount) = text.trim_end().rsplit_once(',')?;
    let (group, name) = names.split_once(',')?;
    Some((group.to_owned(), name.to_owned(), amount.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_counted_and_the_rest_is_kept() {
        let statuses = std::cell::RefCell::new(Vec::new());
        let said = Said::read(
            &b"reporter:counter:g,n,2\nhello\nreporter:status:half\n\
               reporter:counter:g,n,-5\nreporter:counter:g,a, b,1\nreporter:counter:broken\n"[..],
            |status| statuses.borrow_mut().push(status.to_owned()),
        );
        assert_eq!(statuses.into_inner(), ["half"]);
        assert_eq!(said.counters.get("g", "n"), -3);
        assert_eq!(said.counters.get("g", "a, b"), 1);
        assert_eq!(said.text(), "hello\nreporter:counter:broken");
    }

    #[test]
    fn only_the_end_is_kept() {
        let text = format!("{}end", "x".repeat(100_000));
        let said = Said::read(text.as_bytes(), |_| {});
        assert_eq!(said.text().len(), KEPT_BYTES);
        assert!(said.text().ends_with("xend"));
    }
}
