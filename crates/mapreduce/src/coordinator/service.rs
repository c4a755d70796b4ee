//! The coordinator's gRPC service: each call is a question to the thread that owns the scheduler.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kontiki_schedule::{JobId, JobSpec, Life, Registration, UnknownWorker, WorkerId};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::core::{CoreHandle, NoAnswer};
use crate::proto::coordinator_server::Coordinator;
use crate::proto::{
    self, Heard, JobDescription, JobStatus, MapOutputsReply, MapOutputsRequest, PullReply,
    PullRequest, RegisterRequest, ReportReply, ReportRequest, Sign, StatusReply, StatusRequest,
    SubmitRequest, WaitRequest, assignment_to, attempt_from, attempt_to, held_from, report_from,
    sign_from, status_to, verdict_to,
};
use crate::status;

/// How long a call waits for work or for a verdict at the most.
const WAIT_MAX: Duration = Duration::from_secs(5);

pub(super) struct Service {
    /// Set once this coordinator leads.
    pub(super) core: Arc<OnceLock<CoreHandle>>,
    pub(super) lease: Duration,
}

type Answer<T> = Result<Response<T>, Status>;

fn no_answer(error: NoAnswer) -> Status {
    match error {
        NoAnswer::Busy => Status::resource_exhausted("the coordinator has too much to do"),
        NoAnswer::Ended => Status::unavailable("the coordinator ends"),
    }
}

fn unknown(_: UnknownWorker) -> Status {
    Status::failed_precondition("the worker is not registered")
}

fn incomplete() -> Status {
    Status::invalid_argument("a part of the message is missing")
}

fn no_job() -> Status {
    Status::not_found("there is no such job")
}

impl Service {
    fn core(&self) -> Result<&CoreHandle, Status> {
        let standing_by = || Status::unavailable("this coordinator stands by");
        self.core.get().ok_or_else(standing_by)
    }

    fn heard(&self, heard: &kontiki_schedule::Heard) -> Heard {
        let cancel = heard.cancel.iter().map(attempt_to).collect();
        Heard { cancel, lease_milliseconds: self.lease.as_millis() as u64 }
    }
}

