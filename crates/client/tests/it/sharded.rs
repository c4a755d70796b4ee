//! The client of a store whose slots are led by several nodes.

use kontiki_client::{Client, Op, OpResult, Options};
use kontiki_net::proto::Route;
use kontiki_types::{SLOTS, Slot};

use crate::fake::{Cluster, Trick};

/// A key of a slot of the first or the second half.
fn key(number: u32, second: bool) -> String {
    let is_second =
        |key: &String| u32::from(Slot::of(key.as_bytes()).get()) >= u32::from(SLOTS) / 2;
    (0..).map(|at| format!("{number}-{at}")).find(|key| is_second(key) == second).expect("endless")
}

async fn client(cluster: &Cluster) -> Client {
    let half = u32::from(SLOTS) / 2;
    let route = |first_slot, last_slot, node| Route { first_slot, last_slot, node };
    let routes = vec![route(0, half - 1, 2), route(half, u32::from(SLOTS) - 1, 3)];
    cluster.store().routes = routes;
    cluster.store().sharded = true;
    let client = Client::connect(&cluster.addresses[..1], Options::default()).await;
    cluster.store().asked.clear();
    client.expect("reachable")
}

#[tokio::test]
async fn calls_go_to_the_node_that_leads_the_slot() {
    let cluster = Cluster::start(3);
    let client = client(&cluster).await;
    for second in [true, false, true] {
        client.set(key(1, second), "v").await.expect("set");
        assert!(client.get(key(1, second)).await.expect("get").is_some());
    }
    assert_eq!(cluster.store().asked, [3, 3, 2, 2, 3, 3]);
}

#[tokio::test]
async fn a_leader_that_does_not_answer_is_left_for_any_other_node() {
    let cluster = Cluster::start(3);
    let client = client(&cluster).await;
    cluster.plan(3, &[Trick::LoseAnswer]);
    assert_eq!(client.append(key(1, true), "v").await, Ok(1));
    assert_eq!(client.append(key(1, true), "v").await, Ok(2), "applied once");
    let asked = cluster.store().asked.clone();
    assert_eq!(asked[0], 3);
    assert!(asked[1..].iter().all(|node| *node != 3), "{asked:?}");
}

#[tokio::test]
async fn a_batch_is_a_write_for_each_slot_and_its_results_are_in_order() {
    let cluster = Cluster::start(3);
    let client = client(&cluster).await;
    let (a, b) = (key(1, false), key(2, true));
    let ops = [Op::append(&a, "xx"), Op::append(&b, "y"), Op::append(&a, "z"), Op::get(&b)];
    let results = client.batch(ops).await.expect("batch");
    let lengths: Vec<_> = results
        .iter()
        .map(|result| match result {
            OpResult::Append { length, .. } => *length,
            OpResult::Get(Some(found)) => found.value.len() as u64,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [2, 1, 3, 1]);
    let mut asked = cluster.store().asked.clone();
    asked.sort_unstable();
    assert_eq!(asked, [2, 3]);
    let seqs: std::collections::BTreeSet<u64> =
        cluster.store().stamps.iter().map(|stamp| stamp.seq).collect();
    assert_eq!(seqs.len(), 2, "each part has a stamp of its own");
}

#[tokio::test]
async fn configurations_are_asked_for_and_changed() {
    let cluster = Cluster::start(1);
    let client = client(&cluster).await;
    assert_eq!(client.slots(None).await.expect("slots").epoch, 7);
    assert_eq!(client.slots(Some(3)).await.expect("slots").epoch, 3);
    let change = kontiki_client::Change::Rebalance(kontiki_client::Rebalance {});
    assert_eq!(client.reshape(change).await.expect("reshaped").epoch, 8);
}
