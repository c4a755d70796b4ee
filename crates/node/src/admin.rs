//! Operators' calls: looking at the cluster, and changing who belongs to a group.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kontiki_net::proto::admin_client::AdminClient;
use kontiki_net::proto::{self, admin_server::Admin};
use kontiki_net::{Authenticated, Failure, FailureCode, PROTOCOL_VERSION, Security, connect_lazy};
use kontiki_raft::PeerState;
use kontiki_replica::{ChangeFailure, ChangeKind, GroupStatus, NodeInfo};
use kontiki_types::{GroupId, NodeId};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::event_loop::{Input, StatusReport};
use crate::founding::from_proto;
use crate::lost::Giver;
use crate::reshape;
use crate::shared::Shared;

/// Marks a call that another node passed on, so that it is not passed on again.
const PASSED_ON: &str = "kontiki-passed-on";

/// The service.
pub(crate) struct Operators {
    pub(crate) node: Arc<Shared>,
    pub(crate) security: Security,
    /// The node's directory.
    pub(crate) dir: PathBuf,
    pub(crate) giver: Giver,
}

type Answered<T> = Result<Response<T>, Status>;

impl Operators {
    async fn report(&self) -> Result<StatusReport, Status> {
        let (sender, receiver) = oneshot::channel();
        self.node.events.send(Input::Status(sender));
        receiver.await.map_err(|_| Status::unavailable("the node is stopping"))
    }

    /// Asks the core for a change; `Ok(Some(leader))` if that node must be asked instead.
    async fn change(
        &self,
        group: u32,
        kind: impl FnOnce(&StatusReport) -> Result<ChangeKind, Status>,
    ) -> Result<Option<NodeInfo>, Status> {
        let report = self.report().await?;
        let group = GroupId(group);
        let Some(status) = report.groups.iter().find(|status| status.group == group) else {
            let message = format!("this node has no replica of group {group}; ask a node that has");
            return Err(Failure::not_applied(FailureCode::NotFound, message).into());
        };
        let kind = kind(&report)?;
        let elsewhere = |leader: NodeId| {
            let leader = report.nodes.iter().find(|(info, _)| info.id == leader);
            leader.map(|(info, _)| info.clone())
        };
        let me = self.node.id;
        if let Some(leader) = status.raft.leader.filter(|leader| leader.node != me) {
            return Ok(elsewhere(leader.node));
        }
        let (done, result) = oneshot::channel();
        self.node.events.send(Input::Change { group, kind, done });
        match result.await.map_err(|_| Status::unavailable("the node is stopping"))? {
            Ok(()) => Ok(None),
            Err(ChangeFailure::NotLeader(Some(leader))) if leader != me => Ok(elsewhere(leader)),
            Err(failure) => Err(refused(failure)),
        }
    }

