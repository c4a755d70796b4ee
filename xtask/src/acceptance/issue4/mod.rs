//! Issue 4, MapReduce that survives crashes and keeps to its memory: its 'What must be seen'.

mod large_sort;
mod mrjob;
mod processes;
mod scale;
mod side_by_side;

use super::Item;
use std::time::Duration;

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub static ITEMS: [Item; 11] = [
    Item {
        name: "1",
        title: "word count and index: any splits give what an independent program gives",
        limit: minutes(20),
        run: processes::words,
    },
    Item {
        name: "2",
        title: "the cases of the course's test script as real processes, 50 trials in a row",
        limit: minutes(55),
        run: processes::labs,
    },
    Item {
        name: "3a",
        title: "workers and the coordinator killed, a worker stopped beyond its lease: same output",
        limit: minutes(30),
        run: processes::kills,
    },
    Item {
        name: "3b",
        title: "a killed worker costs at most 35 %, one that is ten times slower at most 50 %",
        limit: minutes(30),
        run: processes::costs,
    },
    Item {
        name: "4",
        title: "shuffle files with any byte flipped, zeroed or cut off: never a wrong output",
        limit: minutes(20),
        run: processes::damage,
    },
    Item {
        name: "5a",
        title: "Python and awk give what they give in a shell",
        limit: minutes(10),
        run: processes::streaming,
    },
    Item {
        name: "5b",
        title: "a word count of mrjob's, unchanged",
        limit: minutes(10),
        run: mrjob::run,
    },
    Item {
        name: "6",
        title: "near the speed of a program written for the task, many times Spark's",
        limit: minutes(30),
        run: side_by_side::run,
    },
    Item {
        name: "7a",
        title: "4 GB sorted with 128 MiB under a hard limit",
        limit: minutes(20),
        run: large_sort::run,
    },
    Item {
        name: "7b",
        title: "10,000 maps and 10,000 reduces: little memory, 10,000 tasks a second",
        limit: minutes(10),
        run: scale::run,
    },
    Item {
        name: "8",
        title: "no shared files: reducers fetch, and maps of a dead machine run again",
        limit: minutes(10),
        run: processes::machines,
    },
];
