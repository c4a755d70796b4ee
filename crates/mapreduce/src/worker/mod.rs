//! A running worker: it pulls tasks, runs them on threads of their own, serves its map outputs, and
//! says that it lives, on threads that user code never sees.

mod attempts;
mod books;
mod fetch;
mod folder;
mod shuffle_service;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kontiki_net::{Limits, serve_routes};
use kontiki_schedule::{AttemptRef, JobId, Report, SLOTS_MAX, Verdict};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::access::{Authenticated, Security, connect};
use crate::coordinator::now;
use crate::coordinators::Coordinators;
use crate::description::Description;
use crate::error::TaskError;
use crate::jobs::Jobs;
use crate::proto::shuffle_client::ShuffleClient;
use crate::proto::shuffle_server::ShuffleServer;
use crate::proto::{
    self, Heard, MESSAGE_BYTES_MAX, MapOutputsRequest, PullRequest, RegisterRequest, ReportRequest,
    assignment_from, attempt_from, attempt_to, held_to, report_to, sign_to, verdict_from,
};
use crate::store::{self, KeptViews};
use crate::task::{MEMORY_BYTES_MIN, Program};
use books::{Books, Watch};
pub use fetch::MapOutputs;
use fetch::Places;
use folder::Folder;

/// Between two tries to reach the coordinator.
const RETRY: Duration = Duration::from_millis(100);
/// No call takes longer: the coordinator lets none wait for more than 5 s.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a coordinator may take to answer a registration at the least.
const REGISTER: Duration = Duration::from_secs(2);
/// Between two looks whether jobs have ended whose outputs are still here.
const CLEAN: Duration = Duration::from_secs(5);

/// How a worker is run.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The coordinator's address, as `http://HOST:PORT`; several, if others stand by, with commas between.
    pub coordinator: String,
    /// For map outputs; made if it is not there. One worker at a time.
    pub directory: PathBuf,
    /// Where others get map outputs. Port 0: any free one.
    pub listen: SocketAddr,
    /// How others reach that, as `HOST:PORT`, if not by that address itself.
    pub advertise: Option<String>,
    /// Attempts at once.
    pub slots: u32,
    /// Memory for the buffers of all attempts together.
    pub memory_bytes: u64,
    /// The worker ends when it has not reached the coordinator for so long. `None`: never.
    pub patience: Option<Duration>,
    /// What it shows to the coordinator and to other workers, and asks of them.
    pub security: Security,
}

/// Why a worker cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(String),
    /// The folder cannot be used.
    #[error("cannot use the folder {directory}")]
    Folder {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another worker uses the folder.
    #[error("another worker runs in {0}")]
    Locked(PathBuf),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The coordinator does not want this worker: it is of another version, for example.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// The coordinator was not reached for as long as was allowed.
    #[error("the coordinator at {url} was not reached for {} s", .patience.as_secs_f64())]
    Alone {
        /// Where it should be.
        url: String,
        /// What was allowed.
        patience: Duration,
    },
}

/// What all parts of a worker share.
struct Shared {
    books: Books,
    folder: Folder,
    others: Others,
    coordinators: Coordinators,
    address: String,
    slots: u32,
    /// Of each attempt.
    memory_bytes: u64,
    slot_freed: Notify,
    programs: Jobs,
    jobs: Mutex<BTreeMap<JobId, Arc<OnceCell<Arc<JobOfWorker>>>>>,
    places: Mutex<BTreeMap<JobId, Arc<Places>>>,
    /// Grows with each registration.
    registrations: AtomicU64,
    registering: tokio::sync::Mutex<()>,
    lease_micros: AtomicU64,
    stopping: AtomicBool,
    refused: watch::Sender<Option<String>>,
}

/// A job as a worker knows it.
struct JobOfWorker {
    description: Description,
    program: Arc<dyn Program>,
    /// What its maps read may be needed again.
    _views: KeptViews,
}

/// Connections to workers.
pub(crate) struct Others {
    channels: Mutex<BTreeMap<String, Authenticated>>,
    security: Security,
}

impl Others {
    pub(crate) fn new(security: Security) -> Self {
        Self { channels: Mutex::default(), security }
    }

