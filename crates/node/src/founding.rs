//! How a node comes by its directory: it has one, founds a cluster with others, or joins one.
//!
//! Founding needs every founder. Each makes up an incarnation, keeps it in a file, and asks the
//! others for theirs until it knows all; the initial configuration names them, so it cannot be taken
//! for another one's (PROTOCOL 6). The cluster's id is a hash of the incarnations: founders that saw
//! different ones, since a directory was lost in between, belong to different clusters and refuse
//! each other. A founder that is done tells the others what it decided, and they adopt it if it
//! names them as they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kontiki_net::proto::admin_client::AdminClient;
use kontiki_net::proto::{self, admin_server::Admin, kv_server::Kv};
use kontiki_net::{
    ClusterId, Failure, FailureCode, Limits, Local, PROTOCOL_VERSION, PeerConfig, PeerTransport,
    connect_lazy, serve,
};
use kontiki_replica::NodeInfo;
use kontiki_shard::GROUPS_MAX;
use kontiki_storage::directory::{Directory, DirectoryError, Expected, Format};
use kontiki_storage::disk::{RealDisk, replace_file};
use kontiki_types::{Incarnation, Member, NodeId};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::admin::{check_hello, node_info};
use crate::error::StartError;
use crate::peers_file;
use crate::settings::{Membership, Settings};
use crate::sharding;
use crate::start::{Addresses, FOUNDING_REPLICA, advertised};
use crate::starting::patiently;

/// How often a founder asks those it has not heard yet.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// Replicas of each group of a store that begins sharded.
const SHARDED_REPLICAS: usize = 3;

/// Holds the incarnation of a directory that is not formatted yet.
const FOUNDING_FILE: &str = "founding";

/// The node's directory, open; formatted first if the settings say how.
pub(crate) async fn directory(
    settings: &Settings,
    listener: &std::net::TcpListener,
    addresses: &Addresses,
) -> Result<Directory<RealDisk>, StartError> {
    let dir = &settings.dir;
    if !Directory::is_formatted(&RealDisk, dir)? {
        match &settings.membership {
            Membership::Formatted => return Err(StartError::NotFormatted(dir.clone())),
            Membership::Join(address) => join(settings, address, addresses).await?,
            Membership::Found => found(settings, listener, addresses).await?,
        }
    }
    let expected = Expected { node: Some(settings.id), cluster: None };
    let what = format!("the directory {}", dir.display());
    let is_locked = |error: &DirectoryError| matches!(error, DirectoryError::Locked(_));
    Ok(patiently(&what, is_locked, || Directory::open(RealDisk, dir, expected)).await?)
}

fn own_info(settings: &Settings, addresses: &Addresses, incarnation: Incarnation) -> NodeInfo {
    NodeInfo {
        id: settings.id,
        incarnation,
        boot: 0,
        pid: std::process::id(),
        resp: advertised(settings, addresses.resp),
        grpc: advertised(settings, addresses.grpc),
        http: advertised(settings, addresses.http),
        leaving: false,
    }
}

pub(crate) async fn hello(
    settings: &Settings,
    address: &str,
    me: &NodeInfo,
) -> Result<proto::HelloResponse, Status> {
    let token = settings.security.secret.as_ref().or(settings.security.password.as_ref());
    let tls = settings.security.tls.as_ref();
    let channel = connect_lazy(address, token, tls, Duration::from_secs(1))
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let request = proto::HelloRequest {
        protocol_version: PROTOCOL_VERSION,
        cluster_id: 0,
        caller: Some(node_info(me)),
    };
    Ok(AdminClient::new(channel).hello(request).await?.into_inner())
}

/// Formats the directory for the cluster that answers at `address`; the node has no replica yet.
async fn join(settings: &Settings, address: &str, addresses: &Addresses) -> Result<(), StartError> {
    let incarnation = Incarnation(random()?);
    let me = own_info(settings, addresses, incarnation);
    let answer = hello(settings, address, &me).await.map_err(|status| {
        StartError::Refused(format!(
            "cannot join the cluster at {address}: {}\nhint: --join takes the gRPC address of a \
             running node",
            status.message()
        ))
    })?;
    if answer.phase() != proto::Phase::Member {
        return Err(StartError::Refused(format!(
            "the node at {address} does not belong to a cluster yet"
        )));
    }
    let format = Format { cluster: answer.cluster_id, node: settings.id, incarnation };
    Directory::format(&RealDisk, &settings.dir, format)?;
    remember(&settings.dir, &answer.members, settings.id)?;
    info!(cluster = format!("{:016x}", answer.cluster_id), "joined");
    Ok(())
}

