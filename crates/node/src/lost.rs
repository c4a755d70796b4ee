//! Replicas that have their log and have lost their state: where the state comes from again.
//!
//! Such a replica has forgotten nothing that it promised: votes and acknowledged entries are in its
//! log. But it has nothing to answer from, so it is not opened. A state as of some committed entry
//! is as good as its own: it is fetched from any other node that has one, whether that leads or not,
//! and the replica then opens as if it had been installed just before a crash. So a group that has
//! lost the states of a majority, but not the logs, comes back by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kontiki_net::proto::admin_client::AdminClient;
use kontiki_net::proto::{ReadStateRequest, ReadStateResponse, StateMember};
use kontiki_net::{Authenticated, Failure, FailureCode, Security, connect_lazy};
use kontiki_raft::{Membership, Recovered, SnapshotMeta};
use kontiki_replica::NodeInfo;
use kontiki_replica::placement::life_of;
use kontiki_storage::disk::RealDisk;
use kontiki_storage::snapshot::{SnapshotReceiver, Snapshots};
use kontiki_types::{GroupId, Incarnation, Index, LogId, Member, NodeId, ReplicaId, Term};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tonic::Status;
use tracing::{error, info, warn};

use crate::event_loop::Input;
use crate::shared::Shared;

/// Between two rounds of asking everybody.
const ROUND: Duration = Duration::from_millis(500);
/// How often it is said that a state is still missing.
const SAID: Duration = Duration::from_secs(10);
/// Bytes asked for at once.
const PART: u32 = 1 << 20;
/// How long a part may take.
const PART_TIMEOUT: Duration = Duration::from_secs(30);
/// A snapshot of a group is not asked for again within this time.
const BUILD_EVERY: Duration = Duration::from_secs(5);

/// A replica without its state.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) group: GroupId,
    pub(crate) member: Member,
    /// What its log proves.
    pub(crate) recovered: Recovered<Bytes>,
}

impl Lost {
    /// The log begins after this entry.
    fn base(&self) -> Index {
        self.recovered.base.as_ref().map_or(Index(0), |base| base.id.index)
    }
}

/// A state that was fetched and is to be made the replica's.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) lost: Lost,
    pub(crate) meta: SnapshotMeta,
}

