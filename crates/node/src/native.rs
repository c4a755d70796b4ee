//! The native API: gRPC calls to requests of the core, and answers to responses.

use std::sync::Arc;

use bytes::Bytes;
use kontiki_kv::command::{Condition, Deadline, Expiry, Parsed, Read, Write};
use kontiki_kv::{Proposal, Reply, WriteRequest};
use kontiki_net::proto::{self, kv_server::Kv, op};
use kontiki_net::{Failure as NetFailure, FailureCode};
use kontiki_replica::{
    Answer, Ask, Atlas, Caller, FIRST_GROUP, Failure, Host, RETENTION_MILLIS, SessionWrite, Target,
};
use kontiki_types::{ClientId, GroupId, LogTime, Seq, Slot};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::event_loop::Input;
use crate::shared::Shared;

/// A command of a sharded store must keep to one slot, since slots are with different groups.
const CROSS_SLOT: &str = "CROSSSLOT the keys are in different slots, which need not be with one \
                          group; keys with the same {tag} are in one slot";

/// The service.
pub(crate) struct Native(pub(crate) Arc<Shared>);

type Answered<T> = Result<Response<T>, Status>;

impl Native {
    async fn ask(&self, to: Target, ask: Ask) -> Result<Reply, Status> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.0.registry.call(sender);
        let caller = Caller { connection: 0, ticket };
        self.0.events.send(Input::Ask { to, caller, ask });
        let log_time = self.0.log_time().0;
        match receiver.await {
            Ok(Answer::Reply(Reply::Error(line))) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                Err(NetFailure::not_applied(FailureCode::Invalid, line).at(log_time).into())
            }
            Ok(Answer::Reply(reply)) => Ok(reply),
            Ok(Answer::Failed(failure)) => Err(told(failure).at(log_time).into()),
            Err(_) => {
                let message = "the node is shutting down";
                Err(NetFailure::unknown(FailureCode::ShuttingDown, message).into())
            }
        }
    }

    async fn read(&self, read: Read) -> Result<Reply, Status> {
        let mut keys = 0;
        read.each_key(&mut |_| keys += 1);
        let to = self.target(read.slot(), keys)?;
        self.ask(to, Ask::Read(read)).await
    }

    /// Once it is answered, everything acknowledged before the call has been applied at whoever
    /// answers: the replica of the group here, if there is one.
    pub(crate) async fn catch_up(&self, group: GroupId) -> Result<(), Status> {
        self.ask(Target::Group(group), Ask::Read(Read::Exists { keys: Vec::new() })).await?;
        Ok(())
    }

    /// Where a command goes that is about keys of this slot; if there is none, about so many keys.
    fn target(&self, slot: Option<Slot>, keys: usize) -> Result<Target, Status> {
        if !self.0.atlas().is_sharded() {
            return Ok(Target::Group(FIRST_GROUP));
        }
        match slot {
            Some(slot) => Ok(Target::Slot(slot)),
            None if keys == 0 => Ok(Target::Slot(Slot::default())),
            None => Err(invalid(CROSS_SLOT)),
        }
    }

    async fn write(&self, session: Option<proto::Session>, write: Write) -> Result<Reply, Status> {
        let session = session.ok_or_else(|| invalid("the session stamp is missing"))?;
        let id: [u8; ClientId::BYTES] = session
            .client_id
            .as_ref()
            .try_into()
            .map_err(|_| invalid("client_id must have 20 bytes"))?;
        if session.seq == 0 || session.low > session.seq {
            return Err(invalid("seq must be at least 1 and low at most seq"));
        }
        let mut command = Vec::new();
        write.encode(&mut command);
        let max = self.0.settings.entry_bytes_max();
        if command.len() > max {
            let message = format!("the write has {} bytes, entries at most {max}", command.len());
            return Err(NetFailure::not_applied(FailureCode::TooLarge, message).into());
        }
        let mut keys = 0;
        write.each_key(&mut |_| keys += 1);
        let to = self.target(write.slot(), keys)?;
        let (client, seq) = (ClientId::from_bytes(&id), Seq(session.seq));
        let request = WriteRequest {
            client,
            seq,
            low: Seq(session.low),
            deadline: LogTime(session.deadline_ms),
            after: None,
            slot: write.slot().unwrap_or_default(),
            command: command.into(),
        };
        let proposal = Proposal::write(LogTime(0), request).to_bytes();
        self.ask(to, Ask::Write(SessionWrite { client, seq, proposal })).await
    }

    fn now(&self) -> u64 {
        self.0.log_time().0
    }
}

