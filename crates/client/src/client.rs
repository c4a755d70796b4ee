//! The async client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kontiki_net::proto::{
    AppendRequest, BatchRequest, DeleteRequest, GetRequest, OpenSessionRequest,
    OpenSessionResponse, PutIfVersionRequest, Session, SetRequest, StatusRequest, StatusResponse,
    TransactionRequest,
};
use kontiki_net::{FailureCode, proto};
use kontiki_types::Slot;
use tokio::task::JoinSet;
use tonic::Response;

use crate::error::{Error, Reason};
use crate::nodes::{Node, Nodes};
use crate::options::Options;
use crate::retry::{Kind, retry};
use crate::stamps::Stamps;
use crate::types::{Compare, Op, OpResult, Status, Version, Versioned};

/// A connection to a cluster. Clones are the same client; calls may run at the same time.
///
/// Needs a tokio runtime with I/O and time.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    nodes: Nodes,
    options: Options,
    stamps: Stamps,
    entry_bytes_max: AtomicU64,
}

impl Client {
    /// Connects to a cluster through any of its nodes, given by their gRPC addresses
    /// (`HOST:PORT`).
    ///
    /// # Errors
    /// None of the nodes answered within [`Options::timeout`], or the settings cannot be used.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connect<A: AsRef<str>>(
        addresses: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, Error> {
        let nodes = Nodes::new(addresses, &options)?;
        if nodes.is_empty() {
            return Err(Error::not_applied(Reason::Invalid, "no address given"));
        }
        if options.discover {
            nodes.learn(&ask_status(&nodes, &options).await?, &options);
        }
        let opened = open_session(&nodes, &options).await?;
        let retention = Duration::from_millis(opened.retention_ms);
        let stamps = Stamps::new(opened.log_time_ms, retention)
            .map_err(|error| Error::not_applied(Reason::Internal, error.to_string()))?;
        let entry_bytes_max = AtomicU64::new(opened.entry_bytes_max);
        Ok(Self(Arc::new(Inner { nodes, options, stamps, entry_bytes_max })))
    }

    /// A client for operators, of these nodes and no others: each answers for itself, also where no
    /// group has a leader. Connects with the first call.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn for_operators<A: AsRef<str>>(
        addresses: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, Error> {
        let options = Options { discover: false, ..options };
        let nodes = Nodes::new(addresses, &options)?;
        if nodes.is_empty() {
            return Err(Error::not_applied(Reason::Invalid, "no address given"));
        }
        let stamps = Stamps::unopened()
            .map_err(|error| Error::not_applied(Reason::Internal, error.to_string()))?;
        let entry_bytes_max = AtomicU64::new(u64::MAX);
        Ok(Self(Arc::new(Inner { nodes, options, stamps, entry_bytes_max })))
    }

