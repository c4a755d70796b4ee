use kontiki_client::{
    Client, Compare, Error, Op, OpResult, Options, Outcome, Reason, Version, Versioned, blocking,
};

use crate::fake::Cluster;

async fn client(cluster: &Cluster) -> Client {
    Client::connect(&cluster.addresses[..1], Options::default()).await.expect("reachable")
}

#[tokio::test]
async fn every_call_answers() {
    let cluster = Cluster::start(3);
    let client = client(&cluster).await;
    assert_eq!(client.get("k").await, Ok(None));
    let first = client.set("k", "one").await.expect("set");
    assert_eq!(client.append("k", b"+two").await, Ok(7));
    let read = client.get("k").await.expect("get").expect("there");
    assert_eq!(read.value, "one+two");
    assert!(read.version > first);
    assert_eq!(
        client.put_if_version("k", "three", first).await,
        Err(Error::VersionMismatch { version: read.version })
    );
    let third = client.put_if_version("k", "three", read.version).await.expect("put");
    assert!(third > read.version);
    assert_eq!(client.delete("k").await, Ok(true));
    assert_eq!(client.delete("k").await, Ok(false));
    let again = client.put_if_version("k", "four", Version::ABSENT).await.expect("put");
    assert!(again > third, "versions grow through a deletion");
    let status = client.status().await.expect("status");
    assert_eq!((status.leader, status.endpoints.len()), (Some(1), 3));
    assert_eq!(client.cluster_status().await.expect("status").nodes.len(), 1);
    assert_eq!(client.transfer(1, 2).await, Ok(2));
    assert_eq!(client.add_replica(1, 4).await.expect("added").voters, vec![4]);
    assert_eq!(client.remove_replica(1, 4).await.expect("removed").voters, vec![0; 0]);
}

#[tokio::test]
async fn a_batch_answers_each_operation_in_its_kind() {
    let cluster = Cluster::start(1);
    let client = client(&cluster).await;
    let ops =
        [Op::set("a", "1"), Op::append("a", "2"), Op::get("a"), Op::get("b"), Op::delete("a")];
    let results = client.batch(ops).await.expect("batch");
    let [
        OpResult::Set(set),
        OpResult::Append { length: 2, version },
        OpResult::Get(Some(Versioned { value, version: read })),
        OpResult::Get(None),
        OpResult::Delete { found: true },
    ] = &results[..]
    else {
        panic!("{results:?}")
    };
    assert!(set < version && version == read);
    assert_eq!(value, "12");
}

#[tokio::test]
async fn a_transaction_happens_whole_or_not_at_all() {
    let cluster = Cluster::start(1);
    let client = client(&cluster).await;
    let version = client.set("a", "1").await.expect("set");
    let both = [Op::set("a", "2"), Op::set("b", "2")];
    let held = [Compare::version("a", version), Compare::absent("b")];
    let done = client.transaction(held.clone(), both.clone()).await.expect("transaction");
    assert_eq!(done.map(|results| results.len()), Some(2));
    assert_eq!(client.transaction(held, both).await, Ok(None));
    assert_eq!(cluster.store().value("b"), Some("2".into()));
}

#[tokio::test]
async fn many_calls_at_once_share_a_client() {
    let cluster = Cluster::start(3);
    let client = client(&cluster).await;
    let writers: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            // Spawned, which also shows that the futures may move between threads.
            tokio::spawn(async move {
                for _ in 0..10 {
                    client.append(format!("k{}", number % 5), "x").await.expect("appended");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    for key in 0..5 {
        assert_eq!(cluster.store().value(&format!("k{key}")).map(|v| v.len()), Some(100));
    }
    let store = cluster.store();
    let mut seqs: Vec<_> = store.stamps.iter().map(|stamp| stamp.seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=500).collect::<Vec<_>>(), "each write has a number of its own");
    assert!(store.stamps.iter().all(|stamp| stamp.low <= stamp.seq));
}

#[tokio::test]
async fn a_password_is_shown() {
    let cluster = Cluster::with_password(1, "swordfish");
    let options = Options::default().password("swordfish");
    let client = Client::connect(&cluster.addresses, options).await.expect("let in");
    client.set("k", "v").await.expect("let in");
    for options in [Options::default(), Options::default().password("guess")] {
        let refused = Client::connect(&cluster.addresses, options).await.expect_err("refused");
        assert_eq!(refused.outcome(), Outcome::NotApplied);
        let Error::NotApplied { reason, .. } = refused else { panic!("{refused}") };
        assert_eq!(reason, Reason::Unauthenticated);
    }
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let cluster = Cluster::start(1);
    let client = client(&cluster).await;
    let refused = client.set("k", vec![0; 8 << 20]).await.expect_err("too large");
    assert_eq!(refused.outcome(), Outcome::NotApplied);
    client.set("k", vec![0; (8 << 20) - 1]).await.expect("just fits");
    let read = client.get("k").await.expect("get").expect("there");
    assert_eq!(read.value.len(), (8 << 20) - 1);
}

#[test]
fn the_blocking_client_does_the_same() {
    let server = tokio::runtime::Runtime::new().expect("threads");
    let cluster = server.block_on(async { Cluster::start(2) });
    let client = blocking::Client::connect(&cluster.addresses, Options::default()).expect("open");
    let version = client.set("k", "v").expect("set");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.append("k", "x").expect("appended"))
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let read = client.get("k").expect("get").expect("there");
    assert_eq!(read.value, "vxxxx");
    assert!(read.version > version);
    assert_eq!(client.batch([Op::delete("k")]), Ok(vec![OpResult::Delete { found: true }]));
    assert_eq!(client.transaction([], [Op::get("k")]), Ok(Some(vec![OpResult::Get(None)])));
    assert_eq!(client.delete("k"), Ok(false));
    assert!(client.put_if_version("k", "v", Version::ABSENT).is_ok());
    assert_eq!(client.status().map(|status| status.leader), Ok(Some(1)));
}
