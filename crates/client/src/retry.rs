//! One call, tried until it has an answer that counts.

use std::time::{Duration, Instant};

use kontiki_net::{Failure, FailureCode, Outcome, never_sent};
use kontiki_types::Slot;
use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status};

use crate::error::{Error, Reason};
use crate::nodes::{Node, Nodes};
use crate::options::Options;

/// First pause between two attempts; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Longest pause: a failover takes a few hundred milliseconds.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What an attempt that failed means for its call.
enum Verdict {
    /// Over.
    Stop(Error),
    /// Another attempt, elsewhere.
    Again {
        /// This attempt may have been applied.
        doubt: bool,
        /// Why it failed.
        reason: Reason,
        message: String,
    },
}

/// Whether a call may be sent more than once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing.
    Read,
    /// It has a stamp: sent twice, it is applied once.
    Stamped,
    /// It has no stamp: not sent again once it may have been applied.
    Unstamped,
}

/// Makes attempts until one gets an answer, with a pause and another node after each failure; the
/// first at the node that leads `slot`.
///
/// Invariant: once an attempt may have been applied, the call ends with an answer that the store
/// gave for its stamp, or with [`Error::Unknown`].
pub(crate) async fn retry<R, T, F>(
    nodes: &Nodes,
    options: &Options,
    kind: Kind,
    slot: Option<Slot>,
    request: R,
    attempt: impl Fn(Node, R) -> F,
) -> Result<T, Error>
where
    R: Clone,
    F: Future<Output = Result<Response<T>, Status>>,
{
    let start = Instant::now();
    let mut patience = options.attempt_timeout;
    let mut pause = PAUSE_MIN;
    let (mut doubt, mut is_first) = (false, true);
    loop {
        let left = options.timeout.saturating_sub(start.elapsed());
        let (place, node) = if is_first { nodes.leader(slot) } else { nodes.preferred() };
        is_first = false;
        let answer = match timeout(patience.min(left), attempt(node.clone(), request.clone())).await
        {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) => judge(&status, kind, doubt),
            Err(_) => Verdict::Again {
                doubt: kind != Kind::Read,
                reason: FailureCode::Timeout,
                message: "no answer".to_owned(),
            },
        };
        let (reason, message) = match answer {
            Verdict::Stop(error) => return Err(error),
            Verdict::Again { doubt: this, reason, message } => {
                doubt |= this;
                (reason, format!("{message} ({})", node.address))
            }
        };
        nodes.leave(place);
        if doubt && kind == Kind::Unstamped {
            return Err(Error::Unknown { reason, message });
        }
        if start.elapsed() + pause >= options.timeout {
            let message = format!("no success within {:?}, at last: {message}", options.timeout);
            return Err(match doubt {
                true => Error::Unknown { reason, message },
                false => Error::MayRetry { reason, message },
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        patience = patience.saturating_mul(2);
    }
}

fn judge(status: &Status, kind: Kind, doubt: bool) -> Verdict {
    let Some(failure) = Failure::from_status(status) else { return judge_transport(status, kind) };
    // The store looked the stamp up and compared: an earlier attempt was not applied either.
    let settled = failure.code == FailureCode::VersionMismatch;
    match (failure.outcome, failure.code) {
        (Outcome::NotApplied, _) if doubt && !settled => Verdict::Stop(Error::Unknown {
            reason: failure.code,
            message: format!("an attempt had no answer, the next one: {}", failure.message),
        }),
        (Outcome::NotApplied, _)
        | (_, FailureCode::Expired | FailureCode::StampReused | FailureCode::VersionMismatch) => {
            Verdict::Stop(Error::from_failure(failure))
        }
        (outcome, reason) => Verdict::Again {
            doubt: outcome != Outcome::MayRetry && kind != Kind::Read,
            reason,
            message: failure.message,
        },
    }
}

/// A status that no Kontiki node made.
fn judge_transport(status: &Status, kind: Kind) -> Verdict {
    let sent = kind != Kind::Read && !never_sent(status);
    let message = match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    };
    let message = with_causes(message, status);
    match status.code() {
        // Nothing would change: a message beyond the limit, or not a Kontiki node.
        Code::OutOfRange | Code::Unimplemented if sent => {
            Verdict::Stop(Error::Unknown { reason: FailureCode::Invalid, message })
        }
        Code::OutOfRange | Code::Unimplemented => {
            Verdict::Stop(Error::not_applied(FailureCode::Invalid, message))
        }
        _ => Verdict::Again { doubt: sent, reason: FailureCode::NoLeader, message },
    }
}

fn with_causes(mut text: String, status: &Status) -> String {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}
