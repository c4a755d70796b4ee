//! Who may talk to a node: cluster secret, client password, TLS.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// A token that is never printed and compared in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of these bytes, which may be any.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `token` is this secret. The time it takes depends on the length of `token` alone.
    pub fn matches(&self, token: &[u8]) -> bool {
        let mut difference = self.0.len() ^ token.len();
        for (position, byte) in token.iter().enumerate() {
            let own = if self.0.is_empty() { 0 } else { self.0[position % self.0.len()] };
            difference |= usize::from(own ^ byte);
        }
        black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// TLS material in PEM, for a server, for a client or (as a node is both) for the two.
#[derive(Clone, Default)]
pub struct Tls {
    /// Own certificate chain and private key. A server needs them; a client only towards a server
    /// that asks for certificates.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// Whose signature on the other side's certificate is trusted.
    pub authority: Option<Vec<u8>>,
    /// The name to expect in a server's certificate instead of the host in its address.
    pub server_name: Option<String>,
    /// A server wants a certificate signed by `authority` from its peers (mTLS). Native clients
    /// may do without.
    pub peer_certificates: bool,
}

impl Tls {
    /// Reads the PEM files of a certificate with its key, and of an authority.
    ///
    /// # Errors
    /// Names the file that could not be read.
    pub fn from_files(
        identity: Option<(&Path, &Path)>,
        authority: Option<&Path>,
    ) -> Result<Self, SecurityError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| SecurityError::File { path: path.into(), source })
        };
        Ok(Self {
            identity: match identity {
                Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
                None => None,
            },
            authority: authority.map(read).transpose()?,
            server_name: None,
            peer_certificates: false,
        })
    }

    pub(crate) fn server(&self) -> Result<ServerTlsConfig, SecurityError> {
        let (certificate, key) = self.identity.as_ref().ok_or(SecurityError::NoIdentity)?;
        let mut config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        if self.peer_certificates {
            let authority = self.authority.as_ref().ok_or(SecurityError::NoAuthority)?;
            // Optional in the handshake, since native clients may come without: the gate asks for
            // it where a peer speaks.
            config =
                config.client_ca_root(Certificate::from_pem(authority)).client_auth_optional(true);
        }
        Ok(config)
    }

    pub(crate) fn client(&self) -> Result<ClientTlsConfig, SecurityError> {
        let authority = self.authority.as_ref().ok_or(SecurityError::NoAuthority)?;
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        Ok(config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("identity", &self.identity.is_some())
            .field("authority", &self.authority.is_some())
            .field("server_name", &self.server_name)
            .field("peer_certificates", &self.peer_certificates)
            .finish()
    }
}

/// What a node asks of its callers, and shows when it is the caller.
///
/// | caller | must show |
/// |---|---|
/// | another node (`Peer`, `Admin.Hello`) | the secret, if there is one, and a certificate, if `tls.peer_certificates` |
/// | an operator (the rest of `Admin`) | the secret or the password, if there is one of them; or a certificate, if `tls.peer_certificates` |
/// | a native client (`Kv`) | the password or the secret, if there is a password |
///
/// The default asks for nothing: fit for loopback alone.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// What the nodes of a cluster share.
    pub secret: Option<Secret>,
    /// What native clients show; the same as RESP's `requirepass`.
    pub password: Option<Secret>,
    /// TLS for everything on the gRPC port.
    pub tls: Option<Tls>,
}

/// Security settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A PEM file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A server was asked for TLS without a certificate and key.
    #[error("TLS needs a certificate and its key")]
    NoIdentity,
    /// Certificates are to be checked, and there is nothing to check them against.
    #[error("TLS needs the certificate of the authority that signs the nodes' certificates")]
    NoAuthority,
    /// The TLS library refused the material.
    #[error("unusable TLS material: {0}")]
    Unusable(#[source] tonic::transport::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_match() {
        let secret = Secret::new("abc");
        assert!(secret.matches(b"abc"));
        for other in ["", "ab", "abd", "abcabc", "abca"] {
            assert!(!secret.matches(other.as_bytes()), "{other:?}");
        }
        assert!(Secret::new("").matches(b""));
        assert!(!Secret::new("").matches(b"\0"));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let security = Security {
            secret: Some(Secret::new("hush")),
            password: Some(Secret::new("hush")),
            tls: Some(Tls { identity: Some((b"hush".into(), b"hush".into())), ..Tls::default() }),
        };
        assert!(!format!("{security:?}").contains("hush"));
    }
}
