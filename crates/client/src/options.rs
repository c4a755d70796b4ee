//! How a client connects and how patient it is.

use std::time::Duration;

use kontiki_net::{Secret, Tls};

/// Settings of a [`Client`](crate::Client).
///
/// ```
/// use std::time::Duration;
/// use kontiki_client::Options;
///
/// let options = Options { timeout: Duration::from_secs(3), ..Options::default() }
///     .password("swordfish");
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The client password or the cluster secret.
    pub token: Option<Secret>,
    /// TLS towards the nodes.
    pub tls: Option<Tls>,
    /// How long a call may take, all attempts included. Default 10 s.
    pub timeout: Duration,
    /// How long to wait for one node before the call goes to the next one as well. Doubles with
    /// each attempt of the call, so that a large value over a slow line gets its time. Default
    /// 1 s.
    pub attempt_timeout: Duration,
    /// How long a connection may take to come about. Default 1 s.
    pub connect_timeout: Duration,
    /// Ask the first node for the addresses of the others, and talk to the leader where that is
    /// possible. Off: the given addresses, from the first. Default on.
    pub discover: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token: None,
            tls: None,
            timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            discover: true,
        }
    }
}

impl Options {
    /// With this client password (or cluster secret).
    #[must_use]
    pub fn password(self, password: impl Into<Vec<u8>>) -> Self {
        Self { token: Some(Secret::new(password)), ..self }
    }

    /// With TLS.
    #[must_use]
    pub fn tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }
}
