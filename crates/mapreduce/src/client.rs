//! Whoever submits jobs to a coordinator.

use std::time::Duration;

use kontiki_storage::random_u64;
use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status};

use crate::access::{Authenticated, Security};
use crate::coordinators::Coordinators;
use crate::description::Description;
use crate::proto::coordinator_client::CoordinatorClient;
use crate::proto::{
    JobId, JobStatus, MapOutputsRequest, StatusRequest, SubmitRequest, WaitRequest,
};
use crate::store;
use crate::worker::{MapOutputs, Others};

/// Between two tries to reach the coordinator.
const RETRY: Duration = Duration::from_millis(100);
/// How long one coordinator may take over a call.
const CALL: Duration = Duration::from_secs(30);
/// How long it may take over one that waits, which it ends after 5 s.
const WAIT: Duration = Duration::from_secs(10);

type Coordinator = CoordinatorClient<Authenticated>;

/// The state of a job that ended well, in a [`JobStatus`]; 0 is one that has not ended.
pub const JOB_DONE: u32 = 1;

/// How a job is to be treated.
#[derive(Clone, Debug)]
pub struct SubmitOptions {
    /// For people.
    pub name: String,
    /// A task that failed this often fails the job. From 1.
    pub failures_max: u32,
    /// Records on which user code fails again and again are left out.
    pub skip_bad_records: bool,
    /// How long the coordinator may not be reached before that is an error.
    pub patience: Duration,
}

impl Default for SubmitOptions {
    /// Four failures, none skipped, a minute of patience.
    fn default() -> Self {
        let patience = Duration::from_secs(60);
        Self { name: "job".to_owned(), failures_max: 4, skip_bad_records: false, patience }
    }
}

/// What a coordinator said, or that it did not.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be one.
    #[error("{0}")]
    Address(String),
    /// It was not reached for too long.
    #[error("the coordinator at {url} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// What was last seen.
        why: String,
    },
    /// It refused.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// It does not know the job.
    #[error("the coordinator does not know the job")]
    NoJob,
    /// The operating system refused something.
    #[error("the job cannot be submitted")]
    Local(#[from] std::io::Error),
}

/// A connection to a coordinator, which may die and come back.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    coordinators: Coordinators,
    security: Security,
}

