//! Starting a node: from its directory to running threads, and down again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::Machine;
use kontiki_net::{ClusterId, Local, PeerEvent, PeerTransport, serve};
use kontiki_raft::{Base, Config, Membership as Voters, Recovered};
use kontiki_replica::steward::{BEGINS_AFTER, Beginning, CONTROLLER};
use kontiki_replica::{Core, GroupConfig, NodeInfo, Opened};
use kontiki_storage::directory::{Directory, Expected, Format};
use kontiki_storage::disk::RealDisk;
use kontiki_storage::engine::{Damage, Engine, FjallConfig, FjallEngine, GroupStore, fits};
use kontiki_storage::log::{self, Log, LogConfig, is_segment};
use kontiki_storage::recovery::finish_install;
use kontiki_storage::snapshot::Snapshots as SnapshotFiles;
use kontiki_types::{GroupId, Incarnation, LogId, LogTime, Member, NodeId, ReplicaId};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::admin::Operators;
use crate::apply::{self, ApplyStage};
use crate::clock;
use crate::error::StartError;
use crate::event_loop::{Ended, EventLoop, Input};
use crate::founding;
use crate::http;
use crate::introduce;
use crate::log_writer::LogWriter;
use crate::lost::{self, Giver, Lost};
use crate::mailbox::{inbox, mailbox};
use crate::memory::{Budgets, Governor};
use crate::metrics::Metrics;
use crate::moving::{self, News};
use crate::native::Native;
use crate::peers_file;
use crate::persist::{PersistJob, compact_loop, persist_loop};
use crate::placing;
use crate::resp;
use crate::scrub::Scrubber;
use crate::settings::{LiveSettings, Membership, Settings};
use crate::sharding;
use crate::shared::Shared;
use crate::snapshots::Snapshots;
use crate::starting::{Replicas as Begun, StartClock, patiently};

/// The replica id of a group's founding members. Those that are added later get higher ones.
pub(crate) const FOUNDING_REPLICA: ReplicaId = ReplicaId(1);

/// Connections that are not accepted yet, of one port.
const BACKLOG: u32 = 1024;

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For Redis clients.
    pub resp: SocketAddr,
    /// For peers and native clients.
    pub grpc: SocketAddr,
    /// For metrics and health.
    pub http: SocketAddr,
}

/// Runs a node until `stop` is ready or it cannot go on.
///
/// `listening` is called once all ports are open.
///
/// # Errors
/// Why the node could not start, or had to end.
pub async fn run(
    settings: Settings,
    listening: impl FnOnce(&Addresses),
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    if let Some(refusal) = settings.refusal() {
        return Err(StartError::Settings(refusal));
    }
    let mut clock = StartClock::begin();
    let budgets = Budgets::of(settings.memory_bytes);
    let mut settings = settings;
    budgets.bound(&mut settings);
    let listeners = Listeners::bind(&settings).await?;
    let addresses = listeners.addresses()?;
    let stop = std::pin::pin!(stop);
    let mut stop = stop;
    let directory = tokio::select! {
        directory = founding::directory(&settings, &listeners.grpc, &addresses) => directory?,
        () = &mut stop => return Ok(()),
    };
    clock.done("directory");
    let node = Node::start(settings, directory, listeners, addresses, clock)?;
    listening(&addresses);
    node.run_until(stop).await
}

/// The open ports.
pub(crate) struct Listeners {
    pub(crate) resp: TcpListener,
    pub(crate) grpc: std::net::TcpListener,
    pub(crate) http: TcpListener,
}

impl Listeners {
    async fn bind(settings: &Settings) -> Result<Self, StartError> {
        let bind = async |address: SocketAddr| {
            let what = format!("the address {address}");
            let is_taken = |error: &std::io::Error| error.kind() == ErrorKind::AddrInUse;
            patiently(&what, is_taken, || listen(address))
                .await
                .map_err(|source| StartError::Bind { address, source })
        };
        let resp = bind(settings.resp).await?;
        let http = bind(settings.http).await?;
        let grpc = bind(settings.grpc).await?.into_std().map_err(StartError::Listener)?;
        Ok(Self { resp, grpc, http })
    }