/// Formats the directory for a cluster founded together with the peers.
async fn found(
    settings: &Settings,
    listener: &std::net::TcpListener,
    addresses: &Addresses,
) -> Result<(), StartError> {
    let incarnation = own_incarnation(&settings.dir)?;
    let me = own_info(settings, addresses, incarnation);
    let known = Arc::new(Mutex::new(BTreeMap::from([(me.id, me.clone())])));
    let (done, stop) = oneshot::channel::<()>();
    let server = {
        let founder = Founder { me: me.clone(), known: Arc::clone(&known) };
        let nobody = Local { cluster: ClusterId(0), node: me.id, incarnation };
        let runtime = tokio::runtime::Handle::current();
        let config = PeerConfig::default();
        let ignore = |_, _| {};
        let peers =
            PeerTransport::new(nobody, &settings.security, config, runtime, ignore, |_| {})?;
        let listener = listener.try_clone().map_err(StartError::Listener)?;
        let security = settings.security.clone();
        tokio::spawn(async move {
            let stop = async {
                let _ = stop.await;
            };
            let limits = Limits::default();
            serve(listener, founder.clone(), founder, &peers, &security, &limits, stop).await
        })
    };
    let outcome = gather(settings, &me, &known).await;
    let _ = done.send(());
    let _ = server.await;
    let (cluster, members) = outcome?;
    let format = Format { cluster, node: me.id, incarnation };
    Directory::format(&RealDisk, &settings.dir, format)?;
    let mut directory = Directory::open(RealDisk, &settings.dir, Expected::default())?;
    let founders: Vec<Member> = members
        .values()
        .map(|info| Member::new(info.id, info.incarnation, FOUNDING_REPLICA))
        .collect();
    let replicas = if settings.groups > 1 { SHARDED_REPLICAS } else { founders.len() };
    sharding::set_initials(&mut directory, &founders, replicas, settings.groups)?;
    let infos: Vec<_> = members.values().map(node_info).collect();
    remember(&settings.dir, &infos, me.id)?;
    info!(cluster = format!("{cluster:016x}"), "founded");
    Ok(())
}

type Founders = BTreeMap<NodeId, NodeInfo>;

