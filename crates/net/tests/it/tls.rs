use bytes::Bytes;
use kontiki_net::proto::GetRequest;
use kontiki_net::proto::HelloRequest;
use kontiki_net::proto::admin_client::AdminClient;
use kontiki_net::proto::kv_client::KvClient;
use kontiki_net::{Authenticated, ConnectError, PeerEvent, Security, Tls, connect};
use kontiki_types::{Incarnation, NodeId};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::Code;

use crate::cluster::{Node, PATIENCE, Setup};

/// An authority and its signature on certificates for loopback.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        Self(CertifiedIssuer::self_signed(params, key).expect("valid"))
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn sign(&self) -> (Vec<u8>, Vec<u8>) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("valid names");
        let key = KeyPair::generate().expect("random numbers");
        let certificate = params.signed_by(&key, &self.0).expect("valid");
        (certificate.pem().into_bytes(), key.serialize_pem().into_bytes())
    }

    fn node(&self, peer_certificates: bool) -> Setup {
        let tls = Tls {
            identity: Some(self.sign()),
            authority: Some(self.pem()),
            server_name: None,
            peer_certificates,
        };
        Setup { security: Security { tls: Some(tls), ..Security::default() }, ..Setup::default() }
    }
}

async fn dial(node: &Node, tls: &Tls) -> Result<Authenticated, ConnectError> {
    connect(&node.address, None, Some(tls), PATIENCE).await
}

#[tokio::test]
async fn clients_and_peers_speak_tls() {
    let authority = Authority::new();
    let mut first = Node::with(1, authority.node(true));
    let mut second = Node::with(2, authority.node(true));
    first.transport.set_peer(NodeId(2), Incarnation(2), &second.address);
    first.connected_to(2).await;
    first.transport.send(NodeId(2), Bytes::from_static(b"hi")).expect("room");
    assert_eq!(second.frame().await, (NodeId(1), Bytes::from_static(b"hi")));

    // A native client needs no certificate of its own for data.
    let tls = Tls { authority: Some(authority.pem()), ..Tls::default() };
    let channel = dial(&first, &tls).await.expect("trusted");
    let get = KvClient::new(channel.clone()).get(GetRequest { key: "k".into() }).await;
    assert_eq!(get.expect("served").into_inner().value, "v");
    // What nodes say to each other does need one.
    let refused = AdminClient::new(channel).hello(HelloRequest::default()).await;
    assert_eq!(refused.expect_err("no certificate").code(), Code::Unauthenticated);
    let tls = Tls { identity: Some(authority.sign()), ..tls };
    let channel = dial(&first, &tls).await.expect("trusted");
    AdminClient::new(channel).hello(HelloRequest::default()).await.expect("a certificate");
}

#[tokio::test]
async fn a_peer_without_certificate_is_refused() {
    let authority = Authority::new();
    let second = Node::with(2, authority.node(true));
    let mut setup = authority.node(false);
    if let Some(tls) = &mut setup.security.tls {
        // Good enough to serve, of another authority.
        tls.identity = Some(Authority::new().sign());
    }
    let mut stranger = Node::with(1, setup);
    stranger.transport.set_peer(NodeId(2), Incarnation(2), &second.address);
    let event = stranger
        .event(|event| match event {
            PeerEvent::RefusedBy(..) | PeerEvent::Disconnected(..) => Some(true),
            PeerEvent::Connected(..) => Some(false),
            _ => None,
        })
        .await;
    assert!(event, "must not be let in");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let node = Node::with(1, Authority::new().node(false));
    let tls = Tls { authority: Some(Authority::new().pem()), ..Tls::default() };
    let Err(error) = dial(&node, &tls).await else { panic!("trusted a stranger") };
    assert!(error.to_string().contains("certificate"), "{error}");
    // Nor does plain text get through.
    let channel = connect(&node.address, None, None, PATIENCE).await;
    if let Ok(channel) = channel {
        let get = KvClient::new(channel).get(GetRequest { key: "k".into() }).await;
        get.expect_err("no plain text");
    }
}
