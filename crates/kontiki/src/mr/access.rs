//! What is shown to coordinators and workers, and what they ask for.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use kontiki_mapreduce::access::{Secret, Security, Tls};

/// What is shown.
#[derive(Args, Debug, Default)]
pub(super) struct AccessArgs {
    /// File whose first line is the secret that coordinator and workers share.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// File whose first line is the password of those who submit jobs and look at them.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Certificate of the authority that is trusted, PEM: coordinator and workers speak TLS.
    #[arg(long, value_name = "FILE")]
    tls_authority: Option<PathBuf>,
    /// Own certificate chain, PEM.
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_authority"])]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Name to expect in certificates [default: the host of the address].
    #[arg(long, value_name = "NAME", requires = "tls_authority")]
    tls_server_name: Option<String>,
}

/// What is asked for.
#[derive(Args, Debug, Default)]
pub(super) struct ServerArgs {
    /// Workers must show a certificate too (mutual TLS).
    #[arg(long, requires = "tls_certificate")]
    tls_peer_certificates: bool,
    /// Listen beyond loopback without secret and password: whoever reaches the port can run commands
    /// on the workers.
    #[arg(long)]
    insecure: bool,
}

impl AccessArgs {
    /// For whoever calls.
    pub(super) fn client(&self) -> Result<Security> {
        let identity = self.tls_certificate.as_deref().zip(self.tls_key.as_deref());
        let tls = match &self.tls_authority {
            Some(authority) => {
                let files = Tls::from_files(identity, Some(authority))?;
                Some(Tls { server_name: self.tls_server_name.clone(), ..files })
            }
            None => None,
        };
        Ok(Security {
            secret: self.secret_file.as_deref().map(first_line).transpose()?,
            password: self.password_file.as_deref().map(first_line).transpose()?,
            tls,
        })
    }

    /// For a coordinator (`takes_jobs`) or a worker that listens on `listen`.
    pub(super) fn server(
        &self,
        server: &ServerArgs,
        listen: SocketAddr,
        takes_jobs: bool,
    ) -> Result<Security> {
        let mut security = self.client()?;
        if let Some(tls) = &mut security.tls {
            if tls.identity.is_none() {
                bail!("--tls-authority goes with --tls-certificate and --tls-key here");
            }
            tls.peer_certificates = server.tls_peer_certificates;
        }
        let open = security.secret.is_none() && !server.tls_peer_certificates;
        if !listen.ip().is_loopback() && !server.insecure {
            if open {
                bail!(
                    "{listen} is beyond loopback and no secret is set\nhint: set --secret-file (or \
                     mutual TLS), or --insecure"
                );
            }
            if takes_jobs && security.password.is_none() {
                bail!(
                    "{listen} is beyond loopback and no password is set\nhint: set --password-file, \
                     or --insecure"
                );
            }
        }
        Ok(security)
    }
}

fn first_line(path: &Path) -> Result<Secret> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        bail!("the first line of {} is empty", path.display());
    }
    Ok(Secret::new(line))
}
