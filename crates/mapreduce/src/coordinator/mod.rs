//! A running coordinator: the scheduler on a thread of its own, its journal, gRPC and HTTP.

mod core;
mod http;
mod service;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kontiki_net::{Limits, serve_routes};
use kontiki_schedule::{Config, NoJournal, Record, RecoverError, Scheduler};
use kontiki_storage::random_u64;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::service::Routes;

use self::core::CoreHandle;
pub(crate) use self::core::now;
use crate::access::Security;
use crate::journal::{AnyJournal, DiskJournal, JournalError, StoreJournal};
use crate::proto::MESSAGE_BYTES_MAX;
use crate::proto::coordinator_server::CoordinatorServer;
use service::Service;

/// How long a coordinator that stops may take to say so in its journal.
const STOP: Duration = Duration::from_secs(2);

/// How a coordinator is run.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Where the history of jobs is and, unless that is in a store, the journal. Without it the jobs die with
    /// the process.
    pub directory: Option<PathBuf>,
    /// Where workers and clients connect. Port 0: any free one.
    pub listen: SocketAddr,
    /// Where the status page and the metrics are, if they are wanted.
    pub http: Option<SocketAddr>,
    /// How it schedules.
    pub schedule: Config,
    /// What it asks of workers and clients.
    pub security: Security,
}

/// Why a coordinator cannot start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal contradicts itself.
    #[error("the journal in {journal} cannot be followed: {source}")]
    Recover {
        /// Where.
        journal: String,
        /// What is wrong.
        source: RecoverError,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The operating system refused something else.
    #[error("the coordinator cannot start")]
    Start(#[source] io::Error),
}

/// A running coordinator. It ends when it is dropped.
pub struct Coordinator {
    address: SocketAddr,
    http: Option<SocketAddr>,
    failure: oneshot::Receiver<JournalError>,
    core: CoreHandle,
    /// Dropped, it ends the gRPC server and its connections.
    _stop: oneshot::Sender<()>,
    http_server: Option<JoinHandle<()>>,
}

impl Coordinator {
    /// Opens the journal, goes on where it ends, and serves. To be called on a tokio runtime.
    ///
    /// # Errors
    /// See [`CoordinatorError`].
    pub fn start(config: CoordinatorConfig) -> Result<Self, CoordinatorError> {
        let CoordinatorConfig { directory, schedule, .. } = config.clone();
        let front = Front::open(config)?;
        let Some(directory) = directory else {
            let seed = random_u64().map_err(CoordinatorError::Start)?;
            let scheduler = Scheduler::new(schedule, seed, now());
            return front.lead(scheduler, AnyJournal::None(NoJournal));
        };
        let (mut journal, records) = DiskJournal::open(&directory)?;
        let scheduler = recover(schedule, records, &directory.display().to_string())?;
        journal.replace(&scheduler.checkpoint())?;
        front.lead(scheduler, AnyJournal::Disk(Box::new(journal)))
    }

    /// The same with a journal in a store, `kontiki://HOST:PORT/PREFIX`: stands by as long as another
    /// coordinator has it, and goes on where that one ended once it has not shown itself for the
    /// takeover time that it set; this one sets `takeover`. `stands_by` hears where this one listens
    /// and which one it waits for, each time that it is another one.
    ///
    /// # Errors
    /// See [`CoordinatorError`].
    ///
    /// # Cancel safety
    /// Cancel safe: it stands by no more.
    pub async fn stand_by(
        config: CoordinatorConfig,
        url: &[u8],
        takeover: Duration,
        mut stands_by: impl FnMut(SocketAddr, &str),
    ) -> Result<Self, CoordinatorError> {
        let schedule = config.schedule.clone();
        let front = Front::open(config)?;
        let address = front.address;
        let tell = |other: &str| stands_by(address, other);
        let mut journal = StoreJournal::take(url, &address.to_string(), takeover, tell).await?;
        let records = journal.records().await?;
        let scheduler = recover(schedule, records, &String::from_utf8_lossy(url))?;
        journal.replace(&scheduler.checkpoint()).await?;
        front.lead(scheduler, AnyJournal::Store(Box::new(journal)))
    }

    /// Where workers and clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the status page is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Ends the coordinator, so that one that stands by need not wait.
    ///
    /// # Cancel safety
    /// It ends all the same.
    pub async fn stop(mut self) {
        let _ = self.core.send(|core, _| core.stop());
        // The other end is dropped with the thread.
        let _ = timeout(STOP, &mut self.failure).await;
    }

    /// Waits until the coordinator cannot go on: its journal failed, and what is durable is not
    /// known. The process should end, and be started again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn failed(&mut self) -> Option<CoordinatorError> {
        (&mut self.failure).await.ok().map(CoordinatorError::Journal)
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // If it has too much to do to hear this, it ends with the last connection.
        let _ = self.core.send(|core, _| core.stop());
        if let Some(server) = &self.http_server {
            server.abort();
        }
    }
}

