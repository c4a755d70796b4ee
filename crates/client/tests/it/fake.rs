//! Nodes of a store in memory, which keeps completion records as the real one does and
//! misbehaves on order.

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kontiki_net::proto::admin_server::Admin;
use kontiki_net::proto::kv_server::Kv;
use kontiki_net::proto::op::Op as Wire;
use kontiki_net::proto::*;
use kontiki_net::{
    ClusterId, Failure, FailureCode, Limits, Local, PeerConfig, PeerTransport, Secret, Security,
    serve,
};
use kontiki_types::{Incarnation, NodeId};
use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

/// What a node does with the next call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trick {
    /// Answers that there is no leader, without effect.
    NoLeader,
    /// Applies the call and answers with a broken connection.
    LoseAnswer,
    /// Applies the call and says that it does not know.
    Unsure,
    /// Does nothing and does not answer.
    Hang,
    /// Refuses as a node with other settings would.
    Refuse,
}

#[derive(Default)]
pub struct Store {
    keys: BTreeMap<Bytes, (Bytes, u64)>,
    version: u64,
    pub log_time_ms: u64,
    pub retention_ms: u64,
    records: BTreeMap<(Bytes, u64), Result<Answer, Failure>>,
    low: BTreeMap<Bytes, u64>,
    /// Every stamp that arrived, in order.
    pub stamps: Vec<Session>,
    /// The node of every call that changes or reads a key, in order.
    pub asked: Vec<u64>,
    /// What nodes say of where slots are led.
    pub routes: Vec<Route>,
    /// What nodes say of whether the store is sharded.
    pub sharded: bool,
    /// What each node does with its next calls.
    tricks: BTreeMap<u64, VecDeque<Trick>>,
}

#[derive(Clone)]
struct Answer {
    succeeded: bool,
    results: Vec<OpResult>,
}

/// A cluster of such nodes; all see the same store.
pub struct Cluster {
    pub addresses: Vec<String>,
    store: Arc<Mutex<Store>>,
}

impl Cluster {
    pub fn start(nodes: u64) -> Self {
        Self::with(nodes, Security::default())
    }

    pub fn with_password(nodes: u64, password: &str) -> Self {
        let password = Some(Secret::new(password));
        Self::with(nodes, Security { password, ..Security::default() })
    }

    fn with(nodes: u64, security: Security) -> Self {
        let store = Store { log_time_ms: 1_000_000, retention_ms: 600_000, ..Store::default() };
        let store = Arc::new(Mutex::new(store));
        let listeners: Vec<_> =
            (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let addresses: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().expect("bound").to_string())
            .collect();
        for (id, listener) in (1..).zip(listeners) {
            let node =
                FakeNode { id, store: Arc::clone(&store), addresses: Arc::new(addresses.clone()) };
            let security = security.clone();
            tokio::spawn(async move { node.serve(listener, security).await });
        }
        Self { addresses, store }
    }

    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next calls of `node` that change or read a key go wrong in these ways.
    pub fn plan(&self, node: u64, tricks: &[Trick]) {
        self.store().tricks.entry(node).or_default().extend(tricks);
    }
}

#[derive(Clone)]
struct FakeNode {
    id: u64,
    store: Arc<Mutex<Store>>,
    addresses: Arc<Vec<String>>,
}

impl FakeNode {
    async fn serve(self, listener: TcpListener, security: Security) {
        let local = Local {
            cluster: ClusterId(1),
            node: NodeId(self.id),
            incarnation: Incarnation(self.id),
        };
        let (config, runtime) = (PeerConfig::default(), Handle::current());
        let peers = PeerTransport::new(local, &security, config, runtime, |_, _| (), |_| ())
            .expect("usable settings");
        let admin = self.clone();
        let forever = std::future::pending();
        serve(listener, self, admin, &peers, &security, &Limits::default(), forever)
            .await
            .expect("serves");
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call as the node's next trick wants it.
    async fn run<T>(
        &self,
        call: impl FnOnce(&mut Store) -> Result<T, Failure>,
    ) -> Result<Response<T>, Status> {
        self.store().asked.push(self.id);
        let trick = self.store().tricks.get_mut(&self.id).and_then(VecDeque::pop_front);
        match trick {
            Some(Trick::NoLeader) => {
                return Err(Failure::may_retry(FailureCode::NoLeader, "no leader").into());
            }
            Some(Trick::Refuse) => {
                return Err(Failure::not_applied(FailureCode::Unauthenticated, "who?").into());
            }
            Some(Trick::Hang) => tokio::time::sleep(Duration::from_secs(3600)).await,
            _ => {}
        }
        let answer = call(&mut self.store());
        match trick {
            Some(Trick::LoseAnswer) => Err(Status::unavailable("connection reset")),
            Some(Trick::Unsure) => {
                Err(Failure::unknown(FailureCode::Timeout, "not committed in time").into())
            }
            _ => answer.map(Response::new).map_err(Status::from),
        }
    }

    async fn apply(
        &self,
        session: Option<Session>,
        compares: Vec<Compare>,
        ops: Vec<Op>,
    ) -> Result<(Answer, u64), Status> {
        let apply = |store: &mut Store| {
            let session = session.ok_or_else(|| {
                Failure::not_applied(FailureCode::Invalid, "a write without a stamp")
            })?;
            Ok((store.apply(session, &compares, ops)?, store.log_time_ms))
        };
        self.run(apply).await.map(Response::into_inner)
    }
}

impl Store {
    /// PROTOCOL 1: the record, then low mark and deadline, then the command.
    fn apply(
        &mut self,
        session: Session,
        compares: &[Compare],
        ops: Vec<Op>,
    ) -> Result<Answer, Failure> {
        self.stamps.push(session.clone());
        let Session { client_id, seq, low, deadline_ms } = session;
        if let Some(record) = self.records.get(&(client_id.clone(), seq)) {
            return record.clone();
        }
        let lowest = self.low.entry(client_id.clone()).or_default();
        if seq < *lowest || self.log_time_ms > deadline_ms {
            return Err(Failure::unknown(FailureCode::Expired, "the record is gone"));
        }
        *lowest = low.max(*lowest);
        let lowest = *lowest;
        self.records.retain(|(client, seq), _| *client != client_id || *seq >= lowest);
        let answer = self.execute(compares, ops);
        self.records.insert((client_id, seq), answer.clone());
        answer
    }

