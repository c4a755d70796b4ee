//! Issue 5, the sharded store: its 'What must be seen'.

mod back_and_forth;
mod big_move;
mod clients;
mod gaps;
mod kills;
mod many_groups;
mod mixed;
mod nodes;
mod running;
mod seeds;
pub(super) mod shards;
mod side_by_side;

use super::{Item, metrics};
use std::time::Duration;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub static ITEMS: [Item; 9] = [
    Item {
        name: "1",
        title: "clients of Redis Cluster work unchanged before, during and after a rebalance",
        limit: minutes(12),
        run: clients::run,
    },
    Item {
        name: "2",
        title: "4,096 slots with 1 GB moved under load: exact, and frozen for less than 50 ms",
        limit: minutes(25),
        run: big_move::run,
    },
    Item {
        name: "3",
        title: "nodes killed with -9 while slots move in both directions: nothing lost or doubled",
        limit: minutes(20),
        run: kills::run,
    },
    Item {
        name: "4",
        title: "slots moved to another group and back, again and again under load: nothing lost",
        limit: minutes(20),
        run: back_and_forth::run,
    },
    Item {
        name: "5",
        title: "nodes added, drained, removed and restarted under load: no error, gaps below 500 ms",
        limit: minutes(15),
        run: nodes::run,
    },
    Item {
        name: "6a",
        title: "1,000 idle groups on 3 nodes take below 3 % of a core each",
        limit: minutes(5),
        run: many_groups::idle,
    },
    Item {
        name: "6b",
        title: "256 groups under uniform load give 80 % of the throughput of four",
        limit: minutes(5),
        run: many_groups::busy,
    },
    Item {
        name: "7",
        title: "beside Redis Cluster with WAIT 1 and etcd in one run: writes at least as fast",
        limit: minutes(20),
        run: side_by_side::run,
    },
    Item {
        name: "8",
        title: "10,000 seeds of a sharded store pass; planted bugs of the handoff are found",
        limit: minutes(300),
        run: seeds::run,
    },
];