/// Asks the other founders until all are known, or one says how it was decided.
async fn gather(
    settings: &Settings,
    me: &NodeInfo,
    known: &Arc<Mutex<Founders>>,
) -> Result<(u64, Founders), StartError> {
    loop {
        for (id, address) in &settings.peers {
            let Ok(answer) = hello(settings, address, me).await else { continue };
            let Some(node) = answer.node.as_ref().filter(|node| node.id == id.0) else {
                return Err(StartError::Refused(format!(
                    "--peer {id}={address}: another node answers there"
                )));
            };
            if answer.phase() == proto::Phase::Member {
                return adopt(me, &answer, settings);
            }
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(*id, from_proto(node));
        }
        let all = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if settings.peers.iter().all(|(id, _)| all.contains_key(id)) {
            return Ok((cluster_id(&all, settings.groups), all));
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

/// Takes over what a founder that is done has decided.
fn adopt(
    me: &NodeInfo,
    answer: &proto::HelloResponse,
    settings: &Settings,
) -> Result<(u64, Founders), StartError> {
    let mut all: Founders =
        answer.members.iter().map(|node| (NodeId(node.id), from_proto(node))).collect();
    all.retain(|id, _| *id == me.id || settings.peers.iter().any(|(peer, _)| peer == id));
    let named = all.get(&me.id).is_some_and(|info| info.incarnation == me.incarnation);
    let is_the_same = |groups| cluster_id(&all, groups) == answer.cluster_id;
    if named && !is_the_same(settings.groups) && (1..=GROUPS_MAX).any(is_the_same) {
        return Err(StartError::Refused(
            "the cluster was founded with another number of groups\n\
             hint: `groups` must be the same at all founders"
                .to_owned(),
        ));
    }
    if !named || !is_the_same(settings.groups) {
        return Err(StartError::Refused(format!(
            "the cluster exists, and knows node {} by another directory\n\
             hint: if that directory is lost, start the node with --join, and then run `kontiki \
             cluster readmit --node {}`",
            me.id, me.id
        )));
    }
    Ok((answer.cluster_id, all))
}

/// FNV-1a over ids and incarnations, in order of the ids, and the number of groups if there are
/// several: founders that were told different numbers do not take each other for the same cluster.
fn cluster_id(founders: &Founders, groups: usize) -> u64 {
    let numbers = founders.values().flat_map(|info| [info.id.0, info.incarnation.0]);
    let groups = (groups > 1).then_some(groups as u64);
    numbers.chain(groups).flat_map(u64::to_be_bytes).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The incarnation of a directory that is being founded: made up once, kept over restarts.
fn own_incarnation(dir: &Path) -> Result<Incarnation, StartError> {
    let kept = std::fs::read_to_string(dir.join(FOUNDING_FILE)).ok();
    if let Some(number) = kept.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()) {
        return Ok(Incarnation(number));
    }
    let number = random()?;
    std::fs::create_dir_all(dir).map_err(StartError::Listener)?;
    let text = format!("{number:016x}\n");
    replace_file(&RealDisk, dir, FOUNDING_FILE, text.as_bytes()).map_err(StartError::Listener)?;
    Ok(Incarnation(number))
}

fn random() -> Result<u64, StartError> {
    kontiki_storage::random_u64().map_err(StartError::Listener)
}

pub(crate) fn from_proto(node: &proto::NodeInfo) -> NodeInfo {
    NodeInfo {
        id: NodeId(node.id),
        incarnation: Incarnation(node.incarnation),
        boot: 0,
        pid: node.pid,
        resp: node.resp.clone(),
        grpc: node.grpc.clone(),
        http: node.http.clone(),
        leaving: false,
    }
}

fn remember(dir: &Path, nodes: &[proto::NodeInfo], me: NodeId) -> Result<(), StartError> {
    let infos: Vec<_> = nodes.iter().map(from_proto).filter(|info| info.id != me).collect();
    peers_file::write(dir, infos.iter()).map_err(StartError::Listener)
}

/// The services of a node that has no cluster yet: it only says who it is.
#[derive(Clone)]
struct Founder {
    me: NodeInfo,
    known: Arc<Mutex<Founders>>,
}

fn not_yet() -> Status {
    let message = "the cluster is being founded: not all founders have been heard";
    Failure::may_retry(FailureCode::NoLeader, message).into()
}

/// Implements the native API with one answer for every call. Around the whole `impl`, since the
/// attribute must see the methods.
macro_rules! kv_not_yet {
    ($($name:ident($request:ident) -> $response:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl Kv for Founder {
            $(async fn $name(
                &self,
                _request: Request<proto::$request>,
            ) -> Result<Response<proto::$response>, Status> {
                Err(not_yet())
            })*
        }
    };
}

#[tonic::async_trait]
impl Admin for Founder {
    async fn hello(
        &self,
        request: Request<proto::HelloRequest>,
    ) -> Result<Response<proto::HelloResponse>, Status> {
        let caller = request.into_inner();
        check_hello(&caller, 0)?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Response::new(proto::HelloResponse {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: 0,
            phase: proto::Phase::Founding.into(),
            node: Some(node_info(&self.me)),
            members: known.values().map(node_info).collect(),
        }))
    }

    async fn cluster_status(
        &self,
        _request: Request<proto::ClusterStatusRequest>,
    ) -> Result<Response<proto::ClusterStatusResponse>, Status> {
        Err(not_yet())
    }

    async fn transfer(
        &self,
        _request: Request<proto::TransferRequest>,
    ) -> Result<Response<proto::TransferResponse>, Status> {
        Err(not_yet())
    }

    async fn add_replica(
        &self,
        _request: Request<proto::AddReplicaRequest>,
    ) -> Result<Response<proto::ChangeResponse>, Status> {
        Err(not_yet())
    }

    async fn remove_replica(
        &self,
        _request: Request<proto::RemoveReplicaRequest>,
    ) -> Result<Response<proto::ChangeResponse>, Status> {
        Err(not_yet())
    }

    async fn slots(
        &self,
        _request: Request<proto::SlotsRequest>,
    ) -> Result<Response<proto::SlotsResponse>, Status> {
        Err(not_yet())
    }

    async fn read_state(
        &self,
        _request: Request<proto::ReadStateRequest>,
    ) -> Result<Response<proto::ReadStateResponse>, Status> {
        Err(not_yet())
    }

    async fn reshape(
        &self,
        _request: Request<proto::ReshapeRequest>,
    ) -> Result<Response<proto::ReshapeResponse>, Status> {
        Err(not_yet())
    }
}

kv_not_yet!(
    open_session(OpenSessionRequest) -> OpenSessionResponse,
    get(GetRequest) -> GetResponse,
    set(SetRequest) -> SetResponse,
    put_if_version(PutIfVersionRequest) -> SetResponse,
    append(AppendRequest) -> AppendResponse,
    delete(DeleteRequest) -> DeleteResponse,
    batch(BatchRequest) -> BatchResponse,
    transaction(TransactionRequest) -> TransactionResponse,
    status(StatusRequest) -> StatusResponse,
    open_view(OpenViewRequest) -> OpenViewResponse,
    read_view(ReadViewRequest) -> ReadViewResponse,
    cut_view(CutViewRequest) -> CutViewResponse,
    keep_view(KeepViewRequest) -> KeepViewResponse,
    close_view(CloseViewRequest) -> CloseViewResponse,
);