    fn addresses(&self) -> Result<Addresses, StartError> {
        Ok(Addresses {
            resp: self.resp.local_addr().map_err(StartError::Listener)?,
            grpc: self.grpc.local_addr().map_err(StartError::Listener)?,
            http: self.http.local_addr().map_err(StartError::Listener)?,
        })
    }
}

/// As [`TcpListener::bind`], without the wait that it never has.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How others reach an address of ours.
pub(crate) fn advertised(settings: &Settings, address: SocketAddr) -> String {
    match &settings.advertise {
        Some(host) => format!("{host}:{}", address.port()),
        None => address.to_string(),
    }
}

/// Opens replicas, and keeps what the directory must not forget about them.
pub(crate) struct Opener {
    directory: Arc<Mutex<Directory<RealDisk>>>,
    dir: PathBuf,
    peers: BTreeMap<NodeId, NodeInfo>,
    raft: Config,
    seed: u64,
}

impl Opener {
    /// Keeps where a peer was last seen. A hint only: losing it costs a `--peer` flag.
    pub(crate) fn remember(&mut self, peer: &NodeInfo) -> Result<(), String> {
        self.peers.insert(peer.id, peer.clone());
        peers_file::write(&self.dir, self.peers.values()).map_err(|error| error.to_string())
    }

    /// Forgets where a node was that was removed.
    pub(crate) fn forget(&mut self, peer: NodeId) -> Result<(), String> {
        self.peers.remove(&peer);
        peers_file::write(&self.dir, self.peers.values()).map_err(|error| error.to_string())
    }

    /// A replica that waits to be told everything.
    pub(crate) fn empty_replica(&self, group: GroupId, member: Member) -> Opened {
        Opened {
            group,
            raft: Config { me: member, ..self.raft.clone() },
            recovered: Recovered::default(),
            applied: LogId::ZERO,
            log_time: LogTime(0),
            next_due: None,
            seed: self.seed ^ member.replica.0,
        }
    }

    /// Notes, durably, which replica of a group this directory is from here on.
    pub(crate) fn begin(&self, group: GroupId, replica: ReplicaId) -> Result<(), String> {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        directory
            .set_note(&replica_note(group), &replica.0.to_string())
            .map_err(|error| error.to_string())
    }

    /// Notes, durably, what a group begins as that begins here.
    pub(crate) fn note_beginning(
        &self,
        group: GroupId,
        beginning: &Beginning,
    ) -> Result<(), String> {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        sharding::note_beginning(&mut directory, group, beginning)
            .map_err(|error| error.to_string())
    }

    /// Forgets, durably, that the state of a group was damaged.
    pub(crate) fn is_repaired(&self, group: GroupId) -> Result<(), String> {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        directory.remove_note(&damage_note(group)).map_err(|error| error.to_string())
    }

    /// Makes it durable that a replica has left its group for good.
    pub(crate) fn bury(&self, group: GroupId, replica: ReplicaId) -> Result<(), String> {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        directory.set_removed(group, replica).map_err(|error| error.to_string())
    }
}

/// Name of the directory's note of which replica of a group it is.
fn replica_note(group: GroupId) -> String {
    format!("replica-{group}")
}

/// Name of the directory's note that its log was begun.
const LOG_BEGUN: &str = "log-begun";

/// A node whose threads run.
struct Node {
    node: Arc<Shared>,
    directory: Arc<Mutex<Directory<RealDisk>>>,
    peers: PeerTransport,
    listeners: Listeners,
    settings: Settings,
    /// Replicas whose state a peer has to give.
    lost: Vec<Lost>,
    ended: oneshot::Receiver<Ended>,
}

