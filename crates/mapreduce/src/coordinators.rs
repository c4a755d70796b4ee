//! The coordinators that may have a job: one leads, and others stand by.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tonic::Code;

use crate::access::{Authenticated, Secret, Tls, connect};
use crate::proto::MESSAGE_BYTES_MAX;
use crate::proto::coordinator_client::CoordinatorClient;

/// Connections to all of them, and which one is asked. Clones share that.
#[derive(Clone, Debug)]
pub(crate) struct Coordinators {
    clients: Arc<[CoordinatorClient<Authenticated>]>,
    asked: Arc<AtomicUsize>,
}

impl Coordinators {
    /// Those at `urls`, with commas between.
    ///
    /// # Errors
    /// For people: what is wrong with an address or the settings.
    pub(crate) fn at(
        urls: &str,
        token: Option<&Secret>,
        tls: Option<&Tls>,
    ) -> Result<Self, String> {
        let client = |url: &str| {
            let channel = connect(url.trim(), token, tls)?;
            Ok(CoordinatorClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX))
        };
        let clients: Result<Vec<_>, String> = urls.split(',').map(client).collect();
        Ok(Self { clients: clients?.into(), asked: Arc::default() })
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.clients.len()
    }

    /// The place of the one to ask.
    pub(crate) fn place(&self) -> usize {
        self.asked.load(Ordering::Relaxed) % self.clients.len()
    }

    /// The one to ask.
    pub(crate) fn current(&self) -> CoordinatorClient<Authenticated> {
        self.clients[self.place()].clone()
    }

    /// The one at `place` ended a call like this: whether another is asked from now on, by whoever
    /// has not moved on by itself.
    pub(crate) fn answered(&self, place: usize, code: Code) {
        let elsewhere = matches!(
            code,
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Unknown
                | Code::Internal
                | Code::Cancelled
        );
        if elsewhere {
            let next = (place + 1) % self.clients.len();
            let _ = self.asked.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}
