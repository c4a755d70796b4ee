//! The answers of COMMAND, from the table.

use bytes::Bytes;

use super::{Category, Entry, KeySpec, all, keys_and_specs, keys_of, lookup_full, resolve, syntax};
use crate::Reply;
use crate::command::{Parsed, Write, error, glob, parse};

/// Answers COMMAND and its subcommands; `args` follow the word COMMAND.
pub fn command(args: &[Bytes]) -> Reply {
    let Some((name, rest)) = args.split_first() else {
        return Reply::Array(all().map(info).collect());
    };
    let mut request = vec![Bytes::from_static(b"command")];
    request.extend_from_slice(args);
    let entry = match resolve(&request) {
        Ok(entry) => entry,
        Err(error) => return error,
    };
    match entry.name {
        "command|count" => Reply::Integer(all().count() as i64),
        "command|info" if rest.is_empty() => Reply::Array(all().map(info).collect()),
        "command|info" => {
            let found = |name: &Bytes| lookup_full(name).map_or(Reply::Nil, info);
            Reply::Array(rest.iter().map(found).collect())
        }
        "command|docs" if rest.is_empty() => Reply::Map(all().map(documented).collect()),
        "command|docs" => {
            Reply::Map(rest.iter().filter_map(|name| lookup_full(name)).map(documented).collect())
        }
        "command|list" => list(rest),
        "command|getkeys" => match keys_of(rest) {
            Ok(keys) => Reply::Array(keys.into_iter().cloned().map(Reply::Bulk).collect()),
            Err(error) => error,
        },
        "command|getkeysandflags" => match keys_and_specs(rest) {
            Ok(keys) => {
                let pair = |(key, spec): (&Bytes, &KeySpec)| {
                    let flags = Reply::Set(words(key_flags(rest, spec)));
                    Reply::Array(vec![Reply::Bulk(key.clone()), flags])
                };
                Reply::Array(keys.into_iter().map(pair).collect())
            }
            Err(error) => error,
        },
        "command|help" => super::lookup(b"command").map_or(Reply::Nil, help),
        _ => error::unknown_subcommand("command", name),
    }
}

/// Answers the HELP subcommand of a command: its subcommands with their arguments and summaries.
pub fn help(entry: &'static Entry) -> Reply {
    let mut lines = vec![format!("{} has these subcommands:", entry.name.to_ascii_uppercase())];
    for sub in entry.subcommands {
        let name = sub.name[entry.name.len() + 1..].to_ascii_uppercase();
        lines.push(format!("{name} {}", syntax::readable(sub.syntax)).trim_end().to_owned());
        lines.push(format!("    {}", sub.summary));
    }
    Reply::Array(lines.into_iter().map(|line| Reply::Status(line.into())).collect())
}

fn bulk(text: &'static str) -> Reply {
    Reply::Bulk(Bytes::from_static(text.as_bytes()))
}

fn words(words: &'static str) -> Vec<Reply> {
    words.split(' ').map(Reply::Simple).collect()
}

fn info(entry: &'static Entry) -> Reply {
    let (first, last, step) = entry.key_range();
    Reply::Array(vec![
        bulk(entry.name),
        Reply::Integer(i64::from(entry.arity)),
        Reply::Set(entry.flags.iter().map(|flag| Reply::Simple(flag.word())).collect()),
        Reply::Integer(i64::from(first)),
        Reply::Integer(i64::from(last)),
        Reply::Integer(i64::from(step)),
        Reply::Set(entry.categories_all().map(|one| Reply::Simple(one.word())).collect()),
        Reply::Set(entry.tips.iter().map(|tip| bulk(tip)).collect()),
        Reply::Set(entry.key_specs.iter().map(key_spec).collect()),
        Reply::Set(entry.subcommands.iter().map(info).collect()),
    ])
}

fn key_spec(spec: &'static KeySpec) -> Reply {
    let number = |number: usize| Reply::Integer(number as i64);
    let part = |kind, fields| {
        Reply::Map(vec![(bulk("type"), bulk(kind)), (bulk("spec"), Reply::Map(fields))])
    };
    let range = vec![
        (bulk("lastkey"), Reply::Integer(i64::from(spec.last))),
        (bulk("keystep"), number(spec.step)),
        (bulk("limit"), Reply::Integer(0)),
    ];
    Reply::Map(vec![
        (bulk("flags"), Reply::Set(words(spec.flags))),
        (bulk("begin_search"), part("index", vec![(bulk("index"), number(spec.first))])),
        (bulk("find_keys"), part("range", range)),
    ])
}

fn documented(entry: &'static Entry) -> (Reply, Reply) {
    let mut fields = vec![
        (bulk("summary"), bulk(entry.summary)),
        (bulk("since"), bulk(entry.since)),
        (bulk("group"), bulk(entry.group.word())),
        (bulk("complexity"), bulk(entry.complexity)),
    ];
    if !entry.syntax.is_empty() {
        fields.push((bulk("arguments"), Reply::Array(syntax::arguments(entry.syntax))));
    }
    if !entry.subcommands.is_empty() {
        let subcommands = entry.subcommands.iter().map(documented).collect();
        fields.push((bulk("subcommands"), Reply::Map(subcommands)));
    }
    (bulk(entry.name), Reply::Map(fields))
}

/// What becomes of a key, if that depends on the other arguments.
fn key_flags(args: &[Bytes], spec: &KeySpec) -> &'static str {
    if !spec.flags.contains("variable_flags") {
        return spec.flags;
    }
    match parse(args, 0) {
        Ok(Parsed::Write(Write::Set { get: false, .. })) => "OW update",
        Ok(Parsed::Read(_)) => "RO access",
        _ => "RW access update",
    }
}

fn list(args: &[Bytes]) -> Reply {
    let names: Vec<&'static str> = match args {
        [] => all().map(|entry| entry.name).collect(),
        [filter, kind, wanted] if filter.eq_ignore_ascii_case(b"FILTERBY") => {
            if kind.eq_ignore_ascii_case(b"MODULE") {
                // There are no modules.
                Vec::new()
            } else if kind.eq_ignore_ascii_case(b"ACLCAT") {
                let named = |category: &Category| {
                    category.word().as_bytes()[1..].eq_ignore_ascii_case(wanted)
                };
                filtered(|entry| entry.categories_all().any(|category| named(&category)))
            } else if kind.eq_ignore_ascii_case(b"PATTERN") {
                let pattern = wanted.to_ascii_lowercase();
                filtered(|entry| glob::matches(&pattern, entry.name.as_bytes()))
            } else {
                return error::fixed(error::SYNTAX);
            }
        }
        _ => return error::fixed(error::SYNTAX),
    };
    Reply::Array(names.into_iter().map(bulk).collect())
}

/// The names of all commands and subcommands that are `wanted`.
fn filtered(wanted: impl Fn(&Entry) -> bool) -> Vec<&'static str> {
    let with_subcommands = all().flat_map(|entry| std::iter::once(entry).chain(entry.subcommands));
    with_subcommands.filter(|entry| wanted(entry)).map(|entry| entry.name).collect()
}
