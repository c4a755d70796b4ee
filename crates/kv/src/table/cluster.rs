//! Clusters: who has which slot. Subcommands that change a Redis Cluster are not listed; whoever
//! sends one is told what to use instead.

use super::{Category, Entry, Flag, Group};

const NONDETERMINISTIC: &[&str] = &["nondeterministic_output"];

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("asking", 1, Group::Cluster, "3.0.0")
        .flags(&[Flag::Fast])
        .categories(&[Category::Connection])
        .doc("O(1)", "Lets the next command be served here, wherever its slot is."),
    Entry::new("cluster", -2, Group::Cluster, "3.0.0")
        .doc("by subcommand", "Asks who has which slot.")
        .subcommands(&[
            Entry::new("cluster|countkeysinslot", 3, Group::Cluster, "3.0.0")
                .flags(&[Flag::Stale])
                .syntax("slot#")
                .doc("O(1)", "Counts the keys of a slot, wherever it is."),
            Entry::new("cluster|getkeysinslot", 4, Group::Cluster, "3.0.0")
                .flags(&[Flag::Stale])
                .tips(NONDETERMINISTIC)
                .syntax("slot# count")
                .doc("O(N) in the number of keys asked for", "Lists keys of a slot."),
            Entry::new("cluster|help", 2, Group::Cluster, "5.0.0")
                .flags(&[Flag::Loading, Flag::Stale])
                .doc("O(1)", "Lists the subcommands of CLUSTER."),
            Entry::new("cluster|info", 2, Group::Cluster, "3.0.0")
                .flags(&[Flag::Stale])
                .tips(NONDETERMINISTIC)
                .doc("O(N) in the number of groups", "Describes the state of the cluster."),
            Entry::new("cluster|keyslot", 3, Group::Cluster, "3.0.0")
                .flags(&[Flag::Stale])
                .syntax("key-name")
                .doc("O(N) in the length of the key", "Answers the slot of a key."),
            Entry::new("cluster|links", 2, Group::Cluster, "7.0.0")
                .flags(&[Flag::Stale])
                .tips(NONDETERMINISTIC)
                .doc("O(N) in the number of nodes", "Lists the nodes that are heard."),
            Entry::new("cluster|myid", 2, Group::Cluster, "3.0.0")
                .flags(&[Flag::Stale])
                .doc("O(1)", "Answers the name of this node in CLUSTER NODES."),
            Entry::new("cluster|myshardid", 2, Group::Cluster, "7.2.0")
                .flags(&[Flag::Stale])
                .tips(NONDETERMINISTIC)
                .doc("O(1)", "Answers the same as CLUSTER MYID: each node stands for itself."),
            Entry::new("cluster|nodes", 2, Group::Cluster, "3.0.0")
                .flags(&[Flag::Stale])
                .tips(NONDETERMINISTIC)
                .doc("O(N) in the number of nodes", "Lists nodes and the slots they lead."),
            Entry::new("cluster|replicas", 3, Group::Cluster, "5.0.0")
                .flags(&[Flag::Admin, Flag::Stale])
                .tips(NONDETERMINISTIC)
                .syntax("node-id")
                .doc("O(N) in the number of nodes", "Lists who has replicas of what a node leads."),
            Entry::new("cluster|shards", 2, Group::Cluster, "7.0.0")
                .flags(&[Flag::Stale])
                .tips(NONDETERMINISTIC)
                .doc("O(N) in the number of nodes", "Lists groups with their slots and nodes."),
            Entry::new("cluster|slaves", 3, Group::Cluster, "3.0.0")
                .flags(&[Flag::Admin, Flag::Stale])
                .tips(NONDETERMINISTIC)
                .syntax("node-id")
                .doc("O(N) in the number of nodes", "The same as CLUSTER REPLICAS."),
            Entry::new("cluster|slots", 2, Group::Cluster, "3.0.0")
                .flags(&[Flag::Stale])
                .tips(NONDETERMINISTIC)
                .doc("O(N) in the number of nodes", "Lists ranges of slots with their nodes."),
        ]),
    Entry::new("readonly", 1, Group::Cluster, "3.0.0")
        .flags(&[Flag::Loading, Flag::Stale, Flag::Fast])
        .categories(&[Category::Connection])
        .doc("O(1)", "Lets reads be served by any replica; they are linearizable all the same."),
    Entry::new("readwrite", 1, Group::Cluster, "3.0.0")
        .flags(&[Flag::Loading, Flag::Stale, Flag::Fast])
        .categories(&[Category::Connection])
        .doc("O(1)", "Takes READONLY back."),
];