impl Node {
    fn start(
        settings: Settings,
        directory: Directory<RealDisk>,
        listeners: Listeners,
        addresses: Addresses,
        mut clock: StartClock,
    ) -> Result<Self, StartError> {
        let identity = directory.identity().clone();
        let boot = directory.boots();
        let me = NodeInfo {
            id: identity.node,
            incarnation: identity.incarnation,
            boot,
            pid: std::process::id(),
            resp: advertised(&settings, addresses.resp),
            grpc: advertised(&settings, addresses.grpc),
            http: advertised(&settings, addresses.http),
            leaving: false,
        };
        let seed = kontiki_storage::random_u64().map_err(StartError::Listener)?;
        let raft = settings.raft.config(Member::new(me.id, me.incarnation, FOUNDING_REPLICA));

        let budgets = Budgets::of(settings.memory_bytes);
        let mut directory = directory;
        let mut engine = open_engine(&settings, budgets.engine())?;
        clock.done("engine");
        // What the state claims to have need not be read; the log decides whether it may.
        let log::Opened { mut log, groups, bytes_read, reading, writing } =
            open_log(&settings, &mut directory, &engine.applied())?;
        info!(bytes_read, ?reading, ?writing, "log opened");
        let recovered = found_groups(&mut log, groups, &mut directory)?;
        clock.done("log");
        let raft = Config {
            log_cache_bytes: Some(log_cache(&settings, &budgets, recovered.len())),
            ..raft
        };
        let meter = engine.meter();
        let mut begun = Begun::default();
        let mut machines = BTreeMap::new();
        let (mut lost, mut differing) = (Vec::new(), Vec::new());
        let snapshots = SnapshotFiles::open(RealDisk, &settings.dir.join("snapshots"))?;
        let mut members = BTreeMap::new();
        let mut opened = Vec::new();
        for (group, (member, recovered)) in recovered {
            let beginning = sharding::beginning(&directory, group);
            if let Some(difference) = directory.note(&difference_note(group)) {
                error!(
                    %group, difference,
                    "the state of this replica was not that of its leader, so it does not serve. Look \
                     at the other nodes: if they say nothing, empty this directory, start with --join \
                     HOST:PORT, and run `kontiki cluster readmit --node N`"
                );
                differing.push(group);
                continue;
            }
            if let Some(damage) = directory.note(&damage_note(group)) {
                warn!(%group, damage, "the state was damaged and is discarded");
                engine.drop_group(group)?;
            }
            let opening = (&mut engine, &mut log, &snapshots);
            let (machine, recovered) = match open_machine(opening, group, recovered, beginning)? {
                Found::Whole(machine, recovered) => (*machine, recovered),
                Found::Lost(recovered) => {
                    let base = ends(&recovered).0;
                    error!(
                        %group, %base,
                        "the state of this replica is lost, and its log begins only after it; the \
                         replica does not serve until a peer has given it the state"
                    );
                    lost.push(Lost { group, member, recovered });
                    continue;
                }
            };
            directory.remove_note(&damage_note(group))?;
            info!(%group, %member, applied = %machine.applied(), "replica opened");
            let (_, last) = ends(&recovered);
            begun.last.insert(group, last.index);
            begun.entries += last.index.0.saturating_sub(machine.applied().index.0);
            members.insert(group, members_at(&recovered, machine.applied()));
            opened.push(Opened {
                group,
                raft: Config { me: member, ..raft.clone() },
                applied: machine.applied(),
                log_time: machine.log_time(),
                next_due: machine.next_due(),
                recovered: Recovered { applied: machine.applied().index, ..recovered },
                seed: seed ^ u64::from(group.0),
            });
            machines.insert(group, machine);
        }

        clock.done("replicas");
        let controller = machines.get(&CONTROLLER);
        let configuration = controller
            .and_then(|machine| sharding::configuration(CONTROLLER, machine))
            .or_else(|| sharding::founding_configuration(&directory));
        let directory = Arc::new(Mutex::new(directory));
        let (events, inputs) = inbox();
        // What has arrived of a snapshot that this node no longer needs.
        snapshots.retain_arriving(|group, id| {
            machines.get(&group).is_some_and(|machine| machine.applied().index < id.index)
        })?;
        let metrics = Arc::new(Metrics::new());
        let node = Arc::new(Shared::new(
            me.id,
            identity.cluster,
            me.incarnation,
            boot,
            addresses.resp.port(),
            LiveSettings::new(&settings),
            settings.security.password.clone(),
            events.clone(),
            Arc::clone(&metrics),
            (budgets, meter.clone()),
            seed,
        ));
        if machines.contains_key(&CONTROLLER) {
            node.moving.tell(News::Controller);
        }
        let local = Local {
            cluster: ClusterId(identity.cluster),
            node: me.id,
            incarnation: me.incarnation,
        };
        let frames = events.clone();
        let peers = PeerTransport::new(
            local,
            &settings.security,
            settings.peer_transport.clone(),
            tokio::runtime::Handle::current(),
            move |from, frame| frames.send(Input::Frame { from, frame }),
            report_peer_events(Arc::clone(&node)),
        )?;
        let known = known_peers(&settings, &directory, &me);
        for peer in known.values() {
            peers.set_peer(peer.id, peer.incarnation, &peer.grpc);
        }

        let (log_sender, log_work) = mailbox();
        let writer = LogWriter {
            log,
            snapshots,
            work: log_work,
            events: events.clone(),
            metrics,
            full: false,
        };
        spawn("log", move || writer.run())?;
        let (persist_sender, jobs) = mailbox();
        let persist_events = events.clone();
        let (compact_sender, compactions) = mailbox();
        let compact_events = events.clone();
        let compact_first = compact_sender.clone();
        spawn("persist", move || persist_loop(&jobs, &persist_events, &compact_sender))?;
        spawn("compact", move || compact_loop(&compactions, &compact_events))?;
        // What an earlier life of the node has left to do.
        compact_first.send_all(
            machines.iter().map(|(&group, machine)| PersistJob {
                group,
                persister: machine.store().persister(),
            }),
        );
        let tombstones: Vec<_> =
            directory.lock().unwrap_or_else(PoisonError::into_inner).removed().collect();
        let stage = ApplyStage {
            engine,
            machines,
            members,
            log: log_sender.clone(),
            node: Arc::clone(&node),
            persist: persist_sender,
            snapshots: Snapshots::open(&settings.dir.join("snapshots"), Arc::clone(&node.metrics))?,
            opener: Opener {
                directory: Arc::clone(&directory),
                dir: settings.dir.clone(),
                peers: known.clone(),
                raft,
                seed,
            },
            stewarded: BTreeMap::new(),
            scratch: Vec::new(),
            out: Vec::new(),
        };
        let scrubber = Scrubber {
            dir: settings.dir.clone(),
            interval: settings.scrub_interval,
            events: events.clone(),
            log: log_sender.clone(),
            metrics: Arc::clone(&node.metrics),
        };
        scrubber.start().map_err(StartError::Listener)?;
        let apply = apply::start(stage).map_err(StartError::Listener)?;
        // The timing of groups that rest follows that of groups that do not.
        let group = GroupConfig {
            alive_interval: settings.raft.election_timeout / 3,
            silent_after: settings.raft.election_timeout,
            ..settings.group.clone()
        };
        let mut core = Core::new(me, group, known.into_values(), tombstones);
        core.set_time(clock::now(), clock::wall_time());
        if let Some(configuration) = configuration {
            core.set_configuration(configuration);
        }
        lost.iter().for_each(|lost| core.withhold(lost.group));
        differing.into_iter().for_each(|group| core.withhold(group));
        for one in opened {
            let group = one.group;
            core.open(one).map_err(|source| StartError::Replica { group, source })?;
        }
        let event_loop =
            EventLoop::new(core, inputs, log_sender, apply, peers.clone(), Arc::clone(&node));
        let event_loop = event_loop.with_governor(Governor::new(settings.memory_bytes, meter));
        let event_loop = event_loop.with_snapshot_rate(settings.snapshot_rate);
        let event_loop = event_loop.with_start(clock.runs(&node.metrics.start, begun));
        let (sender, ended) = oneshot::channel();
        start_loop(event_loop, sender)?;
        Ok(Self { node, directory, peers, listeners, settings, lost, ended })
    }

