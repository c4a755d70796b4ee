//! A backup of a store that is written to, whose slots move; and what is made of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::cluster::{Client, Cluster, folder};
use crate::form::{amount, figure, kontiki};

/// Clients that write them, and look at them again.
const CLIENTS: usize = 8;

fn keys() -> usize {
    amount(400_000, 2000)
}

fn value(number: usize) -> String {
    format!("value-{number:0width$}", width = amount(500, 1))
}

fn run(arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(kontiki()).args(arguments).args(files).output().expect("it runs")
}

fn succeeded(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output, why: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains(why), "{errors}");
}

/// Clients at all nodes share the keys.
fn by_all(cluster: &Cluster, one: impl Fn(&mut Client, usize) + Sync) {
    thread::scope(|scope| {
        for first in 0..CLIENTS {
            let (mut client, one) = (cluster.client(first % 3), &one);
            scope.spawn(move || {
                (first..keys()).step_by(CLIENTS).for_each(|number| one(&mut client, number));
            });
        }
    });
}

/// A client that counts keys up until it is told to stop.
fn writer(address: &str, stop: Arc<AtomicBool>) -> thread::JoinHandle<BTreeMap<String, u64>> {
    let mut client = Client::new(address);
    thread::spawn(move || {
        let mut counts = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            for number in 0..50 {
                let key = format!("count:{number}");
                let count = client.text(&["INCR", &key]).parse().expect("a number");
                counts.insert(key, count);
            }
        }
        counts
    })
}

/// What two of the three directories have is everything that was acknowledged, though the slots of
/// some keys have moved.
fn recovered(dir: &Path) {
    let (left, data) = (dir.join("left.backup"), dir.join("data"));
    let nodes = [data.join("node-1"), data.join("node-3")].map(|node| node.display().to_string());
    let recover = ["recover-with-loss", "--from", &nodes[0], "--from", &nodes[1]];
    refused(&run(&recover, &[&left]), "--i-accept-that-acknowledged-writes-may-be-lost");
    let known = "--i-accept-that-acknowledged-writes-may-be-lost";
    let recover = [&recover[..], &[known]].concat();
    let said = succeeded(&run(&recover, &[&left]));
    assert!(!said.contains("no directory has them") && !said.contains("left out"), "{said}");
    let keys = keys() + 2 + 50;
    assert!(said.contains(&format!("\n{keys} keys, ")), "{said}");
    let checked = succeeded(&run(&["restore", "--check"], &[&left]));
    assert!(checked.starts_with(&format!("sound: {keys} keys, ")), "{checked}");
    for node in &nodes {
        succeeded(&run(&["verify"], &[Path::new(node)]));
    }
}

#[test]
fn a_backup_under_load_has_what_was_acknowledged_before_and_is_restored_whole() {
    let (_root, dir) = folder();
    let source = Cluster::up(&dir, 3);
    let mut client = source.client(0);
    by_all(&source, |client, number| {
        client.text(&["SET", &format!("key:{number}"), &value(number)]);
    });
    client.text(&["SET", "large", &"x".repeat(3 << 20)]);
    client.text(&["SET", "goes", "v", "EX", "7200"]);
    let stop = Arc::new(AtomicBool::new(false));
    let counting = writer(&source.nodes[1].resp, Arc::clone(&stop));
    let backup = dir.join("store.backup");
    let address = source.nodes[2].grpc.clone();
    let moves = {
        let address = source.nodes[0].grpc.clone();
        thread::spawn(move || {
            let slots = ["cluster", "move", "--slots", "0-1023", "--to", "2", "--addr", &address];
            succeeded(&run(&slots, &[]));
        })
    };
    // Under way, and at its end: whatever slots do, each key is there once.
    let before: u64 = client.run(&["GET", "count:0"]).unwrap().map_or(0, |n| n.parse().unwrap());
    let begun = Instant::now();
    succeeded(&run(&["backup", "--addr", &address], &[&backup]));
    figure("backup_seconds", begun.elapsed().as_secs_f64());
    figure("backup_bytes", fs::metadata(&backup).expect("a file").len());
    moves.join().expect("the move ends");
    stop.store(true, Ordering::Relaxed);
    let counts = counting.join().expect("no error at a client");
    refused(&run(&["backup", "--addr", &address], &[&backup]), "exists");

    let checked = succeeded(&run(&["restore", "--check"], &[&backup]));
    assert!(checked.starts_with("sound: "), "{checked}");
    let not_empty = run(&["restore", "--addr", &address], &[&backup]);
    refused(&not_empty, "keys already");
    drop(source);
    recovered(&dir);

    // As the folder of a local cluster.
    let restored = dir.join("data2");
    let folder = restored.display().to_string();
    let begun = Instant::now();
    succeeded(&run(&["restore", "--groups", "2", "--dir", &folder], &[&backup]));
    figure("restore_seconds", begun.elapsed().as_secs_f64());
    let cluster = Cluster::up_in(&dir.join("data2"), &dir, 2);
    check(&cluster, before, &counts);

    // Into a running store, which is empty again.
    let mut client = cluster.client(1);
    client.text(&["FLUSHALL"]);
    let address = cluster.nodes[0].grpc.clone();
    let begun = Instant::now();
    succeeded(&run(&["restore", "--addr", &address], &[&backup]));
    figure("restore_into_a_store_seconds", begun.elapsed().as_secs_f64());
    check(&cluster, before, &counts);

    let whole = fs::read(&backup).expect("the backup");
    let altered = dir.join("altered.backup");
    fs::write(&altered, &whole[..whole.len() - 30]).expect("a file");
    client.text(&["FLUSHALL"]);
    refused(&run(&["restore", "--addr", &address], &[&altered]), "cut short");
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 4;
    fs::write(&altered, &bytes).expect("a file");
    refused(&run(&["restore", "--addr", &address], &[&altered]), "altered");
    assert_eq!(client.text(&["DBSIZE"]), "0", "something of a bad backup was written");
}

fn check(cluster: &Cluster, before: u64, counts: &BTreeMap<String, u64>) {
    let mut client = cluster.client(0);
    by_all(cluster, |client, number| {
        let key = format!("key:{number}");
        assert_eq!(client.text(&["GET", &key]), value(number), "{key}");
    });
    assert_eq!(client.text(&["STRLEN", "large"]), (3 << 20).to_string());
    let left: i64 = client.text(&["TTL", "goes"]).parse().expect("a number");
    assert!((1..=7200).contains(&left), "{left} s left");
    for (key, last) in counts {
        let count = client.run(&["GET", key]).unwrap().map_or(0, |n| n.parse::<u64>().unwrap());
        assert!(count <= *last, "{key}: {count} of {last}");
    }
    let first = client.run(&["GET", "count:0"]).unwrap().map_or(0, |n| n.parse::<u64>().unwrap());
    assert!(first >= before, "count:0: {first}, and {before} was acknowledged before");
    let size: usize = client.text(&["DBSIZE"]).parse().expect("a number");
    assert!((keys() + 2..=keys() + 2 + counts.len()).contains(&size), "{size} keys");
}