    fn client(&self, address: &str) -> Result<ShuffleClient<Authenticated>, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let Security { secret, tls, .. } = &self.security;
                let channel = connect(address, secret.as_ref(), tls.as_ref())
                    .map_err(Status::invalid_argument)?;
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(ShuffleClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

/// A worker that can run.
pub struct Worker {
    shared: Arc<Shared>,
    listener: std::net::TcpListener,
    security: Security,
    refused: watch::Receiver<Option<String>>,
    url: String,
    patience: Option<Duration>,
}

impl Worker {
    /// Opens the folder and the listener, of a worker that runs built-in jobs, commands, and `jobs`.
    /// To be called on a tokio runtime.
    ///
    /// # Errors
    /// See [`WorkerError`].
    pub fn open(config: WorkerConfig, jobs: Jobs) -> Result<Self, WorkerError> {
        if !(1..=SLOTS_MAX).contains(&config.slots) {
            return Err(WorkerError::Setting(format!("slots are from 1 to {SLOTS_MAX}")));
        }
        let memory_bytes = config.memory_bytes / u64::from(config.slots);
        if memory_bytes < MEMORY_BYTES_MIN {
            let least = MEMORY_BYTES_MIN >> 20;
            let text = format!("each slot needs {least} MiB of memory at least");
            return Err(WorkerError::Setting(text));
        }
        let directory = config.directory.clone();
        let failed = |source| WorkerError::Folder { directory: directory.clone(), source };
        let folder = Folder::open(&config.directory).map_err(failed)?;
        let folder = folder.ok_or_else(|| WorkerError::Locked(config.directory.clone()))?;
        let held = folder.held().map_err(failed)?;
        let books = Books::new(folder.worker, folder.life, held);
        let failed = |source| WorkerError::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let Security { secret, tls, .. } = &config.security;
        if tls.as_ref().is_some_and(|tls| tls.identity.is_none()) {
            let text = "TLS of a worker needs a certificate and its key".to_owned();
            return Err(WorkerError::Setting(text));
        }
        let coordinators = Coordinators::at(&config.coordinator, secret.as_ref(), tls.as_ref())
            .map_err(WorkerError::Setting)?;
        let (refused, receiver) = watch::channel(None);
        let shared = Arc::new(Shared {
            books,
            folder,
            others: Others::new(config.security.clone()),
            coordinators,
            address: config.advertise.unwrap_or_else(|| local.to_string()),
            slots: config.slots,
            memory_bytes,
            slot_freed: Notify::new(),
            programs: jobs,
            jobs: Mutex::default(),
            places: Mutex::default(),
            registrations: AtomicU64::new(0),
            registering: tokio::sync::Mutex::new(()),
            lease_micros: AtomicU64::new(1_000_000),
            stopping: AtomicBool::new(false),
            refused,
        });
        let (url, patience) = (config.coordinator, config.patience);
        let security = config.security;
        Ok(Self { shared, listener, security, refused: receiver, url, patience })
    }

    /// Where others get map outputs.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// Works until `stop` is ready, then takes its leave.
    ///
    /// # Errors
    /// [`WorkerError::Refused`], [`WorkerError::Alone`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the worker as if its process had been killed, but for threads with
    /// attempts, which go on.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        let shared = Arc::clone(&self.shared);
        let service = ShuffleServer::new(shuffle_service::Outputs(Arc::clone(&shared)))
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (listener, security) = (self.listener, self.security);
        let serving = tokio::spawn(async move {
            let forever = std::future::pending();
            let routes = Routes::new(service);
            let served =
                serve_routes(listener, routes, &security, &Limits::default(), forever).await;
            if let Err(error) = served {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
        let beating = tokio::spawn(Arc::clone(&shared).beat());
        let pulling = tokio::spawn(Arc::clone(&shared).pull());
        let cleaning = tokio::spawn(Arc::clone(&shared).clean());
        let refused = async {
            loop {
                let reason = self.refused.borrow_and_update().clone();
                if let Some(reason) = reason {
                    return reason;
                }
                if self.refused.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let (url, patience) = (self.url, self.patience);
        let ended = tokio::select! {
            () = stop => Ok(()),
            reason = refused => Err(WorkerError::Refused(reason)),
            patience = shared.alone(patience) => Err(WorkerError::Alone { url, patience }),
        };
        shared.stopping.store(true, SeqCst);
        for task in [beating, pulling, cleaning] {
            task.abort();
        }
        serving.abort();
        ended?;
        let sign = proto::Sign { running: Vec::new(), ..sign_to(&shared.books.sign()) };
        // If it does not get there, the lease says the same later.
        let _ = timeout(Duration::from_secs(1), shared.coordinators.current().leave(sign)).await;
        Ok(())
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    fn lease(&self) -> Duration {
        Duration::from_micros(self.lease_micros.load(SeqCst))
    }

    /// Sends heartbeats.
    async fn beat(self: Arc<Self>) {
        self.register_again().await;
        loop {
            sleep(self.lease() / 10).await;
            let asked = now();
            let sign = sign_to(&self.books.sign());
            let mut coordinator = self.coordinators.current();
            match self.call_within(self.at_once(), coordinator.heartbeat(sign)).await {
                Ok(heard) => self.heard(&heard, asked),
                Err(status) if status.code() == Code::FailedPrecondition => {
                    self.register_again().await;
                }
                // It may be down; it is asked again.
                Err(_) => {}
            }
        }
    }

    /// Returns once the coordinator has not been reached for as long as is allowed.
    async fn alone(&self, patience: Option<Duration>) -> Duration {
        let Some(patience) = patience else { return std::future::pending().await };
        let begun = now();
        loop {
            let since = self.books.heard_at().max(begun);
            let left = patience.saturating_sub(now().since(since));
            if left.is_zero() {
                return patience;
            }
            sleep(left).await;
        }
    }

    /// Takes what there is to do.
    async fn pull(self: Arc<Self>) {
        self.registered().await;
        loop {
            let free = (self.slots as usize).saturating_sub(self.books.running());
            if free == 0 {
                self.slot_freed.notified().await;
                continue;
            }
            let sign = sign_to(&self.books.sign());
            let request = PullRequest { sign: Some(sign), free: free as u32 };
            match self.call(self.coordinators.current().pull(request)).await {
                Ok(reply) => {
                    for assignment in reply.assignments.iter().filter_map(assignment_from) {
                        let is_probe = assignment.work != kontiki_schedule::Work::Run;
                        let watch = Watch::new(is_probe);
                        if let Some(watch) = self.books.begin(assignment.attempt, watch) {
                            tokio::spawn(attempts::run(Arc::clone(&self), assignment, watch));
                        }
                    }
                }
                Err(status) if status.code() == Code::FailedPrecondition => {
                    self.register_again().await;
                }
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// Forgets jobs that have ended, and removes their outputs.
    async fn clean(self: Arc<Self>) {
        loop {
            sleep(CLEAN).await;
            let known: Vec<JobId> = {
                let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
                jobs.keys().copied().collect()
            };
            for job in self.books.idle_jobs(known) {
                let request = MapOutputsRequest { job: job.0, since: u64::MAX };
                let reply = self.call(self.coordinators.current().map_outputs(request)).await;
                if reply.is_err_and(|status| status.code() == Code::NotFound) {
                    self.books.drop_job(job);
                    self.folder.remove_job(job);
                    self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
                    self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
                }
            }
        }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.call_within(PATIENCE, call).await
    }

    async fn call_within<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let place = self.coordinators.place();
        let answer = timeout(patience, call).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        if let Err(status) = &answer {
            self.coordinators.answered(place, status.code());
        }
        answer.map(tonic::Response::into_inner)
    }

    /// How long to wait for an answer to what is answered at once: there must be time to ask another
    /// coordinator before the lease is over.
    fn at_once(&self) -> Duration {
        (self.lease() / 3).clamp(Duration::from_millis(500), PATIENCE)
    }

    fn heard(&self, heard: &Heard, asked: kontiki_types::Instant) {
        let lease = Duration::from_millis(heard.lease_milliseconds.clamp(100, 3_600_000));
        self.lease_micros.store(lease.as_micros() as u64, SeqCst);
        self.books.heard(asked, lease);
        for of in heard.cancel.iter().map(attempt_from) {
            // A running attempt notices by itself.
            if !self.books.cancel(&of) {
                self.drop_output(&of);
            }
        }
    }

    fn drop_output(&self, of: &AttemptRef) {
        if self.books.drop_output(of) {
            self.folder.remove(of);
        }
    }

    async fn registered(&self) {
        while self.registrations.load(SeqCst) == 0 {
            self.register_again().await;
        }
    }

    /// Registers, unless somebody else did meanwhile. Returns when it is done, or refused.
    async fn register_again(&self) {
        let before = self.registrations.load(SeqCst);
        let _one_at_a_time = self.registering.lock().await;
        while self.registrations.load(SeqCst) == before {
            let asked = now();
            let request = RegisterRequest {
                sign: Some(sign_to(&self.books.sign())),
                address: self.address.clone(),
                slots: self.slots,
                held: self.books.held().iter().map(held_to).collect(),
                version: proto::VERSION.to_owned(),
            };
            let mut coordinator = self.coordinators.current();
            // It may have much to take in.
            let patience = self.at_once().max(REGISTER);
            match self.call_within(patience, coordinator.register(request)).await {
                Ok(heard) => {
                    // First, so that nobody takes a grant from before for one of the new lease.
                    self.registrations.fetch_add(1, SeqCst);
                    self.heard(&heard, asked);
                }
                Err(status)
                    if matches!(
                        status.code(),
                        Code::Unimplemented | Code::Aborted | Code::Unauthenticated
                    ) =>
                {
                    self.refused.send_replace(Some(status.message().to_owned()));
                    std::future::pending::<()>().await;
                }
                Err(_) => sleep(RETRY / 2).await,
            }
        }
    }

    /// One try to report. `None`: no verdict yet, or the coordinator was not reached.
    async fn report(&self, of: AttemptRef, report: &Report) -> Option<Verdict> {
        let request = ReportRequest {
            worker: self.books.worker.0,
            life: self.books.life.0,
            attempt: Some(attempt_to(&of)),
            report: Some(report_to(report)),
        };
        let reply = self.call(self.coordinators.current().report(request)).await.ok()?;
        verdict_from(reply.verdict)
    }

    /// What a job is; asked for once.
    async fn job(&self, job: JobId) -> Result<Arc<JobOfWorker>, TaskError> {
        let cell = {
            let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(jobs.entry(job).or_default())
        };
        let ask = || async {
            let request = proto::JobId { job: job.0 };
            let description = loop {
                match self.call(self.coordinators.current().describe(request)).await {
                    Ok(description) => break description,
                    Err(status) if status.code() == Code::NotFound => {
                        return Err(TaskError::Cancelled);
                    }
                    Err(_) => sleep(RETRY).await,
                }
            };
            let description = Description::decode(&description.payload).map_err(|error| {
                TaskError::user(format!("the description of the job is not understood: {error}"))
            })?;
            let program = self.programs.program(&description.application)?;
            let _views = store::keep(&description.maps, false);
            Ok(Arc::new(JobOfWorker { description, program, _views }))
        };
        cell.get_or_try_init(ask).await.map(Arc::clone)
    }

    /// Where the outputs of the job's maps are, as far as is known.
    fn places(&self, job: JobId) -> Arc<Places> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(job).or_default())
    }

    /// Where the outputs of the job's maps are, known at least up to this position of the list.
    async fn learn_places(
        &self,
        job: JobId,
        outputs: u64,
        watch: &Watch,
    ) -> Result<Arc<Places>, TaskError> {
        loop {
            let known = self.places(job);
            if known.next >= outputs {
                return Ok(known);
            }
            if crate::task::Monitor::is_cancelled(watch) {
                return Err(TaskError::Cancelled);
            }
            let request = MapOutputsRequest { job: job.0, since: known.next };
            match self.call(self.coordinators.current().map_outputs(request)).await {
                Ok(reply) => {
                    let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
                    let current = places.entry(job).or_default();
                    if current.next == known.next {
                        Arc::make_mut(current).learn(reply);
                    }
                }
                Err(status) if status.code() == Code::NotFound => return Err(TaskError::Cancelled),
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}
