//! The table of all commands: those of this crate and those that the front door answers.
//!
//! It says of each command what COMMAND INFO of Redis 7.0 says (arity, flags, where its keys
//! stand, ACL categories), and what COMMAND DOCS says, in our words. Clients use it to find the
//! keys of a request; we use it to find the parser.
//!
//! Differences from Redis: only commands that exist here are listed, and key specifications carry
//! no notes. No command here has keys that only a parser could find (`movablekeys`).

mod bitmaps;
mod cluster;
mod connection;
mod flags;
mod generic;
mod index;
mod reply;
mod server;
mod strings;
mod syntax;

use bytes::Bytes;

pub use flags::{Category, Flag, Group};
pub use reply::{command, help};

use crate::Reply;
use crate::command::parse::Outcome;
use crate::command::{error, unknown, wrong_arity};

/// All commands, by kind.
static ENTRIES: [&[Entry]; 6] = [
    strings::ENTRIES,
    bitmaps::ENTRIES,
    generic::ENTRIES,
    connection::ENTRIES,
    cluster::ENTRIES,
    server::ENTRIES,
];

/// One command or subcommand.
#[derive(Debug)]
pub struct Entry {
    /// Lower-case name; of a subcommand with that of its command: `object|encoding`.
    pub name: &'static str,
    /// Number of arguments, the name (or both names) included; negative: at least so many.
    pub arity: i8,
    /// What kind of command it is.
    pub group: Group,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// Properties, in Redis' order.
    pub flags: &'static [Flag],
    /// Where its keys stand.
    pub key_specs: &'static [KeySpec],
    /// Hints for clients of clusters.
    pub tips: &'static [&'static str],
    /// Its subcommands; a command with some is nothing without one.
    pub subcommands: &'static [Entry],
    /// Cost, in the usual notation.
    pub complexity: &'static str,
    /// What it does.
    pub summary: &'static str,
    categories: &'static [Category],
    syntax: &'static str,
    pub(crate) parser: Option<fn(&[Bytes]) -> Outcome>,
}

impl Entry {
    const fn new(name: &'static str, arity: i8, group: Group, since: &'static str) -> Self {
        Self {
            name,
            arity,
            group,
            since,
            flags: &[],
            key_specs: &[],
            tips: &[],
            subcommands: &[],
            complexity: "",
            summary: "",
            categories: &[],
            syntax: "",
            parser: None,
        }
    }

    const fn flags(self, flags: &'static [Flag]) -> Self {
        Self { flags, ..self }
    }

    const fn categories(self, categories: &'static [Category]) -> Self {
        Self { categories, ..self }
    }

    const fn keys(self, key_specs: &'static [KeySpec]) -> Self {
        Self { key_specs, ..self }
    }

