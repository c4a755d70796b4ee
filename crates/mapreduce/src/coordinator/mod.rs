//! A running coordinator: the scheduler on a thread of its own, its journal, gRPC and HTTP.

mod core;
mod http;
mod service;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use kontiki_net::{Limits, serve_routes};
use kontiki_schedule::{Config, NoJournal, RecoverError, Scheduler};
use kontiki_storage::random_u64;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use self::core::CoreHandle;
pub(crate) use self::core::now;
use crate::access::Security;
use crate::journal::{AnyJournal, DiskJournal, JournalError};
use crate::proto::MESSAGE_BYTES_MAX;
use crate::proto::coordinator_server::CoordinatorServer;
use service::Service;

/// How a coordinator is run.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// Where the journal and the history of jobs are. Without it the jobs die with the process.
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
    #[error("the journal in {directory} cannot be followed: {source}")]
    Recover {
        /// Where.
        directory: PathBuf,
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
        let listener = listen(config.listen)?;
        let http = config.http.map(listen).transpose()?;
        let seed = random_u64().map_err(CoordinatorError::Start)?;
        let lease = config.schedule.lease;
        let (scheduler, journal, history) = match config.directory {
            None => {
                let scheduler = Scheduler::new(config.schedule, seed, now());
                (scheduler, AnyJournal::None(NoJournal), None)
            }
            Some(directory) => {
                let (mut journal, records) = DiskJournal::open(&directory)?;
                let scheduler = Scheduler::recover(config.schedule, seed, records, now());
                let scheduler = scheduler.map_err(|source| CoordinatorError::Recover {
                    directory: directory.clone(),
                    source,
                })?;
                journal.replace(&scheduler.checkpoint())?;
                let history = directory.join("history");
                std::fs::create_dir_all(&history).map_err(CoordinatorError::Start)?;
                (scheduler, AnyJournal::Disk(Box::new(journal)), Some(history))
            }
        };
        let (core, failure) =
            core::start(scheduler, journal, history.clone()).map_err(CoordinatorError::Start)?;
        let address = listener.local_addr().map_err(CoordinatorError::Start)?;
        let service = CoordinatorServer::new(Service { core: core.clone(), lease })
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
        let http = http.map(from_std).transpose()?;
        let http_address = http.as_ref().map(|(address, _)| *address);
        let http_server =
            http.map(|(_, listener)| tokio::spawn(http::serve(listener, core.clone(), history)));
        Ok(Self { address, http: http_address, failure, core, _stop: stop, http_server })
    }

    /// Where workers and clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the status page is.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
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
