//! Issue 2, a durable three-node store for any Redis client: its 'What must be seen'.

mod all_killed;
mod empty_directory;
mod failover;
mod garbage;
mod minority;
mod power_loss;
mod raft_alone;
mod readme;
mod side_by_side;
pub(super) mod stock_clients;
mod synced;
mod up_and_again;
mod words;

use super::Item;
use std::time::Duration;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub static ITEMS: [Item; 14] = [
    Item {
        name: "1",
        title: "up is ready within 5 s, serves on all nodes, and has its data again after Ctrl-C",
        limit: minutes(3),
        run: up_and_again::run,
    },
    Item {
        name: "2a",
        title: "a disk that forgets unsynced bytes, all nodes crashed at 200 moments: nothing lost",
        limit: minutes(20),
        run: power_loss::power_loss,
    },
    Item {
        name: "2b",
        title: "1,000 SETs: at least 1,000 fdatasync on the leader and on a follower",
        limit: minutes(3),
        run: synced::run,
    },
    Item {
        name: "2c",
        title: "with the sync taken out, 2a finds the loss",
        limit: minutes(20),
        run: power_loss::sync_taken_out,
    },
    Item {
        name: "2d",
        title: "an emptied directory under a known node id does not vote",
        limit: minutes(3),
        run: empty_directory::run,
    },
    Item {
        name: "3",
        title: "the words of a dictionary through redis-cli --pipe at a follower, all read back",
        limit: minutes(5),
        run: words::run,
    },
    Item {
        name: "4",
        title: "redis-py, ioredis and redis-benchmark work unchanged",
        limit: minutes(10),
        run: stock_clients::run,
    },
    Item {
        name: "5",
        title: "the leader killed ten times and stopped: no error, no loss, gap below 500 ms",
        limit: minutes(10),
        run: failover::run,
    },
    Item {
        name: "6",
        title: "all three killed at once under load: every acknowledged write is there",
        limit: minutes(5),
        run: all_killed::run,
    },
    Item {
        name: "7",
        title: "a minority alone answers neither reads nor writes",
        limit: minutes(5),
        run: minority::run,
    },
    Item {
        name: "8",
        title: "writes and reads at 5 times etcd's, one-client latency below half of etcd's",
        limit: minutes(30),
        run: side_by_side::run,
    },
    Item {
        name: "9",
        title: "the Raft core at half the time per entry of the raft crate, few allocations",
        limit: minutes(10),
        run: raft_alone::run,
    },
    Item {
        name: "10",
        title: "garbage, half-open connections and a client that never reads hurt nobody else",
        limit: minutes(5),
        run: garbage::run,
    },
    Item {
        name: "11",
        title: "the commands in README do what is written beside them",
        limit: minutes(5),
        run: readme::run,
    },
];