/// Fetches what is lost, until nothing is or the node stops.
pub(crate) async fn run(
    node: Arc<Shared>,
    security: Security,
    dir: PathBuf,
    mut lost: Vec<Lost>,
    mut stop: watch::Receiver<bool>,
) {
    let mut say_at = Instant::now() + SAID;
    while !lost.is_empty() {
        let mut still = Vec::new();
        let mut why = String::new();
        for one in lost {
            let fetched = tokio::select! {
                fetched = fetch(&node, &security, &dir, &one) => fetched,
                _ = stop.changed() => return,
            };
            match fetched {
                Ok(meta) => {
                    info!(group = %one.group, id = %meta.id, "a peer has given the lost state");
                    node.events.send(Input::Adopt(Box::new(Adopted { lost: one, meta })));
                }
                Err(reason) => {
                    why = format!("group {}: {reason}", one.group);
                    still.push(one);
                }
            }
        }
        lost = still;
        if !lost.is_empty() && say_at <= Instant::now() {
            say_at = Instant::now() + SAID;
            error!(
                groups = lost.len(),
                why, "replicas without a state wait for a peer that has it; they do not serve"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(ROUND), if !lost.is_empty() => {}
            _ = stop.changed() => return,
        }
    }
}

/// Gets the state of a group from the first node that can give it.
async fn fetch(
    node: &Shared,
    security: &Security,
    dir: &Path,
    lost: &Lost,
) -> Result<SnapshotMeta, String> {
    let (sender, report) = oneshot::channel();
    node.events.send(Input::Status(sender));
    let report = report.await.map_err(|_| "the node is stopping")?;
    let mut why = "no other node is known".to_owned();
    for (peer, _) in report.nodes.iter().filter(|(info, _)| info.id != node.id) {
        match fetch_from(security, dir, lost, peer).await {
            Ok(meta) => return Ok(meta),
            Err(reason) => why = format!("node {}: {reason}", peer.id),
        }
    }
    Err(why)
}

async fn fetch_from(
    security: &Security,
    dir: &Path,
    lost: &Lost,
    peer: &NodeInfo,
) -> Result<SnapshotMeta, String> {
    let token = security.secret.as_ref().or(security.password.as_ref());
    let channel = connect_lazy(&peer.grpc, token, security.tls.as_ref(), Duration::from_secs(2))
        .map_err(|error| error.to_string())?;
    let mut client = AdminClient::new(channel).max_decoding_message_size(2 * PART as usize);
    let mut request = ReadStateRequest {
        group: lost.group.0,
        index_min: lost.base().0,
        term: 0,
        index: 0,
        offset: 0,
        bytes_max: PART,
    };
    let mut staged: Option<SnapshotReceiver<RealDisk>> = None;
    loop {
        let answer = read(&mut client, request).await?;
        let meta = meta_of(&answer).ok_or("an answer that cannot be understood")?;
        let mine = life_of(lost.member.replica);
        if meta.membership.members().any(|member| life_of(member.replica) != mine) {
            return Err("it has an earlier or later group of this id".to_owned());
        }
        (request.term, request.index) = (answer.term, answer.index);
        let (group, dir) = (lost.group, dir.to_path_buf());
        // Files are not written on the thread of the event loop.
        let written = tokio::task::spawn_blocking(move || {
            let mut receiver = match staged {
                Some(receiver) => receiver,
                None => Snapshots::existing(RealDisk, &dir.join("snapshots"))
                    .receive(group, meta.clone())
                    .map_err(|error| error.to_string())?,
            };
            let at = receiver.offset();
            receiver.write_chunk(at, &answer.data).map_err(|error| error.to_string())?;
            match receiver.is_complete() {
                true => receiver.finish().map(Err),
                false => Ok(Ok(receiver)),
            }
            .map_err(|error| error.to_string())
        });
        match written.await.map_err(|error| error.to_string())?? {
            Err(meta) => return Ok(meta),
            Ok(receiver) if receiver.offset() <= request.offset => {
                return Err("an answer without content".to_owned());
            }
            Ok(receiver) => {
                request.offset = receiver.offset();
                staged = Some(receiver);
            }
        }
    }
}

async fn read(
    client: &mut AdminClient<Authenticated>,
    request: ReadStateRequest,
) -> Result<ReadStateResponse, String> {
    match tokio::time::timeout(PART_TIMEOUT, client.read_state(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer".to_owned()),
    }
}

fn meta_of(answer: &ReadStateResponse) -> Option<SnapshotMeta> {
    let members = |list: &[StateMember]| {
        let member = |one: &StateMember| {
            Member::new(NodeId(one.node), Incarnation(one.incarnation), ReplicaId(one.replica))
        };
        list.iter().map(member).collect()
    };
    let membership = Membership {
        voters: members(&answer.voters),
        outgoing: members(&answer.outgoing),
        learners: members(&answer.learners),
    };
    let hash: [u8; 16] = answer.hash.as_ref().try_into().ok()?;
    Some(SnapshotMeta {
        id: LogId::new(Term(answer.term), Index(answer.index)),
        membership: Arc::new(membership),
        membership_id: LogId::new(Term(answer.membership_term), Index(answer.membership_index)),
        bytes: answer.bytes,
        hash: u128::from_be_bytes(hash),
    })
}

/// The giving side: which snapshots were asked for lately.
#[derive(Debug, Default)]
pub(crate) struct Giver(Mutex<BTreeMap<GroupId, Instant>>);

impl Giver {
    /// A part of a group's state; asks for a snapshot if there is none.
    pub(crate) async fn read(
        &self,
        node: &Shared,
        dir: &Path,
        request: ReadStateRequest,
    ) -> Result<ReadStateResponse, Status> {
        let group = GroupId(request.group);
        let (dir, asked) = (dir.join("snapshots"), request);
        let found = tokio::task::spawn_blocking(move || part(&dir, group, &asked)).await;
        match found.map_err(|error| Status::internal(error.to_string()))? {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                self.ask_for_snapshot(node, group);
                let message = "a snapshot is being made; ask again";
                Err(Failure::may_retry(FailureCode::Overloaded, message).into())
            }
            Err(error) => {
                warn!(%group, error, "cannot give a peer the state that it has lost");
                Err(Failure::may_retry(FailureCode::Internal, error).into())
            }
        }
    }

    fn ask_for_snapshot(&self, node: &Shared, group: GroupId) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if asked.get(&group).is_none_or(|at| now.duration_since(*at) >= BUILD_EVERY) {
            asked.insert(group, now);
            node.events.send(Input::BuildSnapshot { group });
        }
    }
}

/// Reads a part of the snapshot that is asked for; `None` if there is none, or none new enough.
fn part(
    dir: &Path,
    group: GroupId,
    request: &ReadStateRequest,
) -> Result<Option<ReadStateResponse>, String> {
    let snapshots = Snapshots::existing(RealDisk, dir);
    let wanted = LogId::new(Term(request.term), Index(request.index));
    let id = match wanted.index.0 {
        0 => snapshots.list(group).map_err(|error| error.to_string())?.pop().map(|meta| meta.id),
        _ => Some(wanted),
    };
    let Some(id) = id.filter(|id| id.index.0 >= request.index_min) else { return Ok(None) };
    let mut reader = snapshots.read(group, id).map_err(|error| error.to_string())?;
    let max = request.bytes_max.min(PART) as usize;
    let data = reader.read_chunk(request.offset, max).map_err(|error| error.to_string())?;
    let meta = reader.meta();
    let members = |list: &[Member]| {
        let member = |one: &Member| StateMember {
            node: one.node.0,
            incarnation: one.incarnation.0,
            replica: one.replica.0,
        };
        list.iter().map(member).collect()
    };
    Ok(Some(ReadStateResponse {
        term: meta.id.term.0,
        index: meta.id.index.0,
        bytes: meta.bytes,
        hash: Bytes::copy_from_slice(&meta.hash.to_be_bytes()),
        voters: members(&meta.membership.voters),
        outgoing: members(&meta.membership.outgoing),
        learners: members(&meta.membership.learners),
        membership_term: meta.membership_id.term.0,
        membership_index: meta.membership_id.index.0,
        data: data.into(),
    }))
}
