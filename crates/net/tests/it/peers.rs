use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki_net::proto::peer_client::PeerClient;
use kontiki_net::proto::{Frame, PeerHello};
use kontiki_net::{
    ClusterId, Dropped, PROTOCOL_VERSION, PeerConfig, PeerEvent, PeerStats, connect,
};
use kontiki_types::{Incarnation, NodeId};
use tonic::{Code, Status};

use crate::cluster::{CLUSTER, Node, PATIENCE, Setup};

/// Two nodes that reach each other.
async fn pair() -> (Node, Node) {
    let (mut first, mut second) = (Node::start(1), Node::start(2));
    first.transport.set_peer(NodeId(2), Incarnation(2), &second.address);
    second.transport.set_peer(NodeId(1), Incarnation(1), &first.address);
    first.connected_to(2).await;
    second.connected_to(1).await;
    (first, second)
}

fn stats(node: &Node, of: u64) -> PeerStats {
    let stats = node.transport.stats();
    stats.into_iter().find(|(node, _)| node.0 == of).expect("a peer").1
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order_both_ways() {
    let (mut first, mut second) = pair().await;
    for number in 0..1000u32 {
        let frame = Bytes::copy_from_slice(&number.to_le_bytes());
        first.transport.send(NodeId(2), frame.clone()).expect("room");
        second.transport.send(NodeId(1), frame).expect("room");
    }
    for number in 0..1000u32 {
        let expected = Bytes::copy_from_slice(&number.to_le_bytes());
        assert_eq!(second.frame().await, (NodeId(1), expected.clone()));
        assert_eq!(first.frame().await, (NodeId(2), expected));
    }
    assert_eq!(stats(&first, 2).sent_frames, 1000);
    assert_eq!(stats(&first, 2).dropped_frames, 0);
}

#[tokio::test]
async fn an_empty_frame_and_the_largest_arrive() {
    let (first, mut second) = pair().await;
    let largest = Bytes::from(vec![3; first.transport.config().frame_bytes_max - 16]);
    for frame in [Bytes::new(), largest.clone(), Bytes::new()] {
        first.transport.send(NodeId(2), frame).expect("room");
    }
    assert_eq!(second.frame().await.1.len(), 0);
    assert!(second.frame().await.1 == largest);
    assert_eq!(second.frame().await.1.len(), 0);
    let larger = Bytes::from(vec![3; largest.len() + 1]);
    assert_eq!(first.transport.send(NodeId(2), larger), Err(Dropped::TooLarge));
}

#[tokio::test]
async fn what_finds_no_room_is_dropped_and_counted() {
    let config = PeerConfig { queue_frames_max: 2, queue_bytes_max: 100, ..PeerConfig::default() };
    let node = Node::with(1, Setup { config, ..Setup::default() });
    assert_eq!(node.transport.send(NodeId(2), Bytes::new()), Err(Dropped::UnknownPeer));
    // A listener that accepts nothing, so that the queue keeps what it has.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = deaf.local_addr().expect("bound").to_string();
    node.transport.set_peer(NodeId(2), Incarnation(2), &address);
    let send = |bytes| node.transport.send(NodeId(2), Bytes::from(vec![0; bytes]));
    assert_eq!(send(90), Ok(()));
    assert_eq!(send(11), Err(Dropped::Full), "too many bytes");
    assert_eq!(send(10), Ok(()));
    assert_eq!(send(0), Err(Dropped::Full), "too many frames");
    let stats = stats(&node, 2);
    assert_eq!((stats.queued_frames, stats.queued_bytes, stats.dropped_frames), (2, 100, 2));
}

#[tokio::test]
async fn a_restarted_peer_is_reached_at_once() {
    let (mut first, second) = pair().await;
    let address = second.address.clone();
    second.stop().await;
    first.event(|event| matches!(event, PeerEvent::Disconnected(..)).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    let mut second = Node::with(2, Setup { address, ..Setup::default() });
    first.connected_to(2).await;
    // A pause is 50 ms at most; the rest is for a busy machine.
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    first.transport.send(NodeId(2), Bytes::from_static(b"again")).expect("room");
    assert_eq!(second.frame().await, (NodeId(1), Bytes::from_static(b"again")));
}

#[tokio::test]
async fn stopping_does_not_wait_for_the_peers() {
    let (first, second) = pair().await;
    let start = Instant::now();
    // `second` keeps its connection to `first` open.
    first.stop().await;
    assert!(start.elapsed() < PATIENCE / 2);
    second.stop().await;
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused() {
    let other = Setup { cluster: ClusterId(0xbad), ..Setup::default() };
    let (mut first, mut second) = (Node::start(1), Node::with(2, other));
    first.transport.set_peer(NodeId(2), Incarnation(2), &second.address);
    let expected = "node 1 belongs to cluster 0000000000c0ffee, node 2 to cluster 0000000000000bad";
    assert_eq!(refused_by(&mut first).await, expected);
    assert_eq!(refused(&mut second).await, expected);
}

#[tokio::test]
async fn a_node_with_another_directory_is_refused() {
    let emptied = Setup { incarnation: 0x22, ..Setup::default() };
    let (mut first, mut second) = (Node::start(1), Node::with(2, emptied));
    first.transport.set_peer(NodeId(2), Incarnation(2), &second.address);
    assert_eq!(
        refused_by(&mut first).await,
        "node 1 calls incarnation 2 of node 2, this is 22: its directory is another one"
    );
    // And in the other direction, once it calls by itself.
    second.transport.set_peer(NodeId(1), Incarnation(1), &first.address);
    assert_eq!(
        refused_by(&mut second).await,
        "node 2 is known as incarnation 2 and calls as 22: its directory is another one"
    );
    // Whoever corrects the table is let through at once.
    first.transport.set_peer(NodeId(2), Incarnation(0x22), &second.address);
    first.connected_to(2).await;
    second.connected_to(1).await;
}

#[tokio::test]
async fn another_version_is_refused_naming_both() {
    let node = Node::start(1);
    let hello = PeerHello { protocol_version: PROTOCOL_VERSION + 1, ..hello() };
    let status = exchange(&node, vec![Frame { hello: Some(hello), ..Frame::default() }]).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert_eq!(
        status.message(),
        "node 2 speaks version 2 of the peer protocol, node 1 speaks version 1"
    );
}

#[tokio::test]
async fn nothing_is_handed_over_before_a_greeting() {
    let mut node = Node::start(1);
    let frame = Frame { payload: Bytes::from_static(b"x"), hello: None };
    assert_eq!(exchange(&node, vec![frame]).await.code(), Code::InvalidArgument);
    assert_eq!(exchange(&node, vec![]).await.code(), Code::InvalidArgument);
    assert!(node.frames.try_recv().is_err());
}

#[tokio::test]
async fn of_two_connections_the_younger_counts() {
    let mut node = Node::start(1);
    let (old, mut old_answers) = open(&node).await;
    let (young, _young_answers) = open(&node).await;
    let frame = |text: &'static str| Frame { payload: Bytes::from(text), hello: None };
    old.send(frame("old")).await.expect("open");
    let end = old_answers.message().await.expect_err("told to leave");
    assert_eq!(end.code(), Code::Aborted);
    young.send(frame("young")).await.expect("open");
    assert_eq!(node.frame().await, (NodeId(2), Bytes::from_static(b"young")));
}

fn hello() -> PeerHello {
    PeerHello {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: CLUSTER.0,
        node: 2,
        incarnation: 2,
        to_node: 1,
        to_incarnation: 1,
    }
}

type Answers = tonic::Streaming<kontiki_net::proto::PeerWelcome>;

/// A connection made by hand, welcomed.
async fn open(node: &Node) -> (tokio::sync::mpsc::Sender<Frame>, Answers) {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let first = Frame { hello: Some(hello()), ..Frame::default() };
    sender.send(first).await.expect("open");
    let channel = connect(&node.address, None, None, PATIENCE).await.expect("reachable");
    let frames = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answer = PeerClient::new(channel).exchange(frames).await.expect("admitted");
    let mut answers = answer.into_inner();
    let welcome = answers.message().await.expect("no error").expect("a welcome");
    assert_eq!((welcome.node, welcome.incarnation), (1, 1));
    (sender, answers)
}

/// The refusal of these frames.
async fn exchange(node: &Node, frames: Vec<Frame>) -> Status {
    let channel = connect(&node.address, None, None, PATIENCE).await.expect("reachable");
    let answer = PeerClient::new(channel).exchange(tokio_stream::iter(frames)).await;
    answer.expect_err("refused")
}

async fn refused_by(node: &mut Node) -> String {
    node.event(|event| match event {
        PeerEvent::RefusedBy(_, why) => Some(why.clone()),
        _ => None,
    })
    .await
}

async fn refused(node: &mut Node) -> String {
    node.event(|event| match event {
        PeerEvent::Refused(_, why) => Some(why.clone()),
        _ => None,
    })
    .await
}
