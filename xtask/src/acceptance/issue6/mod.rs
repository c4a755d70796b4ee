//! Issue 6, much data for a long time on bad disks: its 'What must be seen'.

mod disk_use;
mod overwrite;

use super::Item;
use std::time::Duration;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub static ITEMS: [Item; 1] = [Item {
    name: "3",
    title: "1000 keys overwritten for 10 minutes: disk use flat, within 3 x live data + fixed log",
    limit: minutes(20),
    run: overwrite::run,
}];
