use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tonic::{Request, Response, Status};

use super::etcd::proto::kv_server::{Kv, KvServer};
use super::etcd::proto::{KeyValue, PutRequest, PutResponse, RangeRequest, RangeResponse};
use super::*;
use crate::testing::RespServer;

/// A short run with few clients.
fn options(target: Target, address: String) -> KvOptions {
    let mut options = KvOptions::new(target, vec![address]);
    (options.clients, options.keys, options.ops) = (4, 100, Some(500));
    (options.seconds, options.warm_up_seconds) = (Some(20.0), 0.01);
    options
}

#[test]
fn a_run_counts_its_operations() {
    let server = RespServer::start();
    let mut options = options(Target::Redis, server.address());
    options.read_share = 0.5;
    let report = run_kv(&options).expect("it serves");
    assert_eq!((report.ops, report.errors), (500, 0));
    let (reads, writes) = (report.reads.expect("half of all"), report.writes.expect("the others"));
    assert_eq!(reads.ops + writes.ops, 500);
    assert!(reads.p50_us <= reads.p99_us && reads.p99_us <= reads.max_us);
    assert!(report.ops_per_second > 0.0 && report.seconds < 20.0);
}

#[test]
fn a_run_with_reads_fills_the_store_first() {
    let server = RespServer::start();
    let mut options = options(Target::Kontiki, server.address());
    (options.read_share, options.pipeline) = (1.0, 8);
    let report = run_kv(&options).expect("it serves");
    assert_eq!((report.writes, server.len()), (None, 100));
}

#[test]
fn the_server_is_found_and_its_cost_measured() {
    let server = RespServer::start();
    let report = run_kv(&options(Target::Redis, server.address())).expect("it serves");
    // Generator and server are the same process here.
    assert!(report.server_rss_bytes.is_some_and(|bytes| bytes > 1 << 16));
    assert!(report.server_cpu_seconds.is_some());
    assert!(report.table().contains("operations/s"));
}

#[test]
fn redirections_of_a_cluster_are_followed() {
    let (old, new) = (RespServer::start(), RespServer::start());
    old.move_to(&new);
    let report = run_kv(&options(Target::RedisCluster, old.address())).expect("it serves");
    assert_eq!((report.ops, report.errors, old.len()), (500, 0, 0));
    assert!(new.len() > 0);
}

#[test]
fn error_replies_are_counted_and_the_first_is_kept() {
    let (old, new) = (RespServer::start(), RespServer::start());
    // Two servers that point at each other: no operation ever succeeds.
    old.move_to(&new);
    new.move_to(&old);
    let mut options = options(Target::Redis, old.address());
    options.seconds = Some(0.1);
    let report = run_kv(&options).expect("it answers");
    assert_eq!(report.ops, 0);
    assert!(report.errors > 0);
    assert!(report.first_error.is_some_and(|error| error.starts_with("MOVED")));
    assert!(report.longest_gap_ms >= 100.0);
}

#[test]
fn without_a_server_there_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    for target in Target::ALL {
        let error = run_kv(&options(target, address.clone())).expect_err("nobody is there");
        assert!(error.to_string().starts_with(&format!("cannot use {address}")), "{error}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let check = |change: fn(&mut KvOptions)| {
        let mut options = options(Target::Redis, "127.0.0.1:1".to_owned());
        change(&mut options);
        assert!(matches!(run_kv(&options), Err(KvError::Options(_))), "{options:?}");
    };
    check(|options| options.addresses.clear());
    check(|options| options.clients = 0);
    check(|options| options.pipeline = 0);
    check(|options| options.keys = 0);
    check(|options| options.read_share = 1.5);
    check(|options| options.read_share = f64::NAN);
    check(|options| options.seconds = Some(-1.0));
    check(|options| options.warm_up_seconds = f64::INFINITY);
}

#[test]
fn targets_are_read_by_name() {
    for target in Target::ALL {
        assert_eq!(target.name().parse(), Ok(target));
    }
    assert!("etcd3".parse::<Target>().is_err());
}

/// As much of etcd as the generator calls.
#[derive(Clone, Default)]
struct Etcd(Arc<Mutex<HashMap<Bytes, Bytes>>>);

#[tonic::async_trait]
impl Kv for Etcd {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let RangeRequest { key, serializable } = request.into_inner();
        assert!(!serializable, "reads must be linearizable");
        let value = self.0.lock().expect("no panic holds it").get(&key).cloned();
        let kvs: Vec<KeyValue> = value.map(|value| KeyValue { key, value }).into_iter().collect();
        Ok(Response::new(RangeResponse { count: kvs.len() as i64, kvs }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let PutRequest { key, value } = request.into_inner();
        self.0.lock().expect("no panic holds it").insert(key, value);
        Ok(Response::new(PutResponse {}))
    }
}

#[test]
fn etcd_is_called_by_grpc() {
    let etcd = Etcd::default();
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = address.expect("a free port");
    let service = KvServer::new(etcd.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let server = tonic::transport::Server::builder().add_service(service);
        runtime.expect("a runtime").block_on(server.serve(address))
    });
    while std::net::TcpStream::connect(address).is_err() {
        std::thread::yield_now();
    }
    for pipeline in [1, 4] {
        let mut options = options(Target::Etcd, address.to_string());
        (options.read_share, options.pipeline, options.connections) = (0.5, pipeline, Some(2));
        let report = run_kv(&options).expect("it serves");
        assert!(report.ops >= 500 && report.errors == 0, "{report:?}");
    }
    assert_eq!(etcd.0.lock().expect("no panic holds it").len(), 100);
}