#[tonic::async_trait]
impl Kv for Native {
    async fn open_session(
        &self,
        _request: Request<proto::OpenSessionRequest>,
    ) -> Answered<proto::OpenSessionResponse> {
        // A linearizable read first: a node that lags would hand out a log time long past.
        self.read(Read::Exists { keys: Vec::new() }).await?;
        Ok(Response::new(proto::OpenSessionResponse {
            log_time_ms: self.now(),
            retention_ms: RETENTION_MILLIS,
            entry_bytes_max: self.0.settings.entry_bytes_max() as u64,
        }))
    }

    async fn get(&self, request: Request<proto::GetRequest>) -> Answered<proto::GetResponse> {
        let reply = self.read(Read::GetWithVersion { key: request.into_inner().key }).await?;
        let (value, version) = versioned(reply);
        Ok(Response::new(proto::GetResponse {
            found: value.is_some(),
            value: value.unwrap_or_default(),
            version,
            log_time_ms: self.now(),
        }))
    }

    async fn set(&self, request: Request<proto::SetRequest>) -> Answered<proto::SetResponse> {
        let proto::SetRequest { session, key, value } = request.into_inner();
        let commands = vec![Parsed::Write(set(key.clone(), value, 0)), version_of(key)];
        let mut replies =
            self.transaction(session, Vec::new(), commands).await?.unwrap_or_default();
        let (_, version) = versioned(replies.pop().unwrap_or(Reply::Nil));
        Ok(Response::new(proto::SetResponse { version, log_time_ms: self.now() }))
    }

    async fn put_if_version(
        &self,
        request: Request<proto::PutIfVersionRequest>,
    ) -> Answered<proto::SetResponse> {
        let proto::PutIfVersionRequest { session, key, value, version } = request.into_inner();
        let reply = self.write(session, Write::PutIfVersion { key, value, version }).await?;
        let Reply::Array(parts) = reply else { return Err(unexpected()) };
        let [Reply::Integer(put), Reply::Integer(version)] = parts[..] else {
            return Err(unexpected());
        };
        let version = version.cast_unsigned();
        if put == 1 {
            Ok(Response::new(proto::SetResponse { version, log_time_ms: self.now() }))
        } else {
            Err(NetFailure::version_mismatch(version).at(self.now()).into())
        }
    }

