//! Who may talk to a coordinator and its workers, and how they are reached.
//!
//! | caller | must show |
//! |---|---|
//! | a worker, to the coordinator and to other workers | the secret, if there is one, and a certificate, if `tls.peer_certificates` |
//! | who submits jobs and looks at them | the password or the secret, if there is a password |

use std::time::Duration;

use kontiki_net::connect_lazy;
pub use kontiki_net::{Authenticated, Secret, Security, Tls};

/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(2);

/// A channel to `http://HOST:PORT`, `https://HOST:PORT` or `HOST:PORT` that connects when it is
/// used, and again when it was lost. It shows `token`, and speaks TLS if there is `tls`.
///
/// # Errors
/// For people: what is wrong with the address or the settings.
pub(crate) fn connect(
    url: &str,
    token: Option<&Secret>,
    tls: Option<&Tls>,
) -> Result<Authenticated, String> {
    let address = match url.split_once("://") {
        Some(("https", _)) if tls.is_none() => {
            return Err(format!("{url} needs the certificate of the authority that is trusted"));
        }
        Some(("http" | "https", address)) => address.trim_end_matches('/'),
        Some(_) => return Err(format!("{url} is not an address")),
        None => url,
    };
    connect_lazy(address, token, tls, PATIENCE)
        .map_err(|error| format!("{url} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_is_refused_before_it_is_used() {
        for good in ["http://127.0.0.1:1", "127.0.0.1:1", "http://host:1/"] {
            assert!(connect(good, None, None).is_ok(), "{good}");
        }
        for bad in ["ftp://host:1", "https://host:1", "http://a b"] {
            assert!(connect(bad, None, None).is_err(), "{bad}");
        }
    }
}