    /// Serves until `stop` is ready or a thread cannot go on.
    async fn run_until(self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let Self { node, directory, peers, listeners, settings, lost, ended } = self;
        let (stop_sender, stop_receiver) = watch::channel(false);
        let stopped = |mut receiver: watch::Receiver<bool>| async move {
            let _ = receiver.changed().await;
        };
        let resp =
            tokio::spawn(resp::serve(listeners.resp, Arc::clone(&node), stop_receiver.clone()));
        let http =
            tokio::spawn(http::serve(listeners.http, Arc::clone(&node), stop_receiver.clone()));
        let moving = tokio::spawn(moving::run(Arc::clone(&node), stop_receiver.clone()));
        let placing = tokio::spawn(placing::run(
            Arc::clone(&node),
            Arc::clone(&directory),
            stop_receiver.clone(),
        ));
        if matches!(settings.membership, Membership::Join(_)) {
            tokio::spawn(introduce::run(
                Arc::clone(&node),
                settings.clone(),
                stop_receiver.clone(),
            ));
        }
        let fetching = tokio::spawn(lost::run(
            Arc::clone(&node),
            settings.security.clone(),
            settings.dir.clone(),
            lost,
            stop_receiver.clone(),
        ));
        let grpc = {
            let (node, peers) = (Arc::clone(&node), peers.clone());
            let (security, stop) = (settings.security.clone(), stopped(stop_receiver));
            tokio::spawn(async move {
                let kv = Native(Arc::clone(&node));
                let (dir, giver) = (settings.dir.clone(), Giver::default());
                let admin = Operators { node, security: security.clone(), dir, giver };
                let limits = settings.grpc_limits;
                serve(listeners.grpc, kv, admin, &peers, &security, &limits, stop).await
            })
        };
        let mut ended = ended;
        let mut why = tokio::select! {
            () = stop => Why::Told,
            () = node.dismissed.notified() => Why::Dismissed,
            ended = &mut ended => Why::ended(ended),
        };
        if !matches!(why, Why::Ended(_)) {
            tokio::select! {
                () = leave(&node, &stop_sender) => {}
                ended = &mut ended => why = Why::ended(ended),
            }
        }
        // Clients first, so that nobody is told of what comes after; then the loop.
        let _ = stop_sender.send(true);
        node.registry.kill_all();
        node.events.send(Input::Stop);
        peers.shutdown();
        let (_, _, _, _, _) = tokio::join!(resp, http, moving, placing, fetching);
        // What is left after that is streams of other nodes, which end with the process.
        if let Ok(Ok(Err(error))) = timeout(GRPC_END_MAX, grpc).await {
            warn!(%error, "the gRPC server ended");
        }
        match &why {
            Why::Ended(Err(StartError::Damaged { group, reason })) => {
                note(&directory, &damage_note(*group), reason);
            }
            Why::Ended(Err(StartError::Differs { group, reason })) => {
                note(&directory, &difference_note(*group), reason);
            }
            _ => {}
        }
        match why {
            Why::Told => Ok(()),
            Why::Dismissed => Err(StartError::Dismissed(node.id)),
            Why::Ended(result) => result,
        }
    }
}