    fn execute(&mut self, compares: &[Compare], ops: Vec<Op>) -> Result<Answer, Failure> {
        let holds =
            |compare: &Compare| self.keys.get(&compare.key).map_or(0, |k| k.1) == compare.version;
        if !compares.iter().all(holds) {
            return Ok(Answer { succeeded: false, results: vec![] });
        }
        let results = ops.into_iter().filter_map(|op| op.op).map(|op| self.one(op)).collect();
        Ok(Answer { succeeded: true, results })
    }

    fn one(&mut self, op: Wire) -> OpResult {
        self.version += 1;
        let version = self.version;
        match op {
            Wire::Get(GetOp { key }) => match self.keys.get(&key) {
                Some((value, version)) => {
                    OpResult { found: true, value: value.clone(), version: *version, length: 0 }
                }
                None => OpResult::default(),
            },
            Wire::Set(SetOp { key, value, .. }) => {
                self.keys.insert(key, (value, version));
                OpResult { found: true, version, ..OpResult::default() }
            }
            Wire::Append(AppendOp { key, value }) => {
                let old = self.keys.get(&key).map(|k| k.0.clone()).unwrap_or_default();
                let mut new = BytesMut::from(&old[..]);
                new.extend_from_slice(&value);
                let length = new.len() as u64;
                self.keys.insert(key, (new.freeze(), version));
                OpResult { found: true, version, length, ..OpResult::default() }
            }
            Wire::Delete(DeleteOp { key }) => {
                OpResult { found: self.keys.remove(&key).is_some(), ..OpResult::default() }
            }
        }
    }

    pub fn clear_tricks(&mut self, node: u64) {
        self.tricks.remove(&node);
    }

