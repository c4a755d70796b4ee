//! The lock of `examples/lock.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kontiki_client::{Client, Options};

use crate::fake::Cluster;

#[path = "../../examples/lock.rs"]
#[allow(dead_code, reason = "the example's main")]
mod example;

use example::Lock;

const LEASE: Duration = Duration::from_millis(400);

async fn client(cluster: &Cluster) -> Client {
    Client::connect(&cluster.addresses, Options::default()).await.expect("reachable")
}

#[tokio::test]
async fn one_holder_at_a_time_with_growing_tokens() {
    let cluster = Cluster::start(1);
    let (busy, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut holders = Vec::new();
    for number in 0..4 {
        let (busy, last) = (Arc::clone(&busy), Arc::clone(&last));
        let lock = Lock::new(client(&cluster).await, "lock", &format!("h{number}"), LEASE);
        holders.push(tokio::spawn(async move {
            for _ in 0..5 {
                let held = lock.acquire().await.expect("acquired");
                assert!(!busy.swap(true, Ordering::SeqCst), "two holders");
                let token = held.fencing_token().0;
                assert!(last.swap(token, Ordering::SeqCst) < token, "tokens grow");
                busy.store(false, Ordering::SeqCst);
                assert!(held.release().await.expect("released"));
            }
        }));
    }
    for holder in holders {
        holder.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_holder_that_went_away_is_succeeded_after_its_lease() {
    let cluster = Cluster::start(1);
    let first = Lock::new(client(&cluster).await, "lock", "first", LEASE);
    let second = Lock::new(client(&cluster).await, "lock", "second", LEASE);
    let stale = first.acquire().await.expect("acquired");
    let start = std::time::Instant::now();
    let held = second.acquire().await.expect("acquired");
    assert!(start.elapsed() >= LEASE, "{:?}", start.elapsed());
    assert!(held.fencing_token() > stale.fencing_token());
    // The first one finds out, and cannot free what it does not hold.
    assert!(!stale.release().await.expect("answered"));
    assert!(held.release().await.expect("answered"));
}

#[tokio::test]
async fn a_holder_that_renews_keeps_it() {
    let cluster = Cluster::start(1);
    let first = Lock::new(client(&cluster).await, "lock", "first", LEASE);
    let second = Lock::new(client(&cluster).await, "lock", "second", LEASE);
    let mut held = first.acquire().await.expect("acquired");
    let token = held.fencing_token();
    let waiting = tokio::spawn(async move { second.acquire().await.map(drop) });
    for _ in 0..6 {
        tokio::time::sleep(LEASE / 4).await;
        assert!(held.renew().await.expect("answered"));
    }
    assert!(!waiting.is_finished());
    assert!(held.is_current());
    assert_eq!(held.fencing_token(), token);
    assert!(held.release().await.expect("answered"));
    waiting.await.expect("no panic").expect("acquired in turn");
}