/// Why a node ends.
enum Why {
    /// It was told to.
    Told,
    /// It was removed from the cluster.
    Dismissed,
    /// Its loop has ended.
    Ended(Result<(), StartError>),
}

impl Why {
    fn ended(ended: Result<Ended, oneshot::error::RecvError>) -> Self {
        Self::Ended(match ended {
            Ok(Ended::Stopped) => Ok(()),
            Ok(Ended::Failed(reason)) => Err(StartError::Failed(reason)),
            Ok(Ended::Damaged(group, reason)) => Err(StartError::Damaged { group, reason }),
            Ok(Ended::Differs(group, reason)) => Err(StartError::Differs { group, reason }),
            Err(_) => Err(StartError::Failed("the event loop has panicked".to_owned())),
        })
    }
}

/// How long what this node leads may take to go elsewhere.
const RETIRE_MAX: Duration = Duration::from_secs(2);

/// How long clients may take for what they have asked, and to close idle connections.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// How long the gRPC server may take to end once everything is answered.
const GRPC_END_MAX: Duration = Duration::from_millis(100);

/// Takes leave, in this order: what is led here goes to other nodes; nothing new is taken in; what
/// was accepted is answered, and connections close when they have nothing to do.
async fn leave(node: &Shared, stop: &watch::Sender<bool>) {
    node.stopping.store(true, Ordering::Release);
    let (done, retired) = oneshot::channel();
    node.events.send(Input::Retire(done));
    if timeout(RETIRE_MAX, retired).await.is_err() {
        warn!("not everything that is led here could be handed over");
    }
    let _ = stop.send(true);
    node.registry.close_idle();
    if timeout(CLOSE_MAX, node.registry.all_ended()).await.is_err() {
        info!("connections are closed that were not idle");
    }
}