    /// The value and version of a key, or `None` if it does not exist. Linearizable.
    ///
    /// # Errors
    /// [`Error::MayRetry`] if no node could answer in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Versioned>, Error> {
        let key = copied(key);
        let slot = Some(Slot::of(&key));
        let request = GetRequest { key };
        let attempt = |node: Node, request| async move { node.kv().get(request).await };
        let answer = self.call_at(Kind::Read, slot, request, attempt).await?;
        self.0.stamps.heard(answer.log_time_ms);
        let proto::GetResponse { found, value, version, .. } = answer;
        Ok(found.then_some(Versioned { value, version: Version(version) }))
    }

    /// Sets a key whatever it holds, and returns its new version.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// When the future is dropped the outcome is unknown: the write may have been applied, or may
    /// still be for a short while. This holds for all writes.
    pub async fn set(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Version, Error> {
        let (key, value) = (copied(key), copied(value));
        let (length, slot) = (key.len() + value.len(), Some(Slot::of(&key)));
        let request = |session| SetRequest { session: Some(session), key, value };
        let attempt = |node: Node, request| async move { node.kv().set(request).await };
        let answer = self.write(length, slot, request, attempt).await?;
        self.0.stamps.heard(answer.log_time_ms);
        Ok(Version(answer.version))
    }

    /// Sets a key if it has this version ([`Version::ABSENT`]: if it does not exist), and returns
    /// its new version. A building block for locks, elections and read-modify-write.
    ///
    /// # Errors
    /// [`Error::VersionMismatch`] if the key had another version: nothing was changed.
    ///
    /// # Cancel safety
    /// As [`Client::set`].
    pub async fn put_if_version(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        version: Version,
    ) -> Result<Version, Error> {
        let (key, value, version) = (copied(key), copied(value), version.0);
        let (length, slot) = (key.len() + value.len(), Some(Slot::of(&key)));
        let request = |session| PutIfVersionRequest { session: Some(session), key, value, version };
        let attempt = |node: Node, request| async move { node.kv().put_if_version(request).await };
        let answer = self.write(length, slot, request, attempt).await?;
        self.0.stamps.heard(answer.log_time_ms);
        Ok(Version(answer.version))
    }

    /// Appends to the value of a key, an absent one counting as empty, and returns the new length
    /// in bytes.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// As [`Client::set`].
    pub async fn append(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<u64, Error> {
        let (key, value) = (copied(key), copied(value));
        let (length, slot) = (key.len() + value.len(), Some(Slot::of(&key)));
        let request = |session| AppendRequest { session: Some(session), key, value };
        let attempt = |node: Node, request| async move { node.kv().append(request).await };
        let answer = self.write(length, slot, request, attempt).await?;
        self.0.stamps.heard(answer.log_time_ms);
        Ok(answer.length)
    }

    /// Removes a key and says whether it was there.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// As [`Client::set`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        let key = copied(key);
        let (length, slot) = (key.len(), Some(Slot::of(&key)));
        let request = |session| DeleteRequest { session: Some(session), key };
        let attempt = |node: Node, request| async move { node.kv().delete(request).await };
        let answer = self.write(length, slot, request, attempt).await?;
        self.0.stamps.heard(answer.log_time_ms);
        Ok(answer.found)
    }

    /// Many operations in one request, applied in the given order. Operations on keys of one hash
    /// slot take effect together; do not rely on more (in a sharded store other slots may take
    /// effect earlier or later, each exactly once).
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// As [`Client::set`].
    pub async fn batch(&self, ops: impl IntoIterator<Item = Op>) -> Result<Vec<OpResult>, Error> {
        let ops: Vec<Op> = ops.into_iter().collect();
        if !self.0.nodes.is_sharded() {
            return self.batch_of(ops).await;
        }
        let mut parts: BTreeMap<Slot, (Vec<usize>, Vec<Op>)> = BTreeMap::new();
        for (place, op) in ops.into_iter().enumerate() {
            let (places, part) = parts.entry(Slot::of(op.key())).or_default();
            places.push(place);
            part.push(op);
        }
        // Each slot's part is a write of its own, with its own stamp; they do not wait for each other.
        let mut calls = JoinSet::new();
        for (places, part) in parts.into_values() {
            let client = self.clone();
            calls
                .spawn(async move { client.batch_of(part).await.map(|results| (places, results)) });
        }
        let mut all = Vec::new();
        while let Some(answered) = calls.join_next().await {
            let (places, results) = answered.map_err(|error| Error::Unknown {
                reason: Reason::Internal,
                message: error.to_string(),
            })??;
            all.extend(places.into_iter().zip(results));
        }
        all.sort_by_key(|(place, _)| *place);
        Ok(all.into_iter().map(|(_, result)| result).collect())
    }

    /// A batch in one request.
    async fn batch_of(&self, ops: Vec<Op>) -> Result<Vec<OpResult>, Error> {
        let slot = ops.first().map(|op| Slot::of(op.key()));
        let (ops, length) = wire(ops);
        let sent = ops.clone();
        let request = |session| BatchRequest { session: Some(session), ops: sent };
        let attempt = |node: Node, request| async move { node.kv().batch(request).await };
        let answer = self.write(length, slot, request, attempt).await?;
        self.0.stamps.heard(answer.log_time_ms);
        results(&ops, answer.results)
    }

    /// Operations that take effect together, in the given order, if every comparison holds; `None`
    /// if one does not: nothing was changed. In a sharded store all keys must be of one hash slot
    /// (`{tag}`).
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// As [`Client::set`].
    pub async fn transaction(
        &self,
        compares: impl IntoIterator<Item = Compare>,
        ops: impl IntoIterator<Item = Op>,
    ) -> Result<Option<Vec<OpResult>>, Error> {
        let compares: Vec<_> = compares
            .into_iter()
            .map(|Compare { key, version }| proto::Compare { key, version: version.0 })
            .collect();
        let ops: Vec<Op> = ops.into_iter().collect();
        let key = ops.first().map(Op::key).or(compares.first().map(|compare| &compare.key));
        let slot = key.map(|key| Slot::of(key));
        let (ops, length) = wire(ops);
        let length = length + compares.iter().map(|compare| compare.key.len()).sum::<usize>();
        let sent = ops.clone();
        let request = |session| TransactionRequest { session: Some(session), compares, ops: sent };
        let attempt = |node: Node, request| async move { node.kv().transaction(request).await };
        let answer = self.write(length, slot, request, attempt).await?;
        self.0.stamps.heard(answer.log_time_ms);
        match answer.succeeded {
            true => results(&ops, answer.results).map(Some),
            false => Ok(None),
        }
    }

    /// What the node that is asked first says of itself and of the others.
    ///
    /// # Errors
    /// [`Error::MayRetry`] if no node could answer in time.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn status(&self) -> Result<Status, Error> {
        let attempt = |node: Node, request| async move { node.kv().status(request).await };
        let answer = self.call(Kind::Read, StatusRequest {}, attempt).await?;
        Ok(Status {
            cluster_id: answer.cluster_id,
            node: answer.node,
            version: answer.version,
            leader: (answer.leader != 0).then_some(answer.leader),
            endpoints: answer.endpoints.into_iter().map(|end| (end.node, end.grpc)).collect(),
        })
    }

    /// Whether the keys are shared by several groups, as far as is known: then operations on several
    /// hash slots cannot take effect together.
    pub fn is_sharded(&self) -> bool {
        self.0.nodes.is_sharded()
    }

    pub(crate) fn options(&self) -> Options {
        self.0.options.clone()
    }

    /// The addresses of the nodes that are known.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.0.nodes.addresses()
    }

    pub(crate) async fn call<R, T, F>(
        &self,
        kind: Kind,
        request: R,
        attempt: impl Fn(Node, R) -> F,
    ) -> Result<T, Error>
    where
        R: Clone,
        F: Future<Output = Result<Response<T>, tonic::Status>>,
    {
        self.call_at(kind, None, request, attempt).await
    }

    /// A call that is best made to the node that leads `slot`.
    async fn call_at<R, T, F>(
        &self,
        kind: Kind,
        slot: Option<Slot>,
        request: R,
        attempt: impl Fn(Node, R) -> F,
    ) -> Result<T, Error>
    where
        R: Clone,
        F: Future<Output = Result<Response<T>, tonic::Status>>,
    {
        let Inner { nodes, options, .. } = &*self.0;
        if options.discover && nodes.should_ask() {
            let client = self.clone();
            tokio::spawn(async move {
                let Inner { nodes, options, .. } = &*client.0;
                if let Ok(status) = ask_status(nodes, options).await {
                    nodes.learn(&status, options);
                }
                nodes.asked();
            });
        }
        retry(nodes, options, kind, slot, request, attempt).await
    }

    /// A write of `length` bytes to `slot`, whose request is made from its stamp.
    async fn write<R, T, F>(
        &self,
        length: usize,
        slot: Option<Slot>,
        request: impl FnOnce(Session) -> R,
        attempt: impl Fn(Node, R) -> F,
    ) -> Result<T, Error>
    where
        R: Clone,
        F: Future<Output = Result<Response<T>, tonic::Status>>,
    {
        let inner = &*self.0;
        let limit = inner.entry_bytes_max.load(Ordering::Relaxed);
        if length as u64 > limit {
            let message = format!("{length} bytes of keys and values, the limit is {limit}");
            return Err(Error::not_applied(FailureCode::TooLarge, message));
        }
        if inner.stamps.is_stale(inner.options.timeout) {
            let opened = open_session(&inner.nodes, &inner.options).await?;
            inner.stamps.retain(Duration::from_millis(opened.retention_ms));
            inner.stamps.heard(opened.log_time_ms);
            inner.entry_bytes_max.store(opened.entry_bytes_max, Ordering::Relaxed);
        }
        let stamp = inner.stamps.take();
        // The stamp is held until the answer is there.
        let answer =
            self.call_at(Kind::Stamped, slot, request(stamp.session.clone()), attempt).await;
        if let Err(Error::Unknown { reason: FailureCode::Expired, .. }) = answer {
            inner.stamps.forget();
        }
        answer
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.0.options).finish_non_exhaustive()
    }
}

