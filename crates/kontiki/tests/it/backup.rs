//! A backup of a store that is written to, whose slots move; and what is made of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::cluster::{Client, Cluster, KONTIKI, folder};

const KEYS: usize = 2000;

fn kontiki(arguments: &[&str], files: &[&Path]) -> Output {
    Command::new(KONTIKI).args(arguments).args(files).output().expect("it runs")
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

#[test]
fn a_backup_under_load_has_what_was_acknowledged_before_and_is_restored_whole() {
    let (_root, dir) = folder();
    let source = Cluster::up(&dir, 3);
    let mut client = source.client(0);
    for number in 0..KEYS {
        client.text(&["SET", &format!("key:{number}"), &format!("value-{number}")]);
    }
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
            succeeded(&kontiki(&slots, &[]));
        })
    };
    // Under way, and at its end: whatever slots do, each key is there once.
    let before: u64 = client.run(&["GET", "count:0"]).unwrap().map_or(0, |n| n.parse().unwrap());
    succeeded(&kontiki(&["backup", "--addr", &address], &[&backup]));
    moves.join().expect("the move ends");
    stop.store(true, Ordering::Relaxed);
    let counts = counting.join().expect("no error at a client");
    refused(&kontiki(&["backup", "--addr", &address], &[&backup]), "exists");

    let checked = succeeded(&kontiki(&["restore", "--check"], &[&backup]));
    assert!(checked.starts_with("sound: "), "{checked}");
    let not_empty = kontiki(&["restore", "--addr", &address], &[&backup]);
    refused(&not_empty, "keys already");
    drop(source);

    // As the folder of a local cluster.
    let restored = dir.join("data2");
    let folder = restored.display().to_string();
    succeeded(&kontiki(&["restore", "--groups", "2", "--dir", &folder], &[&backup]));
    let cluster = Cluster::up_in(&dir.join("data2"), &dir, 2);
    check(&cluster, before, &counts);

    // Into a running store, which is empty again.
    let mut client = cluster.client(1);
    client.text(&["FLUSHALL"]);
    let address = cluster.nodes[0].grpc.clone();
    succeeded(&kontiki(&["restore", "--addr", &address], &[&backup]));
    check(&cluster, before, &counts);

    let whole = fs::read(&backup).expect("the backup");
    let altered = dir.join("altered.backup");
    fs::write(&altered, &whole[..whole.len() - 30]).expect("a file");
    client.text(&["FLUSHALL"]);
    refused(&kontiki(&["restore", "--addr", &address], &[&altered]), "cut short");
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 4;
    fs::write(&altered, &bytes).expect("a file");
    refused(&kontiki(&["restore", "--addr", &address], &[&altered]), "altered");
    assert_eq!(client.text(&["DBSIZE"]), "0", "something of a bad backup was written");
}

fn check(cluster: &Cluster, before: u64, counts: &BTreeMap<String, u64>) {
    let mut client = cluster.client(0);
    for number in 0..KEYS {
        let key = format!("key:{number}");
        assert_eq!(client.text(&["GET", &key]), format!("value-{number}"), "{key}");
    }
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
    assert!((KEYS + 2..=KEYS + 2 + counts.len()).contains(&size), "{size} keys");
}