/// Starts the event loop: on the thread that serves the sockets if there is one such thread, so that
/// neither has to wake the other; else on a thread of its own.
fn start_loop(event_loop: EventLoop, ended: oneshot::Sender<Ended>) -> Result<(), StartError> {
    let run = async move {
        let _ = ended.send(event_loop.run().await);
    };
    let handle = tokio::runtime::Handle::current();
    if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::CurrentThread {
        tokio::spawn(run);
        return Ok(());
    }
    let own = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(StartError::Listener)?;
    spawn("events", move || own.block_on(run))
}

/// What one of `groups` keeps of its log in memory: what the settings say, but no more than its part
/// of what all may.
fn log_cache(settings: &Settings, budgets: &Budgets, groups: usize) -> u64 {
    const BYTES_MIN: u64 = 64 << 10;
    let bytes = settings.raft.log_cache_bytes;
    let part = budgets.log_cache / groups.max(1) as u64;
    bytes.min(part).max(BYTES_MIN.min(bytes))
}

/// What the log proves of each group.
type Proven = BTreeMap<GroupId, Recovered<Bytes>>;

type Replicas = BTreeMap<GroupId, (Member, Recovered<Bytes>)>;

/// Opens the log. A directory whose log is gone is refused: what it had promised is gone too.
fn open_log(
    settings: &Settings,
    directory: &mut Directory<RealDisk>,
    applied: &BTreeMap<GroupId, LogId>,
) -> Result<log::Opened<RealDisk>, StartError> {
    let path = directory.log_path();
    let is_there = std::fs::read_dir(&path).is_ok_and(|names| {
        names.flatten().any(|name| is_segment(&name.file_name().to_string_lossy()))
    });
    if !is_there && directory.note(LOG_BEGUN).is_some() {
        return Err(StartError::LogMissing(path));
    }
    let config = LogConfig {
        segment_bytes: settings.segment_bytes,
        ..LogConfig::new(directory.identity().incarnation)
    };
    let opened = Log::open_after(RealDisk, &path, config, applied)?;
    directory.set_note(LOG_BEGUN, "yes")?;
    Ok(opened)
}

/// The replicas that this directory holds. A founder's first start begins its groups; the log being
/// there, a group's absence from it means that this never happened, so nothing was promised yet.
fn found_groups(
    log: &mut Log<RealDisk>,
    recovered: Proven,
    directory: &mut Directory<RealDisk>,
) -> Result<Replicas, StartError> {
    let identity = directory.identity().clone();
    let me = |replica| Member::new(identity.node, identity.incarnation, replica);
    let mut replicas = Replicas::new();
    for (group, recovered) in recovered {
        let noted = directory.note(&replica_note(group)).and_then(|note| note.parse().ok());
        let replica = noted.map_or(FOUNDING_REPLICA, ReplicaId);
        if directory.is_removed(group, replica) {
            // A crash came between the tombstone and this.
            log.forget_group(group)?;
        } else {
            replicas.insert(group, (me(replica), recovered));
        }
    }
    let founder = me(FOUNDING_REPLICA);
    let initials: Vec<_> =
        directory.initials().map(|(group, members)| (group, members.to_vec())).collect();
    let founded: Vec<_> = initials
        .into_iter()
        .filter(|(group, initial)| {
            initial.contains(&founder)
                && !replicas.contains_key(group)
                && !directory.is_removed(*group, FOUNDING_REPLICA)
        })
        .collect();
    let ids: Vec<GroupId> = founded.iter().map(|(group, _)| *group).collect();
    directory.use_initials(&ids, FOUNDING_REPLICA)?;
    let mut bases = Vec::new();
    for (group, initial) in founded {
        let membership = Arc::new(Voters::new(initial, Vec::new()));
        let id = sharding::beginning(directory, group).map_or(LogId::ZERO, |_| BEGINS_AFTER);
        let base = Base { id, membership, ..Base::default() };
        bases.push((group, base.clone()));
        let recovered = Recovered { base: Some(base), ..Recovered::default() };
        replicas.insert(group, (founder, recovered));
    }
    log.create_groups(&bases)?;
    Ok(replicas)
}

