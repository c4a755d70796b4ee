//! Callers that do not play by the rules.

use std::time::{Duration, Instant};

use kontiki_net::proto::GetRequest;
use kontiki_net::proto::kv_client::KvClient;
use kontiki_net::{Limits, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::{Node, PATIENCE, Setup};

async fn still_serves(node: &Node) {
    let channel = connect(&node.address, None, None, PATIENCE).await.expect("reachable");
    let answer = KvClient::new(channel).get(GetRequest { key: "k".into() }).await;
    assert_eq!(answer.expect("served").into_inner().value, "v");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_dropped() {
    let limits = Limits { first_bytes_timeout: Duration::from_millis(200), ..Limits::default() };
    let node = Node::with(1, Setup { limits, ..Setup::default() });
    for opening in [&b""[..], b"PRI * HTTP/2.0"] {
        let mut stream = TcpStream::connect(&node.address).await.expect("reachable");
        stream.write_all(opening).await.expect("open");
        let read = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(read.is_ok(), "closed by the node");
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn a_caller_that_stops_answering_is_dropped() {
    let limits = Limits {
        keepalive_interval: Duration::from_millis(100),
        keepalive_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let node = Node::with(1, Setup { limits, ..Setup::default() });
    let mut stream = TcpStream::connect(&node.address).await.expect("reachable");
    // The preface and an empty SETTINGS frame, then never a word, not even to a ping.
    let opening = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(opening).await.expect("open");
    let start = Instant::now();
    let read = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    assert!(read.is_ok(), "closed by the node");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_their_places_come_back() {
    let limits = Limits { connections_max: 2, ..Limits::default() };
    let node = Node::with(1, Setup { limits, ..Setup::default() });
    let held = [
        TcpStream::connect(&node.address).await.expect("reachable"),
        TcpStream::connect(&node.address).await.expect("reachable"),
    ];
    let mut third = TcpStream::connect(&node.address).await.expect("reachable");
    let read = timeout(PATIENCE, third.read_to_end(&mut Vec::new())).await.expect("closed");
    assert_eq!(read.unwrap_or(0), 0);
    drop(held);
    let start = Instant::now();
    loop {
        if let Ok(channel) = connect(&node.address, None, None, PATIENCE).await {
            let get = KvClient::new(channel).get(GetRequest { key: "k".into() }).await;
            if get.is_ok() {
                break;
            }
        }
        assert!(start.elapsed() < PATIENCE, "the places did not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn garbage_hurts_nobody_else() {
    let node = Node::start(1);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..300 {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        // A third is nothing but noise, the rest goes wrong after a proper opening.
        if round % 3 == 0 {
            bytes.clear();
        }
        bytes.extend((0..next() % 200).map(|_| next() as u8));
        let mut stream = TcpStream::connect(&node.address).await.expect("reachable");
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
    }
    still_serves(&node).await;
}
