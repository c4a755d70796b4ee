//! Words of the page.

use std::fmt;

use bytes::Bytes;
use kontiki_resp::Reply;

use crate::history::{Operation, Outcome, Request};

/// Text in which nothing is taken for markup.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                other => write!(f, "{other}")?,
            }
        }
        Ok(())
    }
}

/// A time, told from the unexplained answer.
pub(super) struct Time {
    pub(super) at: u64,
    pub(super) until: u64,
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until.checked_sub(self.at) {
            Some(0) => f.write_str("0"),
            Some(before) => write!(f, "-{}", millis(before)),
            None => write!(f, "+{}", millis(self.at - self.until)),
        }
    }
}

/// Nanoseconds as milliseconds.
pub(super) fn millis(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1_000_000, nanos / 1000 % 1000)
}

/// Bytes for people, about `max` characters; of a longer string the front and the end, where two
/// that differ do.
pub(super) fn shown(bytes: &[u8], max: usize) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() <= max {
        return text;
    }
    let half = max / 2;
    format!("{}…{} ({} bytes)", &text[..half], &text[text.len() - half..], bytes.len())
}

/// What was asked.
pub(super) fn words(operation: &Operation) -> String {
    let command = |words: &Vec<Bytes>| {
        let words: Vec<String> = words.iter().map(|word| shown(word, 40)).collect();
        words.join(" ")
    };
    match &operation.request {
        Request::Command(words) => command(words),
        Request::Transaction(commands) => {
            let commands: Vec<String> = commands.iter().map(command).collect();
            format!("MULTI {} EXEC", commands.join("; "))
        }
    }
}

/// What was answered.
pub(super) fn answer(operation: &Operation) -> String {
    match &operation.outcome {
        Outcome::Unknown => "unknown".to_owned(),
        Outcome::Refused { reason, .. } => format!("refused: {}", shown(reason, 60)),
        Outcome::Known { reply, .. } => told_reply(reply),
    }
}

fn told_reply(reply: &Reply) -> String {
    match reply {
        Reply::Null => "nil".to_owned(),
        Reply::Integer(number) => number.to_string(),
        Reply::Simple(text) => shown(text, 60),
        Reply::Bulk(bytes) => format!("\"{}\"", shown(bytes, 60)),
        Reply::Error(line) => format!("error {}", shown(line, 60)),
        Reply::Array(items) => {
            let items: Vec<String> = items.iter().map(told_reply).collect();
            format!("[{}]", items.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// The text in a bar.
pub(super) fn label(operation: &Operation, place: Option<usize>) -> String {
    let short = |text: String| match text.char_indices().nth(34) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    let place = place.map_or(String::new(), |place| format!("#{place} "));
    format!("{place}{} → {}", short(words(operation)), short(answer(operation)))
}

/// Everything about an operation, for the pointer that rests on its bar.
pub(super) fn told(operation: &Operation, until: u64) -> String {
    let returned = match operation.returned() {
        Some(at) => Time { at, until }.to_string(),
        None => "never".to_owned(),
    };
    format!(
        "client {}: {} → {}; called {}, returned {returned}",
        operation.client,
        words(operation),
        answer(operation),
        Time { at: operation.call, until }
    )
}

/// The key and the value that a read of one key was answered with.
pub(super) fn read_of_one_key(operation: &Operation) -> Option<(&Bytes, Option<&[u8]>)> {
    let (Request::Command(words), Outcome::Known { reply, .. }) =
        (&operation.request, &operation.outcome)
    else {
        return None;
    };
    let [name, key] = &words[..] else { return None };
    match reply {
        _ if !name.eq_ignore_ascii_case(b"GET") => None,
        Reply::Bulk(value) => Some((key, Some(value))),
        Reply::Null => Some((key, None)),
        _ => None,
    }
}

/// Whether an operation names this value: it wrote it, most likely.
pub(super) fn gives(operation: &Operation, value: &[u8]) -> bool {
    operation.request.commands().iter().any(|words| {
        words.iter().skip(2).any(|word| {
            word[..] == *value
                || !word.is_empty() && words[0][..] == *b"APPEND" && value.ends_with(word)
        })
    })
}