    async fn append(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Answered<proto::AppendResponse> {
        let proto::AppendRequest { session, key, value } = request.into_inner();
        let append = Write::Append { key: key.clone(), value };
        let commands = vec![Parsed::Write(append), version_of(key)];
        let replies = self.transaction(session, Vec::new(), commands).await?.unwrap_or_default();
        let [length, version] = &replies[..] else { return Err(unexpected()) };
        let length = match length {
            Reply::Integer(length) => length.cast_unsigned(),
            Reply::Error(line) => return Err(invalid(&String::from_utf8_lossy(line))),
            _ => return Err(unexpected()),
        };
        let (_, version) = versioned(version.clone());
        Ok(Response::new(proto::AppendResponse { length, version, log_time_ms: self.now() }))
    }

    async fn delete(
        &self,
        request: Request<proto::DeleteRequest>,
    ) -> Answered<proto::DeleteResponse> {
        let proto::DeleteRequest { session, key } = request.into_inner();
        let reply = self.write(session, Write::Del { keys: vec![key] }).await?;
        let found = reply == Reply::Integer(1);
        Ok(Response::new(proto::DeleteResponse { found, log_time_ms: self.now() }))
    }

    async fn batch(&self, request: Request<proto::BatchRequest>) -> Answered<proto::BatchResponse> {
        let proto::BatchRequest { session, ops } = request.into_inner();
        let results = self.operations(session, Vec::new(), ops).await?.unwrap_or_default();
        Ok(Response::new(proto::BatchResponse { results, log_time_ms: self.now() }))
    }

    async fn transaction(
        &self,
        request: Request<proto::TransactionRequest>,
    ) -> Answered<proto::TransactionResponse> {
        let proto::TransactionRequest { session, compares, ops } = request.into_inner();
        let compare = compares.into_iter().map(|compare| (compare.key, compare.version)).collect();
        let results = self.operations(session, compare, ops).await?;
        Ok(Response::new(proto::TransactionResponse {
            succeeded: results.is_some(),
            results: results.unwrap_or_default(),
            log_time_ms: self.now(),
        }))
    }

    async fn status(
        &self,
        _request: Request<proto::StatusRequest>,
    ) -> Answered<proto::StatusResponse> {
        let (sender, receiver) = oneshot::channel();
        self.0.events.send(Input::Status(sender));
        let report = receiver.await.map_err(|_| Status::unavailable("the node is stopping"))?;
        let endpoints = report
            .nodes
            .into_iter()
            .map(|(info, _)| proto::Endpoint { node: info.id.0, grpc: info.grpc });
        let atlas = self.0.atlas();
        let leader = self.0.view.leader.load(std::sync::atomic::Ordering::Relaxed);
        Ok(Response::new(proto::StatusResponse {
            cluster_id: self.0.cluster,
            node: self.0.id.0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leader,
            log_time_ms: self.now(),
            endpoints: endpoints.collect(),
            routes: routes(&atlas),
            sharded: atlas.is_sharded(),
        }))
    }

    async fn open_view(
        &self,
        request: Request<proto::OpenViewRequest>,
    ) -> Answered<proto::OpenViewResponse> {
        self.view_of(request.into_inner()).await.map(Response::new)
    }

    async fn read_view(
        &self,
        request: Request<proto::ReadViewRequest>,
    ) -> Answered<proto::ReadViewResponse> {
        self.page_of(request.into_inner()).await.map(Response::new)
    }

    async fn cut_view(
        &self,
        request: Request<proto::CutViewRequest>,
    ) -> Answered<proto::CutViewResponse> {
        self.cuts_of(request.into_inner()).await.map(Response::new)
    }

    async fn keep_view(
        &self,
        request: Request<proto::KeepViewRequest>,
    ) -> Answered<proto::KeepViewResponse> {
        self.view(request.into_inner().view)?;
        Ok(Response::new(proto::KeepViewResponse {}))
    }

    async fn close_view(
        &self,
        request: Request<proto::CloseViewRequest>,
    ) -> Answered<proto::CloseViewResponse> {
        self.0.views.close(request.into_inner().view);
        Ok(Response::new(proto::CloseViewResponse {}))
    }
}

impl Native {
    /// Runs commands as one; `None` if a comparison did not hold.
    async fn transaction(
        &self,
        session: Option<proto::Session>,
        compare: Vec<(Bytes, u64)>,
        commands: Vec<Parsed>,
    ) -> Result<Option<Vec<Reply>>, Status> {
        match self.write(session, Write::Transaction { compare, commands }).await? {
            Reply::Array(replies) => Ok(Some(replies)),
            Reply::NilArray => Ok(None),
            _ => Err(unexpected()),
        }
    }