/// The sockets of a coordinator, also of one that does not lead yet: it says so.
struct Front {
    address: SocketAddr,
    http: Option<(SocketAddr, tokio::net::TcpListener)>,
    history: Option<PathBuf>,
    core: Arc<OnceLock<CoreHandle>>,
    stop: oneshot::Sender<()>,
}

impl Front {
    fn open(config: CoordinatorConfig) -> Result<Self, CoordinatorError> {
        let listener = listen(config.listen)?;
        let address = listener.local_addr().map_err(CoordinatorError::Start)?;
        let http = config.http.map(listen).transpose()?.map(from_std).transpose()?;
        let history = config.directory.map(|directory| directory.join("history"));
        if let Some(history) = &history {
            std::fs::create_dir_all(history).map_err(CoordinatorError::Start)?;
        }
        let core = Arc::<OnceLock<CoreHandle>>::default();
        let service = Service { core: Arc::clone(&core), lease: config.schedule.lease };
        let service = CoordinatorServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            let (routes, limits) = (Routes::new(service), Limits::default());
            let served = serve_routes(listener, routes, &config.security, &limits, stopped).await;
            if let Err(error) = served {
                tracing::error!(%error, "the gRPC server ended");
            }
        });
        Ok(Self { address, http, history, core, stop })
    }

    /// Leads from now on.
    fn lead(
        self,
        scheduler: Scheduler,
        journal: AnyJournal,
    ) -> Result<Coordinator, CoordinatorError> {
        let started = core::start(scheduler, journal, self.history.clone());
        let (core, failure) = started.map_err(CoordinatorError::Start)?;
        let _ = self.core.set(core.clone());
        let http = self.http.as_ref().map(|(address, _)| *address);
        let pages = |(_, listener)| tokio::spawn(http::serve(listener, core.clone(), self.history));
        let http_server = self.http.map(pages);
        Ok(Coordinator {
            address: self.address,
            http,
            failure,
            core,
            _stop: self.stop,
            http_server,
        })
    }
}

/// A scheduler that goes on where a journal ends.
fn recover(
    schedule: Config,
    records: Vec<Record>,
    journal: &str,
) -> Result<Scheduler, CoordinatorError> {
    let seed = random_u64().map_err(CoordinatorError::Start)?;
    let scheduler = Scheduler::recover(schedule, seed, records, now());
    scheduler.map_err(|source| CoordinatorError::Recover { journal: journal.to_owned(), source })
}

fn listen(address: SocketAddr) -> Result<TcpListener, CoordinatorError> {
    let failed = |source| CoordinatorError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn from_std(
    listener: TcpListener,
) -> Result<(SocketAddr, tokio::net::TcpListener), CoordinatorError> {
    let address = listener.local_addr().map_err(CoordinatorError::Start)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(CoordinatorError::Start)?;
    Ok((address, listener))
}
