//! How a call that did not succeed is told: a gRPC status that carries a typed [`Failure`].

use bytes::Bytes;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, ConnectError, Status};

use crate::proto;

pub use crate::proto::{FailureCode, Outcome};

/// Metadata entry of a status that holds an encoded [`proto::Failure`].
const KEY: &str = "kontiki-failure-bin";

/// Why a call did not succeed, and whether a write may have been applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What became of the write. Of a read: whether trying again makes sense.
    pub outcome: Outcome,
    /// The reason, for code.
    pub code: FailureCode,
    /// The reason, for people.
    pub message: String,
    /// With [`FailureCode::VersionMismatch`]: the version that the key has, 0 if it is absent.
    pub version: u64,
    /// Log time in milliseconds as the answering node knows it; 0 if it does not say.
    pub log_time_ms: u64,
}

impl Failure {
    /// Not applied by this attempt; another may succeed.
    pub fn may_retry(code: FailureCode, message: impl Into<String>) -> Self {
        Self::new(Outcome::MayRetry, code, message)
    }

    /// Not applied, and the same request never will be.
    pub fn not_applied(code: FailureCode, message: impl Into<String>) -> Self {
        Self::new(Outcome::NotApplied, code, message)
    }

    /// Nobody can say whether it was applied.
    pub fn unknown(code: FailureCode, message: impl Into<String>) -> Self {
        Self::new(Outcome::Unknown, code, message)
    }

    /// The refusal of a write whose key has another version.
    pub fn version_mismatch(version: u64) -> Self {
        let message = match version {
            0 => "the key does not exist".to_owned(),
            version => format!("the key has version {version}"),
        };
        Self { version, ..Self::not_applied(FailureCode::VersionMismatch, message) }
    }

    /// With the log time that the answering node knows.
    #[must_use]
    pub fn at(self, log_time_ms: u64) -> Self {
        Self { log_time_ms, ..self }
    }

    fn new(outcome: Outcome, code: FailureCode, message: impl Into<String>) -> Self {
        Self { outcome, code, message: message.into(), version: 0, log_time_ms: 0 }
    }

    /// The failure that a status carries, if a Kontiki node made it. `None` is a status from
    /// elsewhere (a broken connection, a proxy): of a write, the outcome is unknown.
    pub fn from_status(status: &Status) -> Option<Self> {
        let bytes = status.metadata().get_bin(KEY)?.to_bytes().ok()?;
        let failure = proto::Failure::decode(bytes).ok()?;
        Some(Self {
            outcome: match failure.outcome() {
                Outcome::Unspecified => Outcome::Unknown,
                outcome => outcome,
            },
            code: failure.code(),
            message: failure.message,
            version: failure.version,
            log_time_ms: failure.log_time_ms,
        })
    }
}

/// Whether a status says that the call never left this process: no connection came about.
pub fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = match failure.code {
            FailureCode::NoLeader
            | FailureCode::Overloaded
            | FailureCode::ShuttingDown
            | FailureCode::Unreachable => Code::Unavailable,
            FailureCode::Timeout => Code::DeadlineExceeded,
            FailureCode::StorageFull => Code::ResourceExhausted,
            FailureCode::VersionMismatch | FailureCode::Conflict => Code::FailedPrecondition,
            FailureCode::TooLarge | FailureCode::Invalid => Code::InvalidArgument,
            FailureCode::Expired | FailureCode::StampReused => Code::Aborted,
            FailureCode::Unauthenticated => Code::Unauthenticated,
            FailureCode::NotFound => Code::NotFound,
            FailureCode::Internal | FailureCode::Unspecified => Code::Internal,
        };
        let encoded = proto::Failure {
            outcome: failure.outcome.into(),
            code: failure.code.into(),
            message: failure.message.clone(),
            version: failure.version,
            log_time_ms: failure.log_time_ms,
        }
        .encode_to_vec();
        let mut metadata = MetadataMap::new();
        metadata.insert_bin(KEY, MetadataValue::from_bytes(&encoded));
        Self::with_details_and_metadata(code, failure.message, Bytes::new(), metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_survive_the_status() {
        let failure = Failure::version_mismatch(7).at(1_700_000_000_000);
        assert_eq!(Failure::from_status(&failure.clone().into()), Some(failure));
    }

    #[test]
    fn a_status_from_elsewhere_is_no_failure() {
        assert_eq!(Failure::from_status(&Status::unavailable("connection reset")), None);
    }
}
