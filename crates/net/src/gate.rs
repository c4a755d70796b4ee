//! Checks every call before its body is read.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::{BinaryMetadataKey, MetadataMap};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower_layer::Layer;
use tower_service::Service;

use crate::failure::{Failure, FailureCode};
use crate::security::{Secret, Security};

/// Metadata entry in which callers show the secret or the password.
pub(crate) const TOKEN: &str = "kontiki-token-bin";

/// Who a call is for, by its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Caller {
    Node,
    Operator,
    Client,
}

fn caller_of(path: &str) -> Option<Caller> {
    match path {
        "/kontiki.v1.Admin/Hello" => Some(Caller::Node),
        path if path.starts_with("/kontiki.v1.Peer/") => Some(Caller::Node),
        path if path.starts_with("/kontiki.v1.Admin/") => Some(Caller::Operator),
        path if path.starts_with("/kontiki.v1.Kv/") => Some(Caller::Client),
        path => caller_of_mapreduce(path.strip_prefix("/kontiki.mapreduce.v1.")?),
    }
}

/// Workers are to their coordinator, and to each other, what nodes are.
fn caller_of_mapreduce(call: &str) -> Option<Caller> {
    match call {
        "Coordinator/Submit" | "Coordinator/Wait" | "Coordinator/Cancel" | "Coordinator/Status" => {
            Some(Caller::Client)
        }
        _ => Some(Caller::Node),
    }
}

/// What was shown with a call.
struct Shown<'a> {
    token: Option<&'a [u8]>,
    certificate: bool,
}

impl Shown<'_> {
    fn is(&self, secret: Option<&Secret>) -> bool {
        // Both sides are looked at also when one is missing, to answer in the same time.
        secret.is_some_and(|secret| secret.matches(self.token.unwrap_or_default()))
            && self.token.is_some()
    }
}

fn admits(security: &Security, caller: Caller, shown: &Shown<'_>) -> bool {
    let (secret, password) = (security.secret.as_ref(), security.password.as_ref());
    let certificates = security.tls.as_ref().is_some_and(|tls| tls.peer_certificates);
    match caller {
        Caller::Node => {
            (secret.is_none() || shown.is(secret)) && (!certificates || shown.certificate)
        }
        Caller::Operator => {
            let open = secret.is_none() && password.is_none() && !certificates;
            open || shown.is(secret) || shown.is(password) || (certificates && shown.certificate)
        }
        Caller::Client => password.is_none() || shown.is(password) || shown.is(secret),
    }
}

fn check<B>(security: &Security, request: &Request<B>) -> Result<(), Status> {
    let Some(caller) = caller_of(request.uri().path()) else { return Ok(()) };
    let token = token_of(request.headers());
    let certificate = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .and_then(TlsConnectInfo::peer_certs)
        .is_some_and(|chain| !chain.is_empty());
    if admits(security, caller, &Shown { token: token.as_deref(), certificate }) {
        return Ok(());
    }
    let wanted = match caller {
        Caller::Node => "the cluster secret or a node's certificate",
        Caller::Operator => "the cluster secret or the client password",
        Caller::Client => "the client password",
    };
    let problem = if token.is_some() { "wrong credentials" } else { "no credentials" };
    let message = format!("{problem}: this call needs {wanted}");
    Err(Failure::not_applied(FailureCode::Unauthenticated, message).into())
}

fn token_of(headers: &http::HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(TOKEN)?;
    // Metadata does the base64.
    let mut one = http::HeaderMap::new();
    one.insert(TOKEN, value.clone());
    let metadata = MetadataMap::from_headers(one);
    let key = BinaryMetadataKey::from_static(TOKEN);
    Some(metadata.get_bin(key)?.to_bytes().ok()?.to_vec())
}

/// Puts a [`Gate`] before a service.
#[derive(Clone, Debug)]
pub(crate) struct GateLayer(pub(crate) Arc<Security>);

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, security: Arc::clone(&self.0) }
    }
}

/// Refuses calls that do not show what [`Security`] asks for.
#[derive(Clone, Debug)]
pub(crate) struct Gate<S> {
    inner: S,
    security: Arc<Security>,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match check(&self.security, &request) {
            Ok(()) => Answer::Admitted(Box::pin(self.inner.call(request))),
            Err(status) => Answer::Refused(Some(status.into_http())),
        }
    }
}

/// The answer of the service, or the refusal.
pub(crate) enum Answer<F> {
    Admitted(std::pin::Pin<Box<F>>),
    Refused(Option<Response<Body>>),
}

impl<F, E> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Admitted(future) => future.as_mut().poll(context),
            Self::Refused(response) => {
                Poll::Ready(Ok(response.take().expect("polled after it was ready")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::Tls;

    fn admitted(security: &Security, caller: Caller, token: Option<&str>, cert: bool) -> bool {
        let token = token.map(str::as_bytes);
        admits(security, caller, &Shown { token, certificate: cert })
    }

    #[test]
    fn without_settings_everyone_may() {
        for caller in [Caller::Node, Caller::Operator, Caller::Client] {
            assert!(admitted(&Security::default(), caller, None, false));
        }
    }

    #[test]
    fn the_password_opens_data_and_operation_but_not_the_inside() {
        let security = Security {
            secret: Some(Secret::new("inner")),
            password: Some(Secret::new("outer")),
            tls: None,
        };
        for (caller, outer) in
            [(Caller::Node, false), (Caller::Operator, true), (Caller::Client, true)]
        {
            assert_eq!(admitted(&security, caller, Some("outer"), false), outer, "{caller:?}");
            assert!(admitted(&security, caller, Some("inner"), false), "{caller:?}");
            assert!(!admitted(&security, caller, Some(""), false), "{caller:?}");
            assert!(!admitted(&security, caller, None, false), "{caller:?}");
            assert!(!admitted(&security, caller, None, true), "{caller:?}");
        }
    }

    #[test]
    fn with_secret_and_certificates_a_node_needs_both() {
        let tls = Tls { peer_certificates: true, ..Tls::default() };
        let security =
            Security { secret: Some(Secret::new("inner")), password: None, tls: Some(tls) };
        assert!(!admitted(&security, Caller::Node, Some("inner"), false));
        assert!(!admitted(&security, Caller::Node, None, true));
        assert!(admitted(&security, Caller::Node, Some("inner"), true));
    }

    #[test]
    fn an_empty_token_does_not_open_an_unset_secret() {
        let security = Security { password: Some(Secret::new("outer")), ..Security::default() };
        assert!(!admitted(&security, Caller::Client, Some(""), false));
        assert!(!admitted(&security, Caller::Operator, Some(""), false));
        assert!(admitted(&security, Caller::Node, None, false));
    }

    #[test]
    fn every_service_is_known_by_path() {
        assert_eq!(caller_of("/kontiki.v1.Admin/Hello"), Some(Caller::Node));
        assert_eq!(caller_of("/kontiki.v1.Peer/Exchange"), Some(Caller::Node));
        assert_eq!(caller_of("/kontiki.v1.Admin/Transfer"), Some(Caller::Operator));
        assert_eq!(caller_of("/kontiki.v1.Kv/Get"), Some(Caller::Client));
        let mapreduce = |call| caller_of(&format!("/kontiki.mapreduce.v1.{call}"));
        assert_eq!(mapreduce("Coordinator/Submit"), Some(Caller::Client));
        assert_eq!(mapreduce("Coordinator/Register"), Some(Caller::Node));
        assert_eq!(mapreduce("Shuffle/Read"), Some(Caller::Node));
        assert_eq!(caller_of("/somebody.Else/Get"), None);
    }
}
