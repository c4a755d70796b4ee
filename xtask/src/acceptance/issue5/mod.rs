//! Issue 5, the sharded store: its 'What must be seen'.

mod back_and_forth;
mod kills;
mod shards;

use super::Item;
use std::time::Duration;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub static ITEMS: [Item; 2] = [
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
];
