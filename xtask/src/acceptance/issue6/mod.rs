//! Issue 6, much data for a long time on bad disks: its 'What must be seen'.

mod amplification;
mod backup;
mod catch_up;
mod disk_use;
mod faults;
mod large_data;
mod lost_disks;
mod overwrite;
mod power_loss;
mod restart;
mod restart_others;

use super::Item;
use std::time::Duration;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub static ITEMS: [Item; 9] = [
    Item {
        name: "0",
        title: "all nodes lose power at once 500 times, unsynced bytes of log and state lost",
        limit: minutes(30),
        run: power_loss::run,
    },
    Item {
        name: "1",
        title: "20 million keys in 512 MiB: random reads at half the rate of little data, also in a cgroup",
        limit: minutes(180),
        run: large_data::run,
    },
    Item {
        name: "2",
        title: "1 GB written, all nodes killed with -9: first linearizable read within 1.5 s",
        limit: minutes(40),
        run: restart::run,
    },
    Item {
        name: "3",
        title: "1000 keys overwritten for 10 minutes: disk use flat, within 3 x live data + fixed log",
        limit: minutes(20),
        run: overwrite::run,
    },
    Item {
        name: "4",
        title: "a follower catches up by snapshot under load, broken off three times, at 70 % of the rate",
        limit: minutes(20),
        run: catch_up::run,
    },
    Item {
        name: "5",
        title: "the lab scenarios on disks, in the simulator and as real processes",
        limit: minutes(30),
        run: lost_disks::run,
    },
    Item {
        name: "6",
        title: "the table of faults: no silent loss, and every message says what to do",
        limit: minutes(30),
        run: faults::run,
    },
    Item {
        name: "7",
        title: "a backup under load, restored twice: all that was acknowledged; a damaged one refused",
        limit: minutes(30),
        run: backup::run,
    },
    Item {
        name: "8",
        title: "bytes written for each of payload, and time by stage, in metrics and benchmark",
        limit: minutes(20),
        run: amplification::run,
    },
];