#[tonic::async_trait]
impl Coordinator for Service {
    async fn submit(&self, request: Request<SubmitRequest>) -> Answer<proto::JobId> {
        let request = request.into_inner();
        let spec = JobSpec {
            name: request.name,
            maps: request.maps,
            reduces: request.reduces,
            failures_max: request.failures_max,
            skip_bad_records: request.skip_bad_records,
            token: request.token,
            payload: request.payload.to_vec(),
        };
        let (sender, submitted) = oneshot::channel();
        let taken = self.core()?.call(move |core, now| {
            let job = core.scheduler.submit(spec, now)?;
            core.await_submitted(job, sender);
            Ok::<_, kontiki_schedule::SubmitError>(job)
        });
        let taken = taken.await.map_err(no_answer)?;
        taken.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let job = submitted.await.map_err(|_| no_answer(NoAnswer::Ended))?;
        Ok(Response::new(proto::JobId { job: job.0 }))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<JobStatus> {
        let request = request.into_inner();
        let (job, (sender, ended)) = (JobId(request.job), oneshot::channel());
        let look = move |core: &mut super::core::Core, now| core.scheduler.job(job, now);
        let begun = self.core()?.call(move |core, now| {
            let status = look(core, now)?;
            if status.outcome.is_none() {
                core.await_end(job, sender);
            }
            Some(status)
        });
        let status = begun.await.map_err(no_answer)?.ok_or_else(no_job)?;
        if status.outcome.is_some() {
            return Ok(Response::new(status_to(&status)));
        }
        let patience = Duration::from_millis(u64::from(request.milliseconds)).min(WAIT_MAX);
        // Whether it has ended or the time is over, the status says.
        let _ = timeout(patience, ended).await;
        let status = self.core()?.call(look).await.map_err(no_answer)?.ok_or_else(no_job)?;
        Ok(Response::new(status_to(&status)))
    }

    async fn cancel(&self, request: Request<proto::JobId>) -> Answer<JobStatus> {
        let job = JobId(request.into_inner().job);
        let status = self.core()?.call(move |core, now| {
            core.scheduler.cancel(job, now);
            core.scheduler.job(job, now)
        });
        let status = status.await.map_err(no_answer)?.ok_or_else(no_job)?;
        Ok(Response::new(status_to(&status)))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Answer<StatusReply> {
        let all = self.core()?.call(|core, now| status::all(&core.scheduler, now));
        Ok(Response::new(StatusReply { json: all.await.map_err(no_answer)?.to_string() }))
    }

    async fn register(&self, request: Request<RegisterRequest>) -> Answer<Heard> {
        let request = request.into_inner();
        if request.version != proto::VERSION {
            return Err(Status::unimplemented(format!(
                "the worker is of version {}, the coordinator of version {}",
                request.version,
                proto::VERSION
            )));
        }
        let sign = request.sign.as_ref().and_then(sign_from).ok_or_else(incomplete)?;
        let held: Option<Vec<_>> = request.held.iter().map(held_from).collect();
        let hello = Registration {
            sign,
            address: request.address,
            slots: request.slots,
            held: held.ok_or_else(incomplete)?,
        };
        let heard = self.core()?.call(move |core, now| core.scheduler.register(hello, now));
        let heard = heard.await.map_err(no_answer)?;
        // An old message of a life that is over; whoever sent it is not there any more.
        let heard = heard.map_err(|_| Status::aborted("a later life of the worker is known"))?;
        Ok(Response::new(self.heard(&heard)))
    }

    async fn heartbeat(&self, request: Request<Sign>) -> Answer<Heard> {
        let sign = sign_from(request.get_ref()).ok_or_else(incomplete)?;
        let heard = self.core()?.call(move |core, now| core.scheduler.heartbeat(&sign, now));
        let heard = heard.await.map_err(no_answer)?.map_err(unknown)?;
        Ok(Response::new(self.heard(&heard)))
    }

    async fn pull(&self, request: Request<PullRequest>) -> Answer<PullReply> {
        let request = request.into_inner();
        let sign = request.sign.as_ref().and_then(sign_from).ok_or_else(incomplete)?;
        let (worker, life, pull) = (sign.worker, sign.life, sign.sequence);
        let (sender, work) = oneshot::channel();
        let taken = self.core()?.call(move |core, now| {
            core.scheduler.pull(&sign, request.free, now)?;
            core.await_work(worker, life, pull, sender);
            Ok(())
        });
        taken.await.map_err(no_answer)?.map_err(unknown)?;
        let mut work = work;
        let assignments = match timeout(WAIT_MAX, &mut work).await {
            Ok(assignments) => assignments.unwrap_or_default(),
            Err(_) => {
                let over = self.core()?.call(move |core, _| core.withdraw(worker, life, pull));
                over.await.map_err(no_answer)?;
                // It may have come just now.
                work.try_recv().unwrap_or_default()
            }
        };
        let assignments = assignments.iter().map(assignment_to).collect();
        Ok(Response::new(PullReply { assignments }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Answer<ReportReply> {
        let request = request.into_inner();
        let of = attempt_from(request.attempt.as_ref().ok_or_else(incomplete)?);
        let report = request.report.and_then(report_from).ok_or_else(incomplete)?;
        let (worker, life) = (WorkerId(request.worker), Life(request.life));
        let (sender, verdict) = oneshot::channel();
        let taken = self.core()?.send(move |core, now| {
            core.await_verdict(worker, of, sender);
            core.scheduler.report(worker, life, of, report, now);
        });
        taken.map_err(no_answer)?;
        let verdict = match timeout(WAIT_MAX, verdict).await {
            Ok(verdict) => Some(verdict.map_err(|_| no_answer(NoAnswer::Ended))?),
            Err(_) => None,
        };
        Ok(Response::new(ReportReply { verdict: verdict_to(verdict) }))
    }

    async fn describe(&self, request: Request<proto::JobId>) -> Answer<JobDescription> {
        let job = JobId(request.into_inner().job);
        let description = self.core()?.call(move |core, now| {
            let payload = core.scheduler.payload(job)?.to_vec();
            let status = core.scheduler.job(job, now)?;
            let (maps, reduces) = (status.maps.total, status.reduces.total);
            Some(JobDescription { maps, reduces, payload: payload.into() })
        });
        let description = description.await.map_err(no_answer)?;
        Ok(Response::new(description.ok_or_else(no_job)?))
    }

    async fn map_outputs(&self, request: Request<MapOutputsRequest>) -> Answer<MapOutputsReply> {
        let request = request.into_inner();
        let reply = self.core()?.call(move |core, _| {
            let (list, next) = core.scheduler.map_outputs(JobId(request.job), request.since)?;
            let outputs = list.iter().map(|output| proto::MapOutput {
                map: output.map,
                attempt: output.attempt.0,
                worker: output.worker.0,
                address: core.scheduler.address(output.worker).unwrap_or_default().to_owned(),
            });
            Some(MapOutputsReply { outputs: outputs.collect(), next })
        });
        Ok(Response::new(reply.await.map_err(no_answer)?.ok_or_else(no_job)?))
    }

    async fn leave(&self, request: Request<Sign>) -> Answer<proto::Left> {
        let sign = request.into_inner();
        let (worker, life) = (WorkerId(sign.worker), Life(sign.life));
        let left = self.core()?.call(move |core, now| core.scheduler.leave(worker, life, now));
        left.await.map_err(no_answer)?;
        Ok(Response::new(proto::Left {}))
    }
}
