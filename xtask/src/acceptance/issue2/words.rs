//! Item 3: real input. A dictionary goes in through a follower with `redis-cli --pipe` and comes
//! back from every node.

use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::acceptance::client::{Client, Reply, encode};
use crate::acceptance::cluster::Cluster;
use crate::acceptance::{Context, Figures, Skip, needs};
use crate::program::Program;

const DICTIONARY: &str = "/usr/share/dict/words";

/// Replies of this many commands wait to be read at once.
const PIPELINED: usize = 500;

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["redis-cli"])?;
    let Ok(text) = std::fs::read_to_string(DICTIONARY) else {
        bail!(Skip(format!("{DICTIONARY} is not there (Debian's package wamerican)")));
    };
    let lines = text.lines().filter(|line| !line.is_empty()).enumerate();
    let words: BTreeMap<&str, String> = lines
        .take(context.amount(usize::MAX, 20_000))
        .map(|(number, word)| (word, number.to_string()))
        .collect();

    let cluster = Cluster::start(context)?;
    let follower = (cluster.leader(0)? + 1) % 3;
    let mut commands = Vec::new();
    for (word, number) in &words {
        encode(&[b"SET", word.as_bytes(), number.as_bytes()], &mut commands);
    }
    let started = Instant::now();
    let said = Program::new("redis-cli")
        .args(["-p", &cluster.nodes()[follower].resp.port().to_string(), "--pipe"])
        .input(commands)
        .output_within(Duration::from_secs(180))?;
    let loaded = started.elapsed();
    let summary = format!("errors: 0, replies: {}", words.len());
    ensure!(said.contains(&summary), "redis-cli says {said:?} instead of {summary:?}");

    for node in 0..3 {
        let mut client = cluster.client(node)?;
        let size = client.call(&["DBSIZE"])?;
        ensure!(size == Reply::Integer(words.len() as i64), "DBSIZE at node {node} says {size:?}");
        read_back(&mut client, &words)?;
    }
    cluster.stop()?;
    Ok(Figures::from_iter([
        ("words".to_string(), words.len().into()),
        ("load_seconds".to_string(), loaded.as_secs_f64().into()),
        (
            "words_per_second".to_string(),
            (words.len() as f64 / loaded.as_secs_f64()).round().into(),
        ),
    ]))
}

fn read_back(client: &mut Client, words: &BTreeMap<&str, String>) -> Result<()> {
    let all: Vec<(&&str, &String)> = words.iter().collect();
    for chunk in all.chunks(PIPELINED) {
        for (word, _) in chunk {
            client.add(&[b"GET", word.as_bytes()]);
        }
        client.send()?;
        for (word, number) in chunk {
            let value = client.reply()?;
            let expected = Reply::Bulk(number.as_bytes().to_vec());
            ensure!(value == expected, "GET {word} says {value:?} instead of {number}");
        }
    }
    Ok(())
}
