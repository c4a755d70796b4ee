//! The server.

use super::{Category, Entry, Flag, Group, KeySpec};
use crate::command::parse::keys;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("command", -1, Group::Server, "2.8.13")
        .flags(&[Flag::Loading, Flag::Stale])
        .categories(&[Category::Connection])
        .tips(&["nondeterministic_output_order"])
        .doc("O(N) in the number of commands", "Describes all commands.")
        .subcommands(&[
            Entry::new("command|count", 2, Group::Server, "2.8.13")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .doc("O(1)", "Answers how many commands there are."),
            Entry::new("command|docs", -2, Group::Server, "7.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output_order"])
                .syntax("[command-name...]")
                .doc("O(N) in the number of commands", "Explains commands."),
            Entry::new("command|getkeys", -4, Group::Server, "2.8.13")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("command [arg...]")
                .doc(
                    "O(N) in the number of arguments",
                    "Answers which arguments of a command are keys.",
                ),
            Entry::new("command|getkeysandflags", -4, Group::Server, "7.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("command [arg...]")
                .doc(
                    "O(N) in the number of arguments",
                    "Answers which arguments of a command are keys, and what becomes of them.",
                ),
            Entry::new("command|help", 2, Group::Server, "5.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .doc("O(1)", "Lists the subcommands of COMMAND."),
            Entry::new("command|info", -2, Group::Server, "2.8.13")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output_order"])
                .syntax("[command-name...]")
                .doc("O(N) in the number of commands", "Describes commands."),
            Entry::new("command|list", -2, Group::Server, "7.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output_order"])
                .syntax("[FILTERBY filterby:MODULE module-name|ACLCAT category|PATTERN pattern]")
                .doc("O(N) in the number of commands", "Lists the names of commands."),
        ]),
    Entry::new("config", -2, Group::Server, "2.0.0")
        .doc("by subcommand", "Asks about and changes settings.")
        .subcommands(&[
            Entry::new("config|get", -3, Group::Server, "2.0.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .syntax("parameter...")
                .doc("O(N) in the number of settings", "Answers the settings whose names match."),
            Entry::new("config|help", 2, Group::Server, "5.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .doc("O(1)", "Lists the subcommands of CONFIG."),
            Entry::new("config|resetstat", 2, Group::Server, "2.0.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .doc("O(1)", "Sets counters back."),
            Entry::new("config|rewrite", 2, Group::Server, "2.8.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .doc("O(1)", "Refused: settings are not written back."),
            Entry::new("config|set", -4, Group::Server, "2.0.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .syntax("(parameter_value:parameter value)...")
                .doc("O(N) in the number of settings given", "Changes settings."),
        ]),
    Entry::new("dbsize", 1, Group::Server, "1.0.0")
        .flags(&[Flag::Readonly, Flag::Fast])
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .parser(keys::dbsize)
        .doc("O(1)", "Counts the keys."),
    Entry::new("flushall", -1, Group::Server, "1.0.0")
        .flags(&[Flag::Write])
        .categories(&[Category::Dangerous, Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[flush_type:ASYNC|SYNC]")
        .parser(keys::flush)
        .doc("O(N) in the number of keys", "Deletes all keys."),
    Entry::new("flushdb", -1, Group::Server, "1.0.0")
        .flags(&[Flag::Write])
        .categories(&[Category::Dangerous, Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[flush_type:ASYNC|SYNC]")
        .parser(keys::flush)
        .doc("O(N) in the number of keys", "Deletes all keys."),
    Entry::new("function", -2, Group::Scripting, "7.0.0")
        .doc("by subcommand", "There are no functions; this is for clients that clear them.")
        .subcommands(&[
            Entry::new("function|flush", -2, Group::Scripting, "7.0.0")
                .flags(&[Flag::Write, Flag::Noscript])
                .categories(&[Category::Scripting])
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
                .syntax("[flush_type:ASYNC|SYNC]")
                .doc("O(1)", "Does nothing: there are no functions."),
            Entry::new("function|help", 2, Group::Scripting, "7.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Scripting])
                .doc("O(1)", "Lists the subcommands of FUNCTION."),
            Entry::new("function|list", -2, Group::Scripting, "7.0.0")
                .flags(&[Flag::Noscript])
                .categories(&[Category::Scripting])
                .tips(&["nondeterministic_output_order"])
                .syntax("[LIBRARYNAME library-name-pattern] [WITHCODE]")
                .doc("O(1)", "Lists the functions: none."),
        ]),
    Entry::new("info", -1, Group::Server, "1.0.0")
        .flags(&[Flag::Loading, Flag::Stale])
        .categories(&[Category::Dangerous])
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .syntax("[section...]")
        .doc("O(1)", "Describes the server."),
    Entry::new("latency", -2, Group::Server, "2.8.13")
        .doc("by subcommand", "Asks about slow events.")
        .subcommands(&[
            Entry::new("latency|doctor", 2, Group::Server, "2.8.13")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .tips(&[
                    "nondeterministic_output",
                    "request_policy:all_nodes",
                    "response_policy:special",
                ])
                .doc("O(1)", "Says where to look for latency instead."),
            Entry::new("latency|help", 2, Group::Server, "2.8.13")
                .flags(&[Flag::Loading, Flag::Stale])
                .doc("O(1)", "Lists the subcommands of LATENCY."),
            Entry::new("latency|history", 3, Group::Server, "2.8.13")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .tips(&[
                    "nondeterministic_output",
                    "request_policy:all_nodes",
                    "response_policy:special",
                ])
                .syntax("event")
                .doc("O(1)", "Lists slow events of a kind: none are kept."),
            Entry::new("latency|latest", 2, Group::Server, "2.8.13")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .tips(&[
                    "nondeterministic_output",
                    "request_policy:all_nodes",
                    "response_policy:special",
                ])
                .doc("O(1)", "Lists the latest slow events: none are kept."),
            Entry::new("latency|reset", -2, Group::Server, "2.8.13")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .syntax("[event...]")
                .doc("O(1)", "Forgets slow events."),
        ]),
    Entry::new("memory", -2, Group::Server, "4.0.0")
        .doc("by subcommand", "Asks about memory.")
        .subcommands(&[
            Entry::new("memory|help", 2, Group::Server, "4.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .parser(keys::memory_help)
                .doc("O(1)", "Lists the subcommands of MEMORY."),
            Entry::new("memory|usage", -3, Group::Server, "4.0.0")
                .flags(&[Flag::Readonly])
                .keys(&[KeySpec::new("RO", 2, 0, 1)])
                .syntax("key [SAMPLES count]")
                .parser(keys::memory_usage)
                .doc("O(1)", "Answers about how many bytes a key takes."),
        ]),
    Entry::new("slowlog", -2, Group::Server, "2.2.12")
        .doc("by subcommand", "Asks about slow commands.")
        .subcommands(&[
            Entry::new("slowlog|get", -2, Group::Server, "2.2.12")
                .flags(&[Flag::Admin, Flag::Loading, Flag::Stale])
                .tips(&["request_policy:all_nodes", "nondeterministic_output"])
                .syntax("[count]")
                .doc("O(1)", "Lists slow commands."),
            Entry::new("slowlog|help", 2, Group::Server, "6.2.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .doc("O(1)", "Lists the subcommands of SLOWLOG."),
            Entry::new("slowlog|len", 2, Group::Server, "2.2.12")
                .flags(&[Flag::Admin, Flag::Loading, Flag::Stale])
                .tips(&[
                    "request_policy:all_nodes",
                    "response_policy:agg_sum",
                    "nondeterministic_output",
                ])
                .doc("O(1)", "Counts slow commands."),
            Entry::new("slowlog|reset", 2, Group::Server, "2.2.12")
                .flags(&[Flag::Admin, Flag::Loading, Flag::Stale])
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .doc("O(1)", "Forgets slow commands."),
        ]),
    Entry::new("time", 1, Group::Server, "2.6.0")
        .flags(&[Flag::Loading, Flag::Stale, Flag::Fast])
        .tips(&["nondeterministic_output"])
        .doc("O(1)", "Answers the time of the server."),
];