/// The configuration in effect at `applied`, with the entry that holds it.
fn members_at(recovered: &Recovered<Bytes>, applied: LogId) -> (LogId, Arc<Voters>) {
    let base = recovered.base.clone().unwrap_or_default();
    let effective = recovered.memberships().take_while(|(id, _)| id.index <= applied.index).last();
    effective.map_or((base.membership_id, base.membership), |(id, membership)| {
        (id, Arc::clone(membership))
    })
}

fn open_engine(settings: &Settings, config: FjallConfig) -> Result<FjallEngine, StartError> {
    let path = settings.dir.join("state");
    let engine = FjallEngine::open(&path, config)?;
    for (group, Damage { path, detail }) in engine.damaged() {
        // Whether the log still has everything is judged when the group is opened.
        error!(%group, detail, path = %path.display(), "the state is damaged and was put aside");
    }
    Ok(engine)
}

/// What became of a group's state.
enum Found {
    Whole(Box<Machine<<FjallEngine as Engine>::Store>>, Recovered<Bytes>),
    /// The log does not reach back to where a state could begin.
    Lost(Recovered<Bytes>),
}

/// Name of the directory's note of what is wrong with the state of a group.
pub(crate) fn damage_note(group: GroupId) -> String {
    format!("damaged-{group}")
}

/// Name of the directory's note of how the state of a group differs from its leader's.
pub(crate) fn difference_note(group: GroupId) -> String {
    format!("differs-{group}")
}

fn note(directory: &Mutex<Directory<RealDisk>>, name: &str, reason: &str) {
    let mut directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
    let reason = reason.replace(['\n', '\r'], " ");
    if let Err(error) = directory.set_note(name, &reason) {
        warn!(name, %error, "cannot note what is wrong with a state");
    }
}

/// The state of a group, discarded if the log contradicts it (PROTOCOL 4c), with the log as it is
/// after an interrupted installation of a snapshot was carried to its end. `beginning` is what the
/// group began as, if it began with a steward.
fn open_machine(
    (engine, log, snapshots): (&mut FjallEngine, &mut Log<RealDisk>, &SnapshotFiles<RealDisk>),
    group: GroupId,
    recovered: Recovered<Bytes>,
    beginning: Option<Beginning>,
) -> Result<Found, StartError> {
    let (mut recovered, mut had_state) = (recovered, false);
    match engine
        .open_group(group)
        .map_err(StartError::from)
        .and_then(|store| sharding::machine(store).map_err(StartError::from))
    {
        Ok(machine) => {
            let applied = machine.applied();
            had_state = applied != LogId::ZERO;
            recovered = finish_install(log, snapshots, group, applied, recovered)?;
            let (base, last) = ends(&recovered);
            let is_same = recovered.term_at(applied.index).is_none_or(|term| term == applied.term);
            if fits(applied, base, last) && is_same {
                return Ok(Found::Whole(Box::new(machine), recovered));
            }
        }
        Err(error) => error!(%group, %error, "the state cannot be opened and is discarded"),
    }
    // It is made from the log, so that all of it is needed.
    let recovered = log.reload(group, recovered)?;
    let (base, last) = ends(&recovered);
    let beginning = beginning.filter(|_| base == BEGINS_AFTER);
    engine.drop_group(group)?;
    if base != LogId::ZERO && beginning.is_none() {
        return Ok(Found::Lost(recovered));
    }
    if base != last && had_state {
        warn!(%group, "the state does not fit the log and is rebuilt from it");
    }
    let mut store = engine.open_group(group)?;
    if let Some(beginning) = beginning {
        store = Machine::found(store, BEGINS_AFTER, &*beginning.steward())?;
    }
    Ok(Found::Whole(Box::new(sharding::machine(store)?), recovered))
}

/// The entry after which a log begins, and the one with which it ends.
fn ends(recovered: &Recovered<Bytes>) -> (LogId, LogId) {
    let base = recovered.base.as_ref().map_or(LogId::ZERO, |base| base.id);
    (base, recovered.last())
}