async fn open_session(nodes: &Nodes, options: &Options) -> Result<OpenSessionResponse, Error> {
    let attempt = |node: Node, request| async move { node.kv().open_session(request).await };
    retry(nodes, options, Kind::Read, None, OpenSessionRequest {}, attempt).await
}

async fn ask_status(nodes: &Nodes, options: &Options) -> Result<StatusResponse, Error> {
    let attempt = |node: Node, request| async move { node.kv().status(request).await };
    retry(nodes, options, Kind::Read, None, StatusRequest {}, attempt).await
}

fn copied(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

/// The operations for the wire, and their length in bytes.
fn wire(ops: impl IntoIterator<Item = Op>) -> (Vec<proto::Op>, usize) {
    let mut length = 0;
    let ops = ops.into_iter().map(|op| {
        length += op.len();
        op.into()
    });
    (ops.collect(), length)
}

fn results(ops: &[proto::Op], results: Vec<proto::OpResult>) -> Result<Vec<OpResult>, Error> {
    if results.len() != ops.len() {
        let message = format!("{} results for {} operations", results.len(), ops.len());
        return Err(Error::Unknown { reason: FailureCode::Internal, message });
    }
    Ok(ops.iter().zip(results).map(|(op, result)| OpResult::of(op, result)).collect())
}