    const fn tips(self, tips: &'static [&'static str]) -> Self {
        Self { tips, ..self }
    }

    const fn syntax(self, syntax: &'static str) -> Self {
        Self { syntax, ..self }
    }

    const fn parser(self, parser: fn(&[Bytes]) -> Outcome) -> Self {
        Self { parser: Some(parser), ..self }
    }

    const fn subcommands(self, subcommands: &'static [Entry]) -> Self {
        Self { subcommands, ..self }
    }

    const fn doc(self, complexity: &'static str, summary: &'static str) -> Self {
        Self { complexity, summary, ..self }
    }

    /// Whether a request of so many arguments, the name included, fits the arity.
    pub const fn accepts(&self, arguments: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { arguments >= wanted } else { arguments == wanted }
    }

    /// Whether it has the property.
    pub fn is(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether the node answers it without the state machine.
    pub fn is_local(&self) -> bool {
        self.parser.is_none() && self.subcommands.iter().all(|sub| sub.parser.is_none())
    }

    /// Its ACL categories, in Redis' order.
    pub fn categories_all(&self) -> impl Iterator<Item = Category> {
        Category::ALL.into_iter().filter(|category| {
            self.categories.contains(category)
                || match category {
                    Category::Read => self.is(Flag::Readonly),
                    Category::Write => self.is(Flag::Write),
                    Category::Admin | Category::Dangerous => self.is(Flag::Admin),
                    Category::Fast => self.is(Flag::Fast),
                    Category::Slow => !self.is(Flag::Fast),
                    _ => false,
                }
        })
    }

    /// Position of the first key, that of the last one (negative: from the end), and the distance
    /// from each to the next; all 0 without keys.
    pub fn key_range(&self) -> (i32, i32, i32) {
        let [first, others @ ..] = self.key_specs else { return (0, 0, 0) };
        let last = |spec: &KeySpec| {
            if spec.last < 0 { spec.last } else { spec.first as i32 + spec.last }
        };
        // An end counted from the back is behind all others.
        let last = others.iter().map(last).fold(last(first), |one, other| {
            if one < 0 || other < 0 { one.min(other) } else { one.max(other) }
        });
        (first.first as i32, last, first.step as i32)
    }

    /// The subcommand called `name`, in any case.
    pub fn subcommand(&'static self, name: &[u8]) -> Option<&'static Self> {
        let own = self.name.len() + 1;
        self.subcommands.iter().find(|sub| sub.name.as_bytes()[own..].eq_ignore_ascii_case(name))
    }
}

/// Where some of a command's keys stand, and what becomes of them.
#[derive(Debug)]
pub struct KeySpec {
    /// In Redis' words, separated by spaces: `RO access`.
    pub flags: &'static str,
    /// Position of the first key.
    pub first: usize,
    /// Position of the last key after the first one; negative: from the end of the request.
    pub last: i32,
    /// Distance from each key to the next.
    pub step: usize,
}

impl KeySpec {
    const fn new(flags: &'static str, first: usize, last: i32, step: usize) -> Self {
        Self { flags, first, last, step }
    }

    fn positions(&self, arguments: usize) -> impl Iterator<Item = usize> {
        let last = if self.last < 0 {
            arguments.saturating_sub(self.last.unsigned_abs() as usize)
        } else {
            (self.first + self.last as usize).min(arguments.saturating_sub(1))
        };
        (self.first..=last).step_by(self.step)
    }
}

/// All commands; their subcommands are in them.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    ENTRIES.iter().flat_map(|entries| entries.iter())
}

/// The command called `name`, in any case.
pub fn lookup(name: &[u8]) -> Option<&'static Entry> {
    index::lookup(name)
}

/// The command or subcommand called `name`, as in [`Entry::name`], in any case.
pub fn lookup_full(name: &[u8]) -> Option<&'static Entry> {
    match name.iter().position(|&byte| byte == b'|') {
        Some(bar) => lookup(&name[..bar])?.subcommand(&name[bar + 1..]),
        None => lookup(name),
    }
}

/// The command or subcommand that a request asks for. It exists, and the number of arguments fits.
///
/// # Errors
/// The error reply, with the text of Redis 7.0: these are the errors that spoil a transaction.
pub fn resolve(args: &[Bytes]) -> Result<&'static Entry, Reply> {
    let entry = args.first().and_then(|name| lookup(name)).ok_or_else(|| unknown(args))?;
    let entry = match args.get(1) {
        Some(name) if !entry.subcommands.is_empty() => {
            entry.subcommand(name).ok_or_else(|| error::unknown_subcommand(entry.name, name))?
        }
        _ => entry,
    };
    if entry.accepts(args.len()) { Ok(entry) } else { Err(wrong_arity(entry.name)) }
}

/// The keys of a request, in the order of COMMAND GETKEYS.
///
/// # Errors
/// The error reply of COMMAND GETKEYS: there is no such command, it has no keys, or the number of
/// arguments does not fit.
pub fn keys_of(args: &[Bytes]) -> Result<Vec<&Bytes>, Reply> {
    Ok(keys_and_specs(args)?.into_iter().map(|(key, _)| key).collect())
}

fn keys_and_specs(args: &[Bytes]) -> Result<Vec<(&Bytes, &'static KeySpec)>, Reply> {
    const NO_COMMAND: &str = "ERR Invalid command specified";
    let entry = args.first().and_then(|name| lookup(name));
    let entry = match (entry, args.get(1)) {
        (Some(entry), Some(name)) if !entry.subcommands.is_empty() => entry.subcommand(name),
        (entry, _) => entry,
    };
    let Some(entry) = entry else { return Err(error::fixed(NO_COMMAND)) };
    if entry.key_specs.is_empty() {
        return Err(error::fixed("ERR The command has no key arguments"));
    }
    if !entry.accepts(args.len()) {
        return Err(error::fixed("ERR Invalid number of arguments specified for command"));
    }
    let keys = entry.key_specs.iter().flat_map(|spec| {
        spec.positions(args.len()).filter_map(move |at| Some((args.get(at)?, spec)))
    });
    Ok(keys.collect())
}

#[cfg(test)]
mod tests;
