use bytes::Bytes;
use kontiki_net::proto::admin_client::AdminClient;
use kontiki_net::proto::kv_client::KvClient;
use kontiki_net::proto::{
    ClusterStatusRequest, GetRequest, HelloRequest, PutIfVersionRequest, SetRequest,
};
use kontiki_net::{
    Authenticated, Failure, FailureCode, Limits, Outcome, PeerEvent, Secret, Security, connect,
};
use kontiki_types::{Incarnation, NodeId};
use tonic::Code;

use crate::cluster::{Node, PATIENCE, Setup};

fn guarded() -> Setup {
    let security = Security {
        secret: Some(Secret::new("inner \u{fffd}\n")),
        password: Some(Secret::new("outer")),
        tls: None,
    };
    Setup { security, ..Setup::default() }
}

async fn caller(node: &Node, token: Option<&str>) -> Authenticated {
    let token = token.map(Secret::new);
    connect(&node.address, token.as_ref(), None, PATIENCE).await.expect("reachable")
}

#[tokio::test]
async fn each_service_asks_for_its_token() {
    let node = Node::with(1, guarded());
    let (inner, outer) = (Some("inner \u{fffd}\n"), Some("outer"));
    for (token, data, operation, inside) in [
        (None, false, false, false),
        (Some("wrong"), false, false, false),
        (outer, true, true, false),
        (inner, true, true, true),
    ] {
        let channel = caller(&node, token).await;
        let get = KvClient::new(channel.clone()).get(GetRequest { key: "k".into() }).await;
        assert_eq!(get.is_ok(), data, "{token:?}");
        let mut admin = AdminClient::new(channel);
        let status = admin.cluster_status(ClusterStatusRequest {}).await;
        assert_eq!(status.is_ok(), operation, "{token:?}");
        let hello = admin.hello(HelloRequest::default()).await;
        assert_eq!(hello.is_ok(), inside, "{token:?}");
        if let Err(status) = get {
            assert_eq!(status.code(), Code::Unauthenticated);
            let failure = Failure::from_status(&status).expect("a typed failure");
            assert_eq!(failure.outcome, Outcome::NotApplied);
            assert_eq!(failure.code, FailureCode::Unauthenticated);
        }
    }
}

#[tokio::test]
async fn peers_need_the_same_secret() {
    let mut second = Node::with(2, guarded());
    let mut same = Node::with(1, guarded());
    let mut none = Node::start(3);
    for node in [&same, &none] {
        node.transport.set_peer(NodeId(2), Incarnation(2), &second.address);
    }
    same.connected_to(2).await;
    let why = none
        .event(|event| match event {
            PeerEvent::RefusedBy(_, why) => Some(why.clone()),
            _ => None,
        })
        .await;
    assert!(why.contains("cluster secret"), "{why}");
    same.transport.send(NodeId(2), Bytes::from_static(b"hi")).expect("room");
    assert_eq!(second.frame().await, (NodeId(1), Bytes::from_static(b"hi")));
}

#[tokio::test]
async fn failures_cross_the_wire() {
    let node = Node::start(1);
    let mut client = KvClient::new(caller(&node, None).await);
    let status = client.put_if_version(PutIfVersionRequest::default()).await.expect_err("refused");
    assert_eq!(Failure::from_status(&status), Some(Failure::version_mismatch(3)));
}

#[tokio::test]
async fn messages_have_a_limit() {
    let limits = Limits { message_bytes_max: 1 << 20, ..Limits::default() };
    let node = Node::with(1, Setup { limits, ..Setup::default() });
    let mut client = KvClient::new(caller(&node, None).await);
    let mut set = async |bytes| {
        let value = Bytes::from(vec![0; bytes]);
        client.set(SetRequest { value, ..SetRequest::default() }).await
    };
    assert_eq!(set(1 << 19).await.expect("below").into_inner().version, 1 << 19);
    assert_eq!(set(1 << 20).await.expect_err("above").code(), Code::OutOfRange);
    assert_eq!(set(0).await.expect("again").into_inner().version, 0);
}