    async fn operations(
        &self,
        session: Option<proto::Session>,
        compare: Vec<(Bytes, u64)>,
        ops: Vec<proto::Op>,
    ) -> Result<Option<Vec<proto::OpResult>>, Status> {
        let ops: Vec<op::Op> = ops
            .into_iter()
            .map(|op| op.op.ok_or_else(|| invalid("an operation is empty")))
            .collect::<Result<_, _>>()?;
        // Every operation is followed by a look at what version it left.
        let commands = ops.iter().flat_map(|op| match op {
            op::Op::Get(get) => vec![version_of(get.key.clone())],
            op::Op::Set(it) => {
                vec![
                    Parsed::Write(set(it.key.clone(), it.value.clone(), it.expires_at_ms)),
                    version_of(it.key.clone()),
                ]
            }
            op::Op::Append(it) => vec![
                Parsed::Write(Write::Append { key: it.key.clone(), value: it.value.clone() }),
                version_of(it.key.clone()),
            ],
            op::Op::Delete(it) => vec![Parsed::Write(Write::Del { keys: vec![it.key.clone()] })],
        });
        let Some(replies) = self.transaction(session, compare, commands.collect()).await? else {
            return Ok(None);
        };
        let mut replies = replies.into_iter();
        let mut next = || replies.next().unwrap_or(Reply::Nil);
        let results = ops.iter().map(|op| match op {
            op::Op::Get(_) => {
                let (value, version) = versioned(next());
                let found = value.is_some();
                proto::OpResult { found, value: value.unwrap_or_default(), version, length: 0 }
            }
            op::Op::Set(_) => {
                next();
                let (_, version) = versioned(next());
                proto::OpResult { found: true, version, ..proto::OpResult::default() }
            }
            op::Op::Append(_) => {
                let length = match next() {
                    Reply::Integer(length) => length.cast_unsigned(),
                    _ => 0,
                };
                let (_, version) = versioned(next());
                proto::OpResult { found: true, version, length, ..proto::OpResult::default() }
            }
            op::Op::Delete(_) => {
                let found = next() == Reply::Integer(1);
                proto::OpResult { found, ..proto::OpResult::default() }
            }
        });
        Ok(Some(results.collect()))
    }
}

/// Runs of slots that are led by one node.
fn routes(atlas: &Atlas) -> Vec<proto::Route> {
    let runs: Vec<_> = match &atlas.configuration {
        Some(known) => known.runs().collect(),
        None => vec![(Slot::default(), Slot::LAST, Some(FIRST_GROUP))],
    };
    let mut routes: Vec<proto::Route> = Vec::new();
    for (first, last, owner) in runs {
        let Some(node) = owner.and_then(|owner| atlas.leader(owner)) else { continue };
        let (first_slot, last_slot) = (first.get().into(), last.get().into());
        match routes.last_mut() {
            Some(run) if run.node == node.0 && run.last_slot + 1 == first_slot => {
                run.last_slot = last_slot;
            }
            _ => routes.push(proto::Route { first_slot, last_slot, node: node.0 }),
        }
    }
    routes
}

/// Sets a key that is gone from `expires_at_ms` of log time on; at 0, it stays.
fn set(key: Bytes, value: Bytes, expires_at_ms: u64) -> Write {
    let expiry = match expires_at_ms {
        0 => Expiry::Clear,
        at => Expiry::Until(Deadline::At(i64::try_from(at).unwrap_or(i64::MAX))),
    };
    Write::Set { key, value, condition: Condition::Always, get: false, expiry }
}

fn version_of(key: Bytes) -> Parsed {
    Parsed::Read(Read::GetWithVersion { key })
}

fn versioned(reply: Reply) -> (Option<Bytes>, u64) {
    let Reply::Array(parts) = reply else { return (None, 0) };
    match &parts[..] {
        [Reply::Bulk(value), Reply::Integer(version)] => {
            (Some(value.clone()), version.cast_unsigned())
        }
        [_, Reply::Integer(version)] => (None, version.cast_unsigned()),
        _ => (None, 0),
    }
}

pub(crate) fn told(failure: Failure) -> NetFailure {
    let line = failure.line();
    // The code at the line's front is for Redis clients.
    let message = line.split_once(' ').map_or(line, |(_, text)| text);
    match failure {
        Failure::Unavailable => NetFailure::may_retry(FailureCode::NoLeader, message),
        Failure::Overloaded => NetFailure::may_retry(FailureCode::Overloaded, message),
        Failure::StorageFull => NetFailure::may_retry(FailureCode::StorageFull, message),
        Failure::TooLarge => NetFailure::not_applied(FailureCode::TooLarge, message),
        Failure::NumberReused => NetFailure::not_applied(FailureCode::StampReused, message),
        Failure::Unknown => NetFailure::unknown(FailureCode::Timeout, message),
        Failure::Superseded => NetFailure::unknown(FailureCode::Conflict, message),
        Failure::ReplyTooLarge => NetFailure::unknown(FailureCode::TooLarge, message),
        Failure::NotHere | Failure::StandsStill => {
            NetFailure::may_retry(FailureCode::NoLeader, message)
        }
    }
}

pub(crate) fn invalid(message: &str) -> Status {
    NetFailure::not_applied(FailureCode::Invalid, message).into()
}

fn unexpected() -> Status {
    NetFailure::unknown(FailureCode::Internal, "the state machine gave an unexpected reply").into()
}
