use std::time::{Duration, Instant};

use kontiki_client::{Client, Error, Op, Options, Outcome, Version};

use crate::fake::{Cluster, Trick};

/// Impatient enough for a test, with the given addresses only, from the first.
fn options() -> Options {
    Options {
        timeout: Duration::from_millis(1500),
        attempt_timeout: Duration::from_millis(150),
        discover: false,
        ..Options::default()
    }
}

async fn client(cluster: &Cluster) -> Client {
    Client::connect(&cluster.addresses, options()).await.expect("reachable")
}

#[tokio::test]
async fn a_lost_answer_does_not_apply_twice() {
    for trick in [Trick::LoseAnswer, Trick::Unsure, Trick::NoLeader, Trick::Hang] {
        let cluster = Cluster::start(3);
        let client = client(&cluster).await;
        cluster.plan(1, &[trick]);
        assert_eq!(client.append("k", "x").await, Ok(1), "{trick:?}");
        assert_eq!(client.append("k", "x").await, Ok(2), "{trick:?}");
        let store = cluster.store();
        assert_eq!(store.value("k"), Some("xx".into()), "{trick:?}");
        // The retry carried the stamp of the first attempt, byte for byte.
        let [.., retry, next] = &store.stamps[..] else { panic!("{trick:?}") };
        assert!(store.stamps.iter().filter(|stamp| stamp.seq == 1).all(|stamp| stamp == retry));
        assert_eq!((next.seq, next.low), (2, 2), "{trick:?}");
    }
}

#[tokio::test]
async fn a_compare_that_held_once_still_holds_for_its_retry() {
    let cluster = Cluster::start(2);
    let client = client(&cluster).await;
    cluster.plan(1, &[Trick::LoseAnswer]);
    // Applied by the first attempt, so that a naive second one would find another version.
    let version = client.put_if_version("k", "v", Version::ABSENT).await.expect("put");
    cluster.plan(2, &[Trick::LoseAnswer]);
    let stale = client.put_if_version("k", "w", Version(version.0 + 5)).await;
    assert_eq!(stale, Err(Error::VersionMismatch { version }));
}

#[tokio::test]
async fn without_a_leader_nothing_was_applied() {
    let cluster = Cluster::start(2);
    let client = client(&cluster).await;
    for node in [1, 2] {
        cluster.plan(node, &[Trick::NoLeader; 1000]);
    }
    let start = Instant::now();
    let mut refused = client.set("k", "v").await.expect_err("no leader");
    assert!(start.elapsed() < options().timeout + Duration::from_secs(5));
    for _ in 0..5 {
        if refused.outcome() == Outcome::MayRetry {
            break;
        }
        // On a busy machine the last attempt may have been under way when the time was up.
        refused = client.set("k", "v").await.expect_err("no leader");
    }
    assert_eq!(refused.outcome(), Outcome::MayRetry, "{refused}");
    assert_eq!(client.get("k").await.expect_err("no leader").outcome(), Outcome::MayRetry);
    assert_eq!(cluster.store().value("k"), None);
}

#[tokio::test]
async fn when_no_answer_comes_nobody_knows() {
    let cluster = Cluster::start(2);
    let client = client(&cluster).await;
    for trick in [Trick::LoseAnswer, Trick::Unsure, Trick::Hang] {
        for node in [1, 2] {
            cluster.plan(node, &[trick; 100]);
        }
        let unsure = client.append("k", "x").await.expect_err("no answer");
        assert_eq!(unsure.outcome(), Outcome::Unknown, "{trick:?}: {unsure}");
        for node in [1, 2] {
            cluster.store().clear_tricks(node);
        }
    }
    // Applied once each, where it was applied at all.
    assert_eq!(cluster.store().value("k"), Some("xx".into()));
}

#[tokio::test]
async fn a_doubt_outlives_a_later_refusal() {
    let cluster = Cluster::start(2);
    let client = client(&cluster).await;
    cluster.plan(1, &[Trick::LoseAnswer]);
    cluster.plan(2, &[Trick::Refuse]);
    let unsure = client.set("k", "v").await.expect_err("refused at last");
    assert_eq!(unsure.outcome(), Outcome::Unknown, "{unsure}");
    assert_eq!(cluster.store().value("k"), Some("v".into()), "the first attempt had applied it");
}

#[tokio::test]
async fn nodes_that_are_not_there_are_passed_over() {
    let cluster = Cluster::start(1);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut addresses = vec![gone.local_addr().expect("bound").to_string()];
    drop(gone);
    addresses.extend(cluster.addresses.clone());
    let client = Client::connect(&addresses, options()).await.expect("the other one");
    assert_eq!(client.append("k", "x").await, Ok(1));
    assert_eq!(client.transfer(1, 1).await, Ok(1));
    let nobody = Client::connect(&addresses[..1], options()).await.expect_err("nobody there");
    assert_eq!(nobody.outcome(), Outcome::MayRetry, "{nobody}");
    assert!(nobody.to_string().contains(&addresses[0]), "{nobody}");
}

#[tokio::test]
async fn other_nodes_are_found_and_used() {
    let cluster = Cluster::start(3);
    let options = Options { discover: true, ..options() };
    let client = Client::connect(&cluster.addresses[2..], options).await.expect("reachable");
    // Node 1 leads and is asked first; then the others have their turn.
    cluster.plan(1, &[Trick::NoLeader]);
    cluster.plan(3, &[Trick::NoLeader]);
    cluster.plan(2, &[Trick::NoLeader; 100]);
    assert_eq!(client.append("k", "x").await, Ok(1));
}

#[tokio::test]
async fn a_change_of_members_is_not_sent_twice() {
    let cluster = Cluster::start(2);
    let client = client(&cluster).await;
    cluster.plan(1, &[Trick::LoseAnswer]);
    let unsure = client.add_replica(1, 4).await.expect_err("no answer");
    assert_eq!(unsure.outcome(), Outcome::Unknown);
    cluster.plan(2, &[Trick::NoLeader]);
    assert_eq!(client.add_replica(1, 4).await.expect("retried").voters, vec![4]);
}

#[tokio::test]
async fn a_write_that_nobody_awaits_frees_its_record() {
    let cluster = Cluster::start(1);
    let client = client(&cluster).await;
    cluster.plan(1, &[Trick::Hang]);
    let given_up = tokio::time::timeout(Duration::from_millis(50), client.set("k", "v")).await;
    assert!(given_up.is_err());
    client.set("k", "w").await.expect("set");
    let store = cluster.store();
    let last = store.stamps.last().expect("a stamp");
    assert_eq!((last.seq, last.low), (2, 2));
}

#[tokio::test]
async fn a_long_pause_does_not_spoil_the_deadline() {
    let cluster = Cluster::start(1);
    cluster.store().retention_ms = 400;
    let client = client(&cluster).await;
    client.set("k", "v").await.expect("set");
    // Log time goes on while the client is idle for longer than the retention.
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.store().log_time_ms += 500;
    client.batch([Op::set("k", "w")]).await.expect("a fresh deadline");
}

#[tokio::test]
async fn an_expired_record_is_an_unknown_outcome() {
    let cluster = Cluster::start(2);
    let client = client(&cluster).await;
    cluster.store().log_time_ms += 601_000;
    let unsure = client.set("k", "v").await.expect_err("too late");
    assert_eq!(unsure.outcome(), Outcome::Unknown, "{unsure}");
    client.set("k", "v").await.expect("a fresh deadline");
}
