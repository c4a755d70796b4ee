//! Secrets, passwords and TLS between coordinator, workers and clients.

use std::time::Duration;

use kontiki_mapreduce::access::{Secret, Security, Tls};
use kontiki_mapreduce::client::{Client, ClientError};
use kontiki_mapreduce::jobs::Jobs;
use kontiki_mapreduce::spec::Application;
use kontiki_mapreduce::worker::{Worker, WorkerConfig, WorkerError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::time::timeout;

use crate::cluster::{Farm, PATIENCE, any_port, ended, secured, worker_config};

fn shared() -> Security {
    Security {
        secret: Some(Secret::new("among us")),
        password: Some(Secret::new("users")),
        tls: None,
    }
}

fn with_password(password: &str) -> Security {
    Security { password: Some(Secret::new(password)), ..Security::default() }
}

/// Runs a worker; how it ended, if it did before long.
async fn run_for_a_while(config: WorkerConfig) -> Option<Result<(), WorkerError>> {
    let worker = Worker::open(config, Jobs::new()).unwrap();
    timeout(Duration::from_secs(3), worker.run(std::future::pending())).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_secret_is_refused_and_one_with_it_works() {
    let farm = Farm::new(Application::WordCount, 4000);
    let coordinator = secured(&farm.folder("coordinator"), any_port(), shared());
    let url = format!("http://{}", coordinator.address());
    for (name, security) in [
        ("none", Security::default()),
        ("wrong", Security { secret: Some(Secret::new("guess")), ..Security::default() }),
        // Whoever may submit jobs may not take part in them.
        ("password", Security { secret: Some(Secret::new("users")), ..Security::default() }),
    ] {
        let config = WorkerConfig { security, ..worker_config(&farm.folder(name), &url) };
        let ended = run_for_a_while(config).await;
        let Some(Err(WorkerError::Refused(why))) = ended else { panic!("{name}: {ended:?}") };
        assert!(why.contains("credentials"), "{why}");
    }
    for security in [Security::default(), with_password("guess")] {
        let refused = Client::with(&url, &security).unwrap().status().await;
        assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
    }
    let client = Client::with(&url, &with_password("users")).unwrap();
    let job = farm.submit(&client).await;
    let refused = client.map_outputs(job).await.map(drop);
    assert!(matches!(refused, Err(ClientError::Refused(_))), "{refused:?}");
    let worker = |name| {
        let config = WorkerConfig { security: shared(), ..worker_config(&farm.folder(name), &url) };
        tokio::spawn(Worker::open(config, Jobs::new()).unwrap().run(std::future::pending()))
    };
    // Two, which get map outputs from each other.
    let _workers = [worker("w1"), worker("w2")];
    assert_eq!(ended(&client, job).await.state, 1);
    farm.check_output();
}

/// An authority and its signature on certificates for loopback.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn tls(&self) -> Tls {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Tls {
            identity: Some((certificate.into_bytes(), key.serialize_pem().into_bytes())),
            authority: Some(self.0.pem().into_bytes()),
            server_name: None,
            peer_certificates: true,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_a_worker_needs_a_certificate_of_the_authority() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let farm = Farm::new(Application::Indexer, 4000);
    let of = |authority: &Authority| Security { tls: Some(authority.tls()), ..Security::default() };
    let coordinator = secured(&farm.folder("coordinator"), any_port(), of(&ours));
    let url = format!("https://{}", coordinator.address());
    let trusting = Tls { identity: None, ..ours.tls() };
    let client = Security { tls: Some(trusting.clone()), ..Security::default() };
    let client = Client::with(&url, &client).unwrap();
    let job = farm.submit(&client).await;
    // Trusts the coordinator, and shows a certificate that the coordinator does not trust.
    let stranger = Tls { authority: ours.tls().authority, ..theirs.tls() };
    let plain = format!("http://{}", coordinator.address());
    for (name, url, tls) in [("stranger", &url, Some(stranger)), ("plain", &plain, None)] {
        let security = Security { tls, ..Security::default() };
        let config = WorkerConfig { security, ..worker_config(&farm.folder(name), url) };
        let ended = run_for_a_while(config).await;
        assert!(!matches!(ended, Some(Ok(()))), "{name}");
        let status = client.status().await.unwrap();
        assert!(status.contains("\"workers\":[]"), "{name}: {status}");
    }
    let without = Security { tls: Some(trusting), ..Security::default() };
    let config = WorkerConfig { security: without, ..worker_config(&farm.folder("none"), &url) };
    assert!(matches!(Worker::open(config, Jobs::new()), Err(WorkerError::Setting(_))));
    let worker = |name| {
        let config =
            WorkerConfig { security: of(&ours), ..worker_config(&farm.folder(name), &url) };
        tokio::spawn(Worker::open(config, Jobs::new()).unwrap().run(std::future::pending()))
    };
    let _workers = [worker("w1"), worker("w2")];
    let status = timeout(PATIENCE, ended(&client, job)).await.unwrap();
    assert_eq!((status.state, status.error.as_str()), (1, ""));
    farm.check_output();
}