    fn leader_client(&self, leader: &NodeInfo) -> Result<AdminClient<Authenticated>, Status> {
        let token = self.security.secret.as_ref().or(self.security.password.as_ref());
        let tls = self.security.tls.as_ref();
        connect_lazy(&leader.grpc, token, tls, Duration::from_secs(2))
            .map(AdminClient::new)
            .map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn members(&self, group: u32) -> Answered<proto::ChangeResponse> {
        let report = self.report().await?;
        let status = report.groups.iter().find(|status| status.group.0 == group);
        let members = status.map(membership).unwrap_or_default();
        Ok(Response::new(proto::ChangeResponse { voters: members.0, learners: members.1 }))
    }
}

/// A request that goes to the leader: marked, and refused if it was marked already.
fn pass_on<T>(request: Request<T>) -> Result<Request<T>, Status> {
    if request.metadata().contains_key(PASSED_ON) {
        let message = "leadership is changing; try again";
        return Err(Failure::may_retry(FailureCode::NoLeader, message).into());
    }
    let mut onward = Request::new(request.into_inner());
    onward.metadata_mut().insert(PASSED_ON, tonic::metadata::MetadataValue::from_static("1"));
    Ok(onward)
}

#[tonic::async_trait]
impl Admin for Operators {
    async fn cluster_status(
        &self,
        _request: Request<proto::ClusterStatusRequest>,
    ) -> Answered<proto::ClusterStatusResponse> {
        let report = self.report().await?;
        let nodes = report.nodes.into_iter().map(|(info, alive)| proto::NodeStatus {
            id: info.id.0,
            incarnation: info.incarnation.0,
            pid: info.pid,
            resp: info.resp,
            grpc: info.grpc,
            http: info.http,
            alive,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        Ok(Response::new(proto::ClusterStatusResponse {
            cluster_id: self.node.cluster,
            node: self.node.id.0,
            nodes: nodes.collect(),
            groups: report.groups.iter().map(group_status).collect(),
            without_state: report.withheld.iter().map(|group| group.0).collect(),
        }))
    }

    async fn transfer(
        &self,
        request: Request<proto::TransferRequest>,
    ) -> Answered<proto::TransferResponse> {
        let proto::TransferRequest { group, to } = *request.get_ref();
        let kind = |_: &StatusReport| Ok(ChangeKind::Transfer(NodeId(to)));
        if let Some(leader) = self.change(group, kind).await?
            && leader.id.0 != to
        {
            return self.leader_client(&leader)?.transfer(pass_on(request)?).await;
        }
        let report = self.report().await?;
        let status = report.groups.iter().find(|status| status.group.0 == group);
        let term = status.map_or(0, |status| status.raft.term.0);
        Ok(Response::new(proto::TransferResponse { leader: to, term }))
    }

    async fn add_replica(
        &self,
        request: Request<proto::AddReplicaRequest>,
    ) -> Answered<proto::ChangeResponse> {
        let proto::AddReplicaRequest { group, node } = *request.get_ref();
        let kind = |report: &StatusReport| {
            let known = report.nodes.iter().find(|(info, _)| info.id.0 == node);
            match known {
                Some((info, true)) => Ok(ChangeKind::Add(info.id, info.incarnation)),
                Some((info, false)) if info.id == self.node.id => {
                    Ok(ChangeKind::Add(info.id, info.incarnation))
                }
                _ => {
                    let message = format!(
                        "node {node} is not heard from; start it with --join and the gRPC address \
                         of a node of this cluster"
                    );
                    Err(Failure::not_applied(FailureCode::NotFound, message).into())
                }
            }
        };
        match self.change(group, kind).await? {
            Some(leader) => self.leader_client(&leader)?.add_replica(pass_on(request)?).await,
            None => self.members(group).await,
        }
    }

    async fn remove_replica(
        &self,
        request: Request<proto::RemoveReplicaRequest>,
    ) -> Answered<proto::ChangeResponse> {
        let proto::RemoveReplicaRequest { group, node } = *request.get_ref();
        let kind = |_: &StatusReport| Ok(ChangeKind::Remove(NodeId(node)));
        match self.change(group, kind).await? {
            Some(leader) => self.leader_client(&leader)?.remove_replica(pass_on(request)?).await,
            None => self.members(group).await,
        }
    }

    async fn slots(&self, request: Request<proto::SlotsRequest>) -> Answered<proto::SlotsResponse> {
        reshape::slots(&self.node, request.get_ref()).await.map(Response::new)
    }

    async fn reshape(
        &self,
        request: Request<proto::ReshapeRequest>,
    ) -> Answered<proto::ReshapeResponse> {
        let Some(change) = request.into_inner().change else {
            let message = "the request names no change";
            return Err(Failure::not_applied(FailureCode::Invalid, message).into());
        };
        reshape::reshape(&self.node, change).await.map(Response::new)
    }

    async fn read_state(
        &self,
        request: Request<proto::ReadStateRequest>,
    ) -> Answered<proto::ReadStateResponse> {
        let part = self.giver.read(&self.node, &self.dir, request.into_inner()).await?;
        Ok(Response::new(part))
    }

    async fn hello(&self, request: Request<proto::HelloRequest>) -> Answered<proto::HelloResponse> {
        let caller = request.into_inner();
        check_hello(&caller, self.node.cluster)?;
        if let Some(caller) = &caller.caller {
            self.node.events.send(Input::Introduced(from_proto(caller)));
        }
        let report = self.report().await?;
        let me = report.nodes.iter().find(|(info, _)| info.id == self.node.id);
        Ok(Response::new(proto::HelloResponse {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: self.node.cluster,
            phase: proto::Phase::Member.into(),
            node: me.map(|(info, _)| node_info(info)),
            members: report.nodes.iter().map(|(info, _)| node_info(info)).collect(),
        }))
    }
}

/// Refuses callers of another protocol version or cluster.
pub(crate) fn check_hello(caller: &proto::HelloRequest, cluster: u64) -> Result<(), Status> {
    if caller.protocol_version != PROTOCOL_VERSION {
        return Err(Status::failed_precondition(format!(
            "the caller speaks peer protocol {}, this node {PROTOCOL_VERSION}",
            caller.protocol_version
        )));
    }
    if caller.cluster_id != 0 && cluster != 0 && caller.cluster_id != cluster {
        return Err(Status::failed_precondition(format!(
            "the caller belongs to cluster {:016x}, this node to {cluster:016x}",
            caller.cluster_id
        )));
    }
    Ok(())
}

pub(crate) fn node_info(info: &NodeInfo) -> proto::NodeInfo {
    proto::NodeInfo {
        id: info.id.0,
        incarnation: info.incarnation.0,
        resp: info.resp.clone(),
        grpc: info.grpc.clone(),
        http: info.http.clone(),
        pid: info.pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn membership(status: &GroupStatus) -> (Vec<u64>, Vec<u64>) {
    let membership = &status.raft.membership;
    (
        membership.voters.iter().map(|voter| voter.node.0).collect(),
        membership.learners.iter().map(|learner| learner.node.0).collect(),
    )
}

fn group_status(status: &GroupStatus) -> proto::GroupStatus {
    let raft = &status.raft;
    let (voters, learners) = membership(status);
    let incarnations = raft.membership.voters.iter().map(|voter| voter.incarnation.0);
    let replicas = raft.peers.iter().map(|peer| proto::ReplicaStatus {
        node: peer.member.node.0,
        matched: peer.matched.0,
        snapshot: matches!(peer.state, PeerState::Snapshot { .. }),
    });
    proto::GroupStatus {
        id: status.group.0,
        leader: raft.leader.map_or(0, |leader| leader.node.0),
        term: raft.term.0,
        commit: raft.commit.0,
        applied: raft.applied.0,
        first_index: raft.first.0,
        last_index: raft.last.index.0,
        voters,
        learners,
        replicas: replicas.collect(),
        voter_incarnations: incarnations.collect(),
    }
}

fn refused(failure: ChangeFailure) -> Status {
    match failure {
        ChangeFailure::NotLeader(_) => {
            Failure::may_retry(FailureCode::NoLeader, "no leader of the group is known").into()
        }
        ChangeFailure::Busy => {
            let message = "another change of the group is under way";
            Failure::may_retry(FailureCode::Conflict, message).into()
        }
        ChangeFailure::Senseless(why) => Failure::not_applied(FailureCode::Invalid, why).into(),
        ChangeFailure::Refused(why) => Failure::not_applied(FailureCode::Conflict, why).into(),
        ChangeFailure::Unfinished => {
            let message = "the change did not finish in time or the leader changed; look at the \
                           status and ask again";
            Failure::unknown(FailureCode::Timeout, message).into()
        }
    }
}