    pub fn value(&self, key: &str) -> Option<Bytes> {
        self.keys.get(key.as_bytes()).map(|key| key.0.clone())
    }
}

type Reply<T> = Result<Response<T>, Status>;

fn op(op: Wire) -> Vec<Op> {
    vec![Op { op: Some(op) }]
}

#[tonic::async_trait]
impl Kv for FakeNode {
    async fn open_session(&self, _: Request<OpenSessionRequest>) -> Reply<OpenSessionResponse> {
        let Store { log_time_ms, retention_ms, .. } = *self.store();
        let entry_bytes_max = 8 << 20;
        Ok(Response::new(OpenSessionResponse { log_time_ms, retention_ms, entry_bytes_max }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Reply<GetResponse> {
        let key = request.into_inner().key;
        self.run(|store| {
            let OpResult { found, value, version, .. } = store.one(Wire::Get(GetOp { key }));
            Ok(GetResponse { found, value, version, log_time_ms: store.log_time_ms })
        })
        .await
    }

    async fn set(&self, request: Request<SetRequest>) -> Reply<SetResponse> {
        let SetRequest { session, key, value } = request.into_inner();
        let (answer, log_time_ms) = self
            .apply(session, vec![], op(Wire::Set(SetOp { key, value, ..SetOp::default() })))
            .await?;
        Ok(Response::new(SetResponse { version: answer.results[0].version, log_time_ms }))
    }

    async fn put_if_version(&self, request: Request<PutIfVersionRequest>) -> Reply<SetResponse> {
        let PutIfVersionRequest { session, key, value, version } = request.into_inner();
        let compares = vec![Compare { key: key.clone(), version }];
        let ops = op(Wire::Set(SetOp { key: key.clone(), value, ..SetOp::default() }));
        let (answer, log_time_ms) = self.apply(session, compares, ops).await?;
        if !answer.succeeded {
            let version = self.store().keys.get(&key).map_or(0, |key| key.1);
            return Err(Failure::version_mismatch(version).into());
        }
        Ok(Response::new(SetResponse { version: answer.results[0].version, log_time_ms }))
    }

    async fn append(&self, request: Request<AppendRequest>) -> Reply<AppendResponse> {
        let AppendRequest { session, key, value } = request.into_inner();
        let (answer, log_time_ms) =
            self.apply(session, vec![], op(Wire::Append(AppendOp { key, value }))).await?;
        let OpResult { length, version, .. } = answer.results[0];
        Ok(Response::new(AppendResponse { length, version, log_time_ms }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Reply<DeleteResponse> {
        let DeleteRequest { session, key } = request.into_inner();
        let (answer, log_time_ms) =
            self.apply(session, vec![], op(Wire::Delete(DeleteOp { key }))).await?;
        Ok(Response::new(DeleteResponse { found: answer.results[0].found, log_time_ms }))
    }

    async fn batch(&self, request: Request<BatchRequest>) -> Reply<BatchResponse> {
        let BatchRequest { session, ops } = request.into_inner();
        let (answer, log_time_ms) = self.apply(session, vec![], ops).await?;
        Ok(Response::new(BatchResponse { results: answer.results, log_time_ms }))
    }

    async fn transaction(
        &self,
        request: Request<TransactionRequest>,
    ) -> Reply<TransactionResponse> {
        let TransactionRequest { session, compares, ops } = request.into_inner();
        let (answer, log_time_ms) = self.apply(session, compares, ops).await?;
        let Answer { succeeded, results } = answer;
        Ok(Response::new(TransactionResponse { succeeded, results, log_time_ms }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Reply<StatusResponse> {
        let endpoints = (1..).zip(self.addresses.iter());
        let store = self.store();
        Ok(Response::new(StatusResponse {
            cluster_id: 1,
            node: self.id,
            version: "fake".to_owned(),
            leader: 1,
            log_time_ms: store.log_time_ms,
            endpoints: endpoints
                .map(|(node, grpc)| Endpoint { node, grpc: grpc.clone() })
                .collect(),
            routes: store.routes.clone(),
            sharded: store.sharded,
        }))
    }

    async fn open_view(&self, _: Request<OpenViewRequest>) -> Reply<OpenViewResponse> {
        Err(no_views())
    }

    async fn read_view(&self, _: Request<ReadViewRequest>) -> Reply<ReadViewResponse> {
        Err(no_views())
    }

    async fn cut_view(&self, _: Request<CutViewRequest>) -> Reply<CutViewResponse> {
        Err(no_views())
    }

    async fn keep_view(&self, _: Request<KeepViewRequest>) -> Reply<KeepViewResponse> {
        Err(no_views())
    }

    async fn close_view(&self, _: Request<CloseViewRequest>) -> Reply<CloseViewResponse> {
        Err(no_views())
    }
}

fn no_views() -> Status {
    Failure::not_applied(FailureCode::NotFound, "there are no views here").into()
}

#[tonic::async_trait]
impl Admin for FakeNode {
    async fn cluster_status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Reply<ClusterStatusResponse> {
        let nodes = vec![NodeStatus { id: self.id, alive: true, ..NodeStatus::default() }];
        Ok(Response::new(ClusterStatusResponse { nodes, ..ClusterStatusResponse::default() }))
    }

    async fn transfer(&self, request: Request<TransferRequest>) -> Reply<TransferResponse> {
        let leader = request.into_inner().to;
        self.run(|_| Ok(TransferResponse { leader, term: 2 })).await
    }

    async fn add_replica(&self, request: Request<AddReplicaRequest>) -> Reply<ChangeResponse> {
        let node = request.into_inner().node;
        self.run(|_| Ok(ChangeResponse { voters: vec![node], learners: vec![] })).await
    }

    async fn remove_replica(&self, _: Request<RemoveReplicaRequest>) -> Reply<ChangeResponse> {
        self.run(|_| Ok(ChangeResponse::default())).await
    }

    async fn slots(&self, request: Request<SlotsRequest>) -> Reply<SlotsResponse> {
        let epoch = request.into_inner().epoch.unwrap_or(7);
        self.run(|_| Ok(SlotsResponse { epoch, current_epoch: 7, ..SlotsResponse::default() }))
            .await
    }

    async fn reshape(&self, _: Request<ReshapeRequest>) -> Reply<ReshapeResponse> {
        self.run(|_| Ok(ReshapeResponse { epoch: 8, ..ReshapeResponse::default() })).await
    }

    async fn read_state(&self, _: Request<ReadStateRequest>) -> Reply<ReadStateResponse> {
        self.run(|_| Ok(ReadStateResponse::default())).await
    }

    async fn hello(&self, _: Request<HelloRequest>) -> Reply<HelloResponse> {
        Ok(Response::new(HelloResponse::default()))
    }
}