impl Client {
    /// A client of the coordinator at `url`, `http://HOST:PORT`; several, if others stand by, with commas
    /// between. To be called on a tokio runtime;
    /// connects when it is used.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::with(url, &Security::default())
    }

    /// A client that shows what `security` has: the secret, else the password.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn with(url: &str, security: &Security) -> Result<Self, ClientError> {
        let token = security.secret.as_ref().or(security.password.as_ref());
        let coordinators = Coordinators::at(url, token, security.tls.as_ref());
        let coordinators = coordinators.map_err(ClientError::Address)?;
        Ok(Self { url: url.to_owned(), coordinators, security: security.clone() })
    }

    /// Submits a job, once however often it has to be tried.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn submit(
        &self,
        description: &Description,
        options: &SubmitOptions,
    ) -> Result<u64, ClientError> {
        let payload = description.encode().map_err(std::io::Error::from)?;
        let request = SubmitRequest {
            name: options.name.clone(),
            maps: description.maps.len() as u32,
            reduces: description.reduces,
            failures_max: options.failures_max,
            skip_bad_records: options.skip_bad_records,
            token: random_u64()? | 1,
            payload: payload.into(),
        };
        let begun = std::time::Instant::now();
        loop {
            let request = request.clone();
            let submit = async |mut at: Coordinator| at.submit(request.clone()).await;
            match self.call(CALL, submit).await {
                Ok(job) => return Ok(job.job),
                Err(ClientError::Unreachable { .. }) if begun.elapsed() < options.patience => {}
                Err(error) => return Err(error),
            }
            sleep(RETRY).await;
        }
    }

    /// Waits until the job has ended, at most for `time` and at most 5 s: how it is then.
    ///
    /// # Errors
    /// See [`ClientError`]; it may be tried again after [`ClientError::Unreachable`].
    pub async fn wait(&self, job: u64, time: Duration) -> Result<JobStatus, ClientError> {
        let milliseconds = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let request = WaitRequest { job, milliseconds };
        self.call(WAIT, async |mut at: Coordinator| at.wait(request).await).await
    }

    /// Submits a job and waits for its end, while the coordinator may die and come back. Then what
    /// its reduces left is removed, and the output, too, unless the job ended well.
    ///
    /// # Errors
    /// See [`ClientError`]. A job that did not end well is none: its state says so.
    pub async fn run(
        &self,
        description: &Description,
        options: &SubmitOptions,
    ) -> Result<JobStatus, ClientError> {
        let _views = store::keep(&description.maps, true);
        let fenced = description.clone();
        let fenced = tokio::task::spawn_blocking(move || fenced.fenced()).await;
        let description = &fenced.map_err(std::io::Error::other)??;
        let job = self.submit(description, options).await?;
        let mut reached = std::time::Instant::now();
        let ended = loop {
            match self.wait(job, Duration::from_secs(5)).await {
                Ok(status) if status.state != 0 => break Ok(status),
                Ok(_) => reached = std::time::Instant::now(),
                Err(ClientError::Unreachable { .. }) if reached.elapsed() < options.patience => {
                    sleep(RETRY).await;
                }
                Err(error) => break Err(error),
            }
        };
        let is_done = ended.as_ref().is_ok_and(|status| status.state == JOB_DONE);
        let (work, outputs) = (description.work(), description.outputs());
        let destination = description.destination();
        let cleaned = tokio::task::spawn_blocking(move || {
            if let Some(work) = work {
                // What stays there is of no use, and its name says so.
                let _ = std::fs::remove_dir_all(work);
            }
            if let Ok(destination) = destination {
                // Nobody writes any more: what stays of the fence does no harm.
                let _ = destination.end(outputs);
                if !is_done {
                    destination.remove_outputs(outputs);
                }
            }
        });
        let _ = cleaned.await;
        ended
    }

    /// Ends a job.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn cancel(&self, job: u64) -> Result<JobStatus, ClientError> {
        self.call(CALL, async |mut at: Coordinator| at.cancel(JobId { job }).await).await
    }

    /// Everything that the coordinator knows, as JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<String, ClientError> {
        let status = async |mut at: Coordinator| at.status(StatusRequest {}).await;
        Ok(self.call(CALL, status).await?.json)
    }

    /// The map outputs of a job that goes on, to be read from other threads than the runtime's. Needs
    /// the secret, if there is one.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn map_outputs(&self, job: u64) -> Result<MapOutputs, ClientError> {
        let request = MapOutputsRequest { job, since: 0 };
        let outputs = async |mut at: Coordinator| at.map_outputs(request).await;
        let reply = self.call(CALL, outputs).await?;
        Ok(MapOutputs::new(Others::new(self.security.clone()), job, reply))
    }

    /// Asks each coordinator at most once, for so long, until one answers.
    async fn call<T>(
        &self,
        patience: Duration,
        call: impl AsyncFn(Coordinator) -> Result<Response<T>, Status>,
    ) -> Result<T, ClientError> {
        let mut left = self.coordinators.count();
        loop {
            let place = self.coordinators.place();
            let answer = timeout(patience, call(self.coordinators.current())).await;
            let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
            let status = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            self.coordinators.answered(place, status.code());
            let why = self.transient(status)?;
            left -= 1;
            if left == 0 {
                return Err(ClientError::Unreachable { url: self.url.clone(), why });
            }
        }
    }

    /// What was seen, if it may be otherwise the next time.
    fn transient(&self, status: Status) -> Result<String, ClientError> {
        match status.code() {
            Code::NotFound => Err(ClientError::NoJob),
            Code::InvalidArgument
            | Code::Unimplemented
            | Code::OutOfRange
            | Code::Unauthenticated => Err(ClientError::Refused(status.message().to_owned())),
            _ => {
                let mut text = status.message().to_owned();
                let mut cause = std::error::Error::source(&status);
                while let Some(error) = cause {
                    text = error.to_string();
                    cause = error.source();
                }
                Ok(text)
            }
        }
    }
}