/// Where the other nodes are, as far as known: what was last seen, overridden by the settings.
fn known_peers(
    settings: &Settings,
    directory: &Arc<Mutex<Directory<RealDisk>>>,
    me: &NodeInfo,
) -> BTreeMap<NodeId, NodeInfo> {
    let founders: Vec<Member> = {
        let directory = directory.lock().unwrap_or_else(PoisonError::into_inner);
        directory.initials().flat_map(|(_, members)| members).copied().collect()
    };
    let mut known: BTreeMap<_, _> =
        peers_file::read(&settings.dir).into_iter().map(|peer| (peer.id, peer)).collect();
    for Member { node: id, incarnation, .. } in founders {
        known.entry(id).or_insert_with(|| NodeInfo { id, incarnation, ..NodeInfo::default() });
    }
    for (id, address) in &settings.peers {
        if let Some(peer) = known.get_mut(id) {
            peer.grpc.clone_from(address);
        }
    }
    known.retain(|id, peer| *id != me.id && !peer.grpc.is_empty());
    known
}

fn report_peer_events(node: Arc<Shared>) -> impl Fn(PeerEvent) + Send + Sync {
    move |event| match event {
        PeerEvent::Connected(node) => info!(%node, "connected to peer"),
        PeerEvent::Accepted(node) => info!(%node, "peer connected"),
        PeerEvent::Disconnected(node, why) => info!(%node, why, "no connection to peer"),
        PeerEvent::RefusedBy(node, why) => warn!(%node, why, "refused by peer"),
        PeerEvent::RemovedBy(peer, why) => {
            warn!(%peer, why, "refused by peer");
            node.dismiss();
        }
        PeerEvent::Refused(node, why) => warn!(%node, why, "peer refused"),
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(|_| ()).map_err(StartError::Listener)
}

/// Formats the directories of a new cluster whose nodes all are on this machine, each group with
/// `replicas` replicas. With `groups` of 0 or 1 there is one group with all slots, on the first
/// nodes; with more there is a controller, too, and the groups go round the nodes.
///
/// # Errors
/// If one of them is formatted already or cannot be written.
pub fn format_cluster(
    nodes: &[(NodeId, &Path)],
    replicas: usize,
    groups: usize,
) -> Result<(), StartError> {
    let random = || kontiki_storage::random_u64().map_err(StartError::Listener);
    let cluster = random()?;
    let mut members = Vec::new();
    for (node, dir) in nodes {
        let incarnation = Incarnation(random()?);
        Directory::format(&RealDisk, dir, Format { cluster, node: *node, incarnation })?;
        members.push(Member::new(*node, incarnation, FOUNDING_REPLICA));
    }
    // Known to every directory, so that also those without a replica know their cluster.
    for (_, dir) in nodes {
        let mut directory = Directory::open(RealDisk, dir, Expected::default())?;
        sharding::set_initials(&mut directory, &members, replicas, groups)?;
    }
    Ok(())
}

/// With what a store began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founded {
    /// The nodes with a replica of any group.
    pub nodes: BTreeSet<NodeId>,
    /// Data groups.
    pub groups: usize,
    /// Replicas of each of them.
    pub replicas: usize,
}

/// With what the store began to which a node's directory belongs. `None`: the directory is not
/// formatted, or belongs to a node that joined later and does not know. Can be called while the
/// node runs.
///
/// # Errors
/// If it cannot be read.
pub fn founded(dir: &Path) -> Result<Option<Founded>, StartError> {
    if !is_formatted(dir)? {
        return Ok(None);
    }
    let initials = Directory::founded(&RealDisk, dir)?;
    let data = || initials.iter().filter(|(group, _)| *group != CONTROLLER);
    let members = || initials.iter().flat_map(|(_, members)| members);
    Ok((!initials.is_empty()).then(|| Founded {
        nodes: members().map(|member| member.node).collect(),
        groups: data().count(),
        replicas: data().map(|(_, members)| members.len()).max().unwrap_or_default(),
    }))
}

/// Whether a node's directory is formatted.
///
/// # Errors
/// If it cannot be looked at.
pub fn is_formatted(dir: &Path) -> Result<bool, StartError> {
    Ok(Directory::is_formatted(&RealDisk, dir)?)
}
