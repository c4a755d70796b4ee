//! The arguments of a command, from a line of its syntax.
//!
//! `key` is an argument, `GET` a word as such, `EX seconds` an argument after a word. `[…]` is
//! optional, `(…)` a group, `a|b` one of several, `…...` may be repeated; `name:` names what
//! follows in a group.
//! A name tells the type: `seconds`, `offset`, … are integers (as is one that ends in `#`, while
//! `%` marks a number with a fraction), `key`, `source`, … are keys, the rest are strings.

use bytes::Bytes;

use crate::Reply;

/// Arguments as COMMAND DOCS lists them.
pub(super) fn arguments(syntax: &'static str) -> Vec<Reply> {
    let mut keys = 0;
    Parser { rest: syntax }.sequence().iter().map(|argument| argument.reply(&mut keys)).collect()
}

/// The line as people write it: without names of groups and marks.
pub(super) fn readable(syntax: &'static str) -> String {
    let mut text = String::new();
    let mut word = 0;
    for symbol in syntax.chars() {
        match symbol {
            ':' => text.truncate(word),
            '#' | '%' => {}
            symbol => text.push(symbol),
        }
        if matches!(symbol, ' ' | '[' | '(' | '|') {
            word = text.len();
        }
    }
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An argument, after a word or not.
    Value(&'static str),
    /// Only a word.
    Token,
    /// One of several.
    OneOf,
    /// Several after each other.
    Block,
}

struct Argument {
    name: &'static str,
    kind: Kind,
    token: Option<&'static str>,
    optional: bool,
    multiple: bool,
    parts: Vec<Argument>,
}

impl Argument {
    fn new(name: &'static str, kind: Kind, parts: Vec<Self>) -> Self {
        Self { name, kind, token: None, optional: false, multiple: false, parts }
    }

    /// `keys` counts the keys before this argument: each has its specification.
    fn reply(&self, keys: &mut i64) -> Reply {
        let kind = match self.kind {
            Kind::Value(kind) => kind,
            Kind::Token => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        };
        let mut fields = vec![
            (bulk("name"), Reply::Bulk(self.name.to_ascii_lowercase().into())),
            (bulk("type"), bulk(kind)),
        ];
        if kind == "key" {
            fields.push((bulk("key_spec_index"), Reply::Integer(*keys)));
            *keys += 1;
        }
        if let Some(token) = self.token {
            fields.push((bulk("token"), bulk(token)));
        }
        let flags = [(self.optional, "optional"), (self.multiple, "multiple")];
        let flags: Vec<Reply> =
            flags.iter().filter(|(set, _)| *set).map(|(_, flag)| Reply::Simple(flag)).collect();
        if !flags.is_empty() {
            fields.push((bulk("flags"), Reply::Set(flags)));
        }
        if !self.parts.is_empty() {
            let parts = self.parts.iter().map(|part| part.reply(keys)).collect();
            fields.push((bulk("arguments"), Reply::Array(parts)));
        }
        Reply::Map(fields)
    }
}

fn bulk(text: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(text.as_bytes()))
}

/// Reads lines of the table only, so it trusts them.
struct Parser {
    rest: &'static str,
}

impl Parser {
    fn skip(&mut self, prefix: &str) -> bool {
        let rest = self.rest.strip_prefix(prefix);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// Arguments up to the end of the group or of the alternative.
    fn sequence(&mut self) -> Vec<Argument> {
        let mut sequence: Vec<Argument> = Vec::new();
        loop {
            while self.skip(" ") {}
            if self.rest.is_empty() || self.rest.starts_with([']', ')', '|']) {
                return sequence;
            }
            let mut argument = if self.skip("[") {
                self.group("]")
            } else if self.skip("(") {
                self.group(")")
            } else {
                self.word(&mut sequence)
            };
            argument.multiple |= self.skip("...");
            sequence.push(argument);
        }
    }

    /// What stands up to a bracket; up to `]` it is optional.
    fn group(&mut self, end: &str) -> Argument {
        let name = self.name();
        let mut argument = self.alternatives(name);
        self.skip(end);
        argument.optional |= end == "]";
        argument
    }

    fn alternatives(&mut self, name: Option<&'static str>) -> Argument {
        let mut parts = vec![self.block(name)];
        while self.skip("|") {
            parts.push(self.block(None));
        }
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                let name = name.unwrap_or(parts[0].name);
                Argument::new(name, Kind::OneOf, parts)
            }
        }
    }

    /// One argument, or several as one.
    fn block(&mut self, name: Option<&'static str>) -> Argument {
        let mut parts = self.sequence();
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                let name = name.or(parts.first().map(|part| part.name)).unwrap_or("");
                Argument::new(name, Kind::Block, parts)
            }
        }
    }

    /// `name:`, if the next word is one.
    fn name(&mut self) -> Option<&'static str> {
        let colon = self.rest.find(':')?;
        let name = &self.rest[..colon];
        if name.contains([' ', '[', ']', '(', ')', '|']) {
            return None;
        }
        self.rest = &self.rest[colon + 1..];
        Some(name)
    }

    /// A word or an argument. An argument after a word that stands alone takes it as its token.
    fn word(&mut self, before: &mut Vec<Argument>) -> Argument {
        if let Some(name) = self.name() {
            return self.alternatives(Some(name));
        }
        let end = self.rest.find([' ', '[', ']', '(', ')', '|', '.']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if !word.starts_with(|first: char| first.is_ascii_lowercase()) {
            let mut token = Argument::new(word, Kind::Token, Vec::new());
            token.token = Some(word);
            return token;
        }
        let name = word.trim_end_matches(['#', '%']);
        let mut argument = Argument::new(name, Kind::Value(value_kind(word)), Vec::new());
        if before.last().is_some_and(|last| last.kind == Kind::Token && !last.optional) {
            argument.token = before.pop().and_then(|token| token.token);
        }
        argument
    }
}

fn value_kind(word: &str) -> &'static str {
    match word {
        "key" | "key1" | "key2" | "newkey" | "source" | "destination" | "destkey" => "key",
        "pattern" => "pattern",
        _ if word.starts_with("unix-time") => "unix-time",
        _ if word.ends_with('%') => "double",
        _ if word.ends_with('#') => "integer",
        "seconds" | "milliseconds" | "start" | "end" | "offset" | "increment" | "decrement"
        | "bit" | "count" | "len" | "cursor" | "index" | "numreplicas" | "timeout"
        | "destination-db" | "client-id" => "integer",
        _ => "string",
    }
}
