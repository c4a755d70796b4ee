//! Sharded stores, as processes: they begin, slots move while clients write, nodes are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::cluster::{Client, Cluster, folder, until};

/// Counts up keys of all slots, one at a time, until it is told to stop; answers how often each.
fn count_up(address: &str, name: String, stop: &AtomicBool) -> Vec<(String, u64)> {
    let mut client = Client::new(address);
    let mut counts: Vec<(String, u64)> =
        (0..40).map(|number| (format!("{name}:{number}"), 0)).collect();
    while !stop.load(Ordering::Relaxed) {
        for (key, count) in &mut counts {
            *count += 1;
            assert_eq!(client.text(&["INCR", key]), count.to_string(), "{key}");
        }
    }
    counts
}

struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<Vec<(String, u64)>>>,
}

impl Load {
    /// Two clients at each of these nodes.
    fn begin(cluster: &Cluster, nodes: &[usize]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = nodes.iter().flat_map(|node| [(*node, 1), (*node, 2)]);
        let threads = clients.map(|(node, number)| {
            let (stop, address) = (Arc::clone(&stop), cluster.nodes[node].resp.clone());
            thread::spawn(move || count_up(&address, format!("n{node}:{number}"), &stop))
        });
        Self { threads: threads.collect(), stop }
    }

    /// Every count must be what was acknowledged, seen from this node.
    fn check(self, client: &mut Client) {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = 0;
        for thread in self.threads {
            for (key, count) in thread.join().expect("no error at a client") {
                assert_eq!(client.text(&["GET", &key]), count.to_string(), "{key}");
                total += count;
            }
        }
        assert!(total > 200, "only {total} commands");
    }
}

#[test]
fn a_sharded_store_keeps_keys_and_owners_when_all_nodes_are_killed() {
    let (_root, dir) = folder();
    let cluster = Cluster::up(&dir, 3);
    let mut client = cluster.client(0);
    for number in 0..300 {
        client.text(&["SET", &format!("key:{number}"), &format!("value-{number}")]);
    }
    cluster.cluster(1, &["move", "--slots", "0-999", "--to", "3"]);
    let slots = cluster.cluster(0, &["slots"]);
    assert!(slots.contains("0-999  group 3"), "{slots}");
    cluster.kill_all();

    let cluster = Cluster::up(&dir, 3);
    let mut client = cluster.client(1);
    for number in 0..300 {
        let found = until("an answer", || client.run(&["GET", &format!("key:{number}")]).ok());
        assert_eq!(found, Some(format!("value-{number}")), "key:{number}");
    }
    assert_eq!(cluster.cluster(2, &["slots"]), slots);
}

#[test]
fn slots_move_there_and_back_under_load_and_the_leader_that_gives_them_is_killed() {
    let (_root, dir) = folder();
    let cluster = Cluster::up(&dir, 3);
    // Each leads one group, and from then on leaders stay where they are.
    let first = until("leaders that are spread", || {
        let leaders = [1, 2, 3].map(|group| cluster.leader(0, group));
        ([0, 1, 2].iter().all(|node| leaders.contains(node))).then_some(leaders[0])
    });
    let others: Vec<usize> = (0..3).filter(|node| *node != first).collect();
    let load = Load::begin(&cluster, &others);
    cluster.cluster(others[0], &["move", "--slots", "0-1023", "--to", "2"]);
    cluster.cluster(others[1], &["move", "--slots", "0-1023", "--to", "1"]);
    cluster.cluster(others[0], &["move", "--slots", "0-4095", "--to", "2", "--no-wait"]);
    cluster.kill(first);
    until("the moves", || {
        let slots = cluster.cluster(others[1], &["slots"]);
        slots.contains("0-4095  group 2").then_some(())
    });
    load.check(&mut cluster.client(others[0]));
}

#[test]
fn a_store_with_one_group_becomes_a_sharded_one_under_load() {
    let (_root, dir) = folder();
    let cluster = Cluster::up(&dir, 1);
    let load = Load::begin(&cluster, &[0, 1, 2]);
    cluster.cluster(1, &["enable-sharding"]);
    cluster.cluster(2, &["join", "--group", "2"]);
    cluster.cluster(0, &["move", "--slots", "0-2047", "--to", "2"]);
    let slots = cluster.cluster(2, &["slots"]);
    assert!(slots.contains("0-2047  group 2"), "{slots}");
    load.check(&mut cluster.client(2));
    // A group gives everything back, and is gone.
    cluster.cluster(1, &["leave", "--group", "2"]);
    assert_eq!(cluster.cluster(0, &["slots"]).trim(), "0-16383  group 1");
}
