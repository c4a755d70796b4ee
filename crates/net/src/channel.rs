//! Outgoing connections, as native clients and joining nodes open them.

use std::time::Duration;

use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Error};
use tonic::{Request, Status};

use crate::gate::TOKEN;
use crate::security::{Secret, SecurityError, Tls};

/// HTTP/2 flow control windows: several of the largest messages fit, so that one never waits for
/// a round trip.
pub(crate) const WINDOW_BYTES: u32 = 16 << 20;

/// Frames of HTTP/2: large ones cost fewer system calls for large messages.
pub(crate) const FRAME_BYTES: u32 = 1 << 20;

/// A channel that shows a [`Token`] with each call. The generated clients take it:
/// `KvClient::new(connect(..).await?)`.
pub type Authenticated = InterceptedService<Channel, Token>;

/// Shows the secret or the password with each call; nothing if there is none.
#[derive(Clone, Debug, Default)]
pub struct Token(Option<BinaryMetadataValue>);

impl Token {
    /// Shows `secret`.
    pub fn new(secret: Option<&Secret>) -> Self {
        Self(secret.map(|secret| {
            let mut value = MetadataValue::from_bytes(secret.as_bytes());
            value.set_sensitive(true);
            value
        }))
    }
}

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert_bin(TOKEN, token.clone());
        }
        Ok(request)
    }
}

pub(crate) fn endpoint(
    address: &str,
    tls: Option<&Tls>,
    connect_timeout: Duration,
) -> Result<Endpoint, SecurityError> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(SecurityError::Unusable)?
        .tcp_nodelay(true)
        .connect_timeout(connect_timeout)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(4))
        .keep_alive_while_idle(true);
    match tls {
        Some(tls) => endpoint.tls_config(tls.client()?).map_err(SecurityError::Unusable),
        None => Ok(endpoint),
    }
}

/// A channel to `address` (`HOST:PORT`) that connects at its first call, and again after the
/// connection broke.
///
/// # Errors
/// TLS material or an address that cannot be used.
pub fn connect_lazy(
    address: &str,
    token: Option<&Secret>,
    tls: Option<&Tls>,
    connect_timeout: Duration,
) -> Result<Authenticated, SecurityError> {
    let channel = endpoint(address, tls, connect_timeout)?.connect_lazy();
    Ok(InterceptedService::new(channel, Token::new(token)))
}

/// A channel to `address` (`HOST:PORT`), connected when this returns.
///
/// # Errors
/// Nobody there within `connect_timeout`, or TLS that does not come about.
///
/// # Cancel safety
/// Dropping the future gives the connection up.
pub async fn connect(
    address: &str,
    token: Option<&Secret>,
    tls: Option<&Tls>,
    connect_timeout: Duration,
) -> Result<Authenticated, ConnectError> {
    let channel = endpoint(address, tls, connect_timeout)?.connect().await?;
    Ok(InterceptedService::new(channel, Token::new(token)))
}

/// A connection that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// The other side cannot be reached, or TLS failed.
    #[error("cannot connect: {}", crate::peer::chain(.0))]
    Transport(#[from] Error),
}
