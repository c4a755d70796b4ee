//! Issue 3, the whole cluster in one thread from one seed: its 'What must be seen'.

mod chaos;
pub(super) mod plants;
mod scenarios;
mod seeds;
mod speed;
mod timeline;

use super::Item;
pub(super) use seeds::number_behind;
use std::time::Duration;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub static ITEMS: [Item; 6] = [
    Item {
        name: "1",
        title: "10,000 seeds with all faults at once pass in two minutes of CPU time, twice alike",
        limit: minutes(20),
        run: seeds::run,
    },
    Item {
        name: "2",
        title: "a store under load is simulated 5,000 times as fast as real time, cores faster",
        limit: minutes(12),
        run: speed::run,
    },
    Item {
        name: "3",
        title: "each planted bug is found by the same faults, and its seed passes without it",
        limit: minutes(60),
        run: plants::run,
    },
    Item {
        name: "4",
        title: "every named scenario passes",
        limit: minutes(20),
        run: scenarios::run,
    },
    Item {
        name: "5",
        title: "real processes, killed, stopped and cut off for ten minutes: linearizable",
        limit: minutes(15),
        run: chaos::run,
    },
    Item {
        name: "6",
        title: "a stale read made on purpose shows in the timeline",
        limit: minutes(15),
        run: timeline::run,
    },
];
