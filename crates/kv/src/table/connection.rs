//! Connections and transactions.

use super::{Category, Entry, Flag, Group, KeySpec};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("auth", -2, Group::Connection, "1.0.0")
        .flags(&[
            Flag::Noscript,
            Flag::Loading,
            Flag::Stale,
            Flag::Fast,
            Flag::NoAuth,
            Flag::AllowBusy,
        ])
        .categories(&[Category::Connection])
        .syntax("[username] password")
        .doc("O(1)", "Logs in."),
    Entry::new("client", -2, Group::Connection, "2.4.0")
        .doc("by subcommand", "Asks about and changes connections.")
        .subcommands(&[
            Entry::new("client|getname", 2, Group::Connection, "2.6.9")
                .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .doc("O(1)", "Answers the name of this connection."),
            Entry::new("client|help", 2, Group::Connection, "5.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .doc("O(1)", "Lists the subcommands of CLIENT."),
            Entry::new("client|id", 2, Group::Connection, "5.0.0")
                .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .doc("O(1)", "Answers the number of this connection."),
            Entry::new("client|info", 2, Group::Connection, "6.2.0")
                .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output"])
                .doc("O(1)", "Describes this connection."),
            Entry::new("client|kill", -3, Group::Connection, "2.4.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("filter...")
                .doc("O(N) in the number of connections", "Ends connections."),
            Entry::new("client|list", -2, Group::Connection, "2.4.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .tips(&["nondeterministic_output"])
                .syntax("[TYPE client-type] [ID client-id...]")
                .doc("O(N) in the number of connections", "Describes all connections."),
            Entry::new("client|no-evict", 3, Group::Connection, "7.0.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("enabled:ON|OFF")
                .doc("O(1)", "Accepted without effect."),
            Entry::new("client|reply", 3, Group::Connection, "3.2.0")
                .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("mode:ON|OFF|SKIP")
                .doc("O(1)", "Turns the replies of this connection on or off."),
            Entry::new("client|setinfo", 4, Group::Connection, "7.2.0")
                .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("attribute value")
                .doc("O(1)", "Notes the name or version of the client library."),
            Entry::new("client|setname", 3, Group::Connection, "2.6.9")
                .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("connection-name")
                .doc("O(1)", "Names this connection."),
            Entry::new("client|tracking", -3, Group::Connection, "6.0.0")
                .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .syntax("status:ON|OFF")
                .doc("O(1)", "Only OFF is accepted."),
            Entry::new("client|unpause", 2, Group::Connection, "6.2.0")
                .flags(&[Flag::Admin, Flag::Noscript, Flag::Loading, Flag::Stale])
                .categories(&[Category::Connection])
                .doc("O(1)", "Accepted without effect."),
        ]),
    Entry::new("discard", 1, Group::Transactions, "2.0.0")
        .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::AllowBusy])
        .categories(&[Category::Transaction])
        .doc("O(N) in the number of commands queued", "Forgets the queued commands."),
    Entry::new("echo", 2, Group::Connection, "1.0.0")
        .flags(&[Flag::Loading, Flag::Stale, Flag::Fast])
        .categories(&[Category::Connection])
        .syntax("message")
        .doc("O(1)", "Answers its argument."),
    Entry::new("exec", 1, Group::Transactions, "1.2.0")
        .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::SkipSlowlog])
        .categories(&[Category::Transaction])
        .doc("as the commands queued", "Runs the queued commands as one."),
    Entry::new("hello", -1, Group::Connection, "6.0.0")
        .flags(&[
            Flag::Noscript,
            Flag::Loading,
            Flag::Stale,
            Flag::Fast,
            Flag::NoAuth,
            Flag::AllowBusy,
        ])
        .categories(&[Category::Connection])
        .syntax("[arguments:protover# [AUTH username password] [SETNAME clientname]]")
        .doc(
            "O(1)",
            "Chooses the version of the protocol, and may log in and name the connection.",
        ),
    Entry::new("multi", 1, Group::Transactions, "1.2.0")
        .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::AllowBusy])
        .categories(&[Category::Transaction])
        .doc("O(1)", "Starts to queue commands."),
    Entry::new("ping", -1, Group::Connection, "1.0.0")
        .flags(&[Flag::Fast])
        .categories(&[Category::Connection])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .syntax("[message]")
        .doc("O(1)", "Answers PONG, or its argument."),
    Entry::new("quit", -1, Group::Connection, "1.0.0")
        .flags(&[
            Flag::Noscript,
            Flag::Loading,
            Flag::Stale,
            Flag::Fast,
            Flag::NoAuth,
            Flag::AllowBusy,
        ])
        .categories(&[Category::Connection])
        .doc("O(1)", "Ends the connection."),
    Entry::new("reset", 1, Group::Connection, "6.2.0")
        .flags(&[
            Flag::Noscript,
            Flag::Loading,
            Flag::Stale,
            Flag::Fast,
            Flag::NoAuth,
            Flag::AllowBusy,
        ])
        .categories(&[Category::Connection])
        .doc("O(1)", "Puts the connection back as it began."),
    Entry::new("select", 2, Group::Connection, "1.0.0")
        .flags(&[Flag::Loading, Flag::Stale, Flag::Fast])
        .categories(&[Category::Connection])
        .syntax("index")
        .doc("O(1)", "Chooses the database; there is only 0."),
    Entry::new("unwatch", 1, Group::Transactions, "2.2.0")
        .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::AllowBusy])
        .categories(&[Category::Transaction])
        .doc("O(1)", "Forgets all watched keys."),
    Entry::new("watch", -2, Group::Transactions, "2.2.0")
        .flags(&[Flag::Noscript, Flag::Loading, Flag::Stale, Flag::Fast, Flag::AllowBusy])
        .categories(&[Category::Transaction])
        .keys(&[KeySpec::new("RO", 1, -1, 1)])
        .syntax("key...")
        .doc("O(N) in the number of keys", "Lets EXEC do nothing if one of the keys has changed."),
];
