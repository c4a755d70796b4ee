//! What went wrong, and what became of the write.

use kontiki_net::{Failure, FailureCode, SecurityError};

use crate::types::Version;

pub use kontiki_net::{FailureCode as Reason, Outcome};

/// A call that did not succeed.
///
/// Of a read, [`Error::MayRetry`] and [`Error::NotApplied`] say whether trying again makes sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not applied, and never will be; the same call made again may succeed.
    #[error("not applied, may be tried again: {message}")]
    MayRetry {
        /// For code.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// Not applied: the key has another version than the given one.
    #[error("not applied: the key has version {version} (0: it does not exist)")]
    VersionMismatch {
        /// The version that the key had.
        version: Version,
    },
    /// Not applied, and the same call made again will fail in the same way.
    #[error("not applied: {message}")]
    NotApplied {
        /// For code.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// The write may have been applied or not; if not yet, it still may be for a short while. Read
    /// to find out, and make the next step safe in both cases.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// For code.
        reason: Reason,
        /// For people.
        message: String,
    },
}

impl Error {
    /// What became of the write.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::MayRetry { .. } => Outcome::MayRetry,
            Self::VersionMismatch { .. } | Self::NotApplied { .. } => Outcome::NotApplied,
            Self::Unknown { .. } => Outcome::Unknown,
        }
    }

    pub(crate) fn not_applied(reason: Reason, message: impl Into<String>) -> Self {
        Self::NotApplied { reason, message: message.into() }
    }

    pub(crate) fn from_failure(failure: Failure) -> Self {
        let Failure { outcome, code: reason, message, version, .. } = failure;
        match outcome {
            _ if reason == FailureCode::VersionMismatch => {
                Self::VersionMismatch { version: Version(version) }
            }
            Outcome::MayRetry => Self::MayRetry { reason, message },
            Outcome::NotApplied => Self::NotApplied { reason, message },
            Outcome::Unknown | Outcome::Unspecified => Self::Unknown { reason, message },
        }
    }
}

impl From<SecurityError> for Error {
    fn from(error: SecurityError) -> Self {
        Self::not_applied(Reason::Invalid, error.to_string())
    }
}
