//! A Kontiki store as input and output of jobs: `kontiki://HOST:PORT/PREFIX`, where `HOST:PORT` is the
//! gRPC address of a node (or several, with commas between), and what comes after the slash is what
//! keys begin with, as it is.
//!
//! A pair of key and value is a line (`lines`). Input is read from a view (`input`), so that all of it
//! is of one applied index; output is written under a fence (`output`), so that an attempt which was
//! replaced writes nothing more. The password and the authority of TLS come from the environment.
//!
//! A job lists an input per group, each with a view of its own. What a write compares must be of the
//! slot that it writes, so in a sharded store a fence is many keys (`by_slot`).

mod by_slot;
mod fence;
mod input;
mod lines;
mod output;
mod views;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kontiki_client::{Client, Error, Options, Outcome, Reason, Secret, Tls};

use crate::objects::runtime;

pub use fence::Fence;
pub use input::{KeyRange, ListedKeys};
pub(crate) use input::{KeysReader, list, sample_lines};
pub(crate) use output::{KeysOutput, PreparedKeys};
pub use views::{KeptViews, keep};

/// What URLs of stores begin with.
const SCHEME: &[u8] = b"kontiki://";

/// Whether this names keys of a store.
pub fn is_store(name: &[u8]) -> bool {
    name.starts_with(SCHEME)
}

/// Some keys of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreUrl {
    /// gRPC addresses of nodes, one at least.
    pub(crate) addresses: Vec<String>,
    /// What the keys begin with.
    pub(crate) prefix: Bytes,
}

impl StoreUrl {
    /// Takes `kontiki://HOST:PORT[,HOST:PORT...]/PREFIX` apart.
    pub(crate) fn parse(url: &[u8]) -> io::Result<Self> {
        let invalid = || {
            let text = String::from_utf8_lossy(url);
            let why = format!("{text} is not of the form kontiki://HOST:PORT/PREFIX");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        };
        let rest = url.strip_prefix(SCHEME).ok_or_else(invalid)?;
        let slash = rest.iter().position(|byte| *byte == b'/').ok_or_else(invalid)?;
        let (hosts, prefix) = rest.split_at_checked(slash).ok_or_else(invalid)?;
        let hosts = std::str::from_utf8(hosts).map_err(|_| invalid())?;
        let addresses: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        let is_address = |address: &String| {
            let parts = address.rsplit_once(':');
            parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if !addresses.iter().all(is_address) {
            return Err(invalid());
        }
        let prefix = Bytes::copy_from_slice(prefix.get(1..).unwrap_or_default());
        Ok(Self { addresses, prefix })
    }
}

/// How to connect, by what is in the environment.
fn options(discover: bool) -> io::Result<Options> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let token = match (variable("KONTIKI_PASSWORD"), variable("KONTIKI_PASSWORD_FILE")) {
        (Some(password), _) => Some(Secret::new(password.into_bytes())),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            let line = text.lines().next().unwrap_or_default();
            Some(Secret::new(line.as_bytes().to_vec()))
        }
        (None, None) => None,
    };
    let tls = match variable("KONTIKI_TLS_AUTHORITY") {
        Some(authority) => {
            let files = Tls::from_files(None, Some(authority.as_ref()));
            let files = files.map_err(|error| io::Error::other(error.to_string()))?;
            Some(Tls { server_name: variable("KONTIKI_TLS_SERVER_NAME"), ..files })
        }
        None => None,
    };
    // A node that is gone takes its views with it, and is not waited for long.
    let timeout = if discover { Duration::from_secs(10) } else { Duration::from_secs(5) };
    Ok(Options { token, tls, discover, timeout, ..Options::default() })
}

/// A client of the nodes at these addresses: of just them, or (`discover`) of their cluster. The same
/// one each time.
pub(crate) async fn client(addresses: &[String], discover: bool) -> io::Result<Client> {
    static CLIENTS: Mutex<BTreeMap<(Vec<String>, bool), Client>> = Mutex::new(BTreeMap::new());
    let lock = || CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (addresses.to_vec(), discover);
    let known = lock().get(&key).cloned();
    if let Some(client) = known {
        return Ok(client);
    }
    // On a runtime that lasts as long as the process, as the client does.
    let (all, options) = (addresses.to_vec(), options(discover)?);
    let connecting = runtime()?.spawn(async move { Client::connect(all, options).await });
    let connected = connecting.await.map_err(io::Error::other)?;
    let connected = connected.map_err(|error| {
        let addresses = addresses.join(",");
        let why = format!("cannot reach a store at {addresses}: {}", text_of(&error));
        io::Error::new(io::ErrorKind::NotConnected, why)
    })?;
    lock().insert(key, connected.clone());
    Ok(connected)
}

/// Waits for a call. Blocks: not for threads that serve sockets.
pub(crate) fn block_on<T>(call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    runtime()?.block_on(call)
}

/// What the store said, without what is of writes alone.
fn text_of(error: &Error) -> String {
    match error {
        Error::MayRetry { message, .. } | Error::NotApplied { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

pub(crate) fn told(error: &Error) -> io::Error {
    let kind = match error {
        Error::NotApplied { reason: Reason::Unauthenticated, .. } => {
            io::ErrorKind::PermissionDenied
        }
        Error::NotApplied { reason: Reason::NotFound, .. } => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, text_of(error))
}

/// Whether the same call may end otherwise when it is made again.
pub(crate) fn passes(error: &Error) -> bool {
    error.outcome() != Outcome::NotApplied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = StoreUrl::parse(b"kontiki://a:1,[::1]:2/x/\xff y").expect("a URL");
        assert_eq!(url.addresses, ["a:1", "[::1]:2"]);
        assert_eq!(url.prefix, &b"x/\xff y"[..]);
        assert_eq!(StoreUrl::parse(b"kontiki://a:1/").expect("a URL").prefix, "");
        for bad in
            ["kontiki://a:1", "kontiki://a/x", "kontiki://:1/", "kontiki://a:x/", "s3://a:1/"]
        {
            let said = StoreUrl::parse(bad.as_bytes()).expect_err(bad).to_string();
            assert!(said.contains(bad) && said.contains("HOST:PORT"), "{said}");
        }
    }
}
