//! The settings of a node: one list of keys, from which the TOML file, the environment variables,
//! the flags, the commented default file and `docs/configuration.md` all follow.
//!
//! Later sources win: defaults, file, environment (`KONTIKI_` and the key in capitals), flags.
//! What a source says is checked when it is read, with the place where it stands; how settings go
//! together is checked at the end, by [`Config::check`].

mod args;
mod file;
mod keys;
mod print;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) use args::ConfigArgs;
pub(crate) use keys::Config;
pub(crate) use print::defaults_toml;
#[cfg(test)]
pub(crate) use print::reference_markdown;
pub(crate) use value::{LogFormat, Size};

use keys::{Key, keys};
use value::Value;

/// A setting that cannot be used: where it stands, what is wrong, and what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    place: String,
    problem: String,
    hint: Option<String>,
}

impl ConfigError {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// The settings from all sources.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &ConfigArgs,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError::new(&place, format!("cannot be read: {error}")))?;
            file::apply(&mut config, &place, &text)?;
        }
        config.apply_environment(environment)?;
        flags.apply(&mut config)?;
        config.check()?;
        Ok(config)
    }

    fn apply_environment(
        &mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in environment {
            if let Some(key) = keys().find(|key| key.variable() == name) {
                self.set(key, &Value::Loose(text), &name)?;
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &Key, value: &Value, place: &str) -> Result<(), ConfigError> {
        (key.set)(self, value).map_err(|problem| ConfigError::new(place, problem))
    }

    /// The client password, from the setting or its file.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub(crate) fn password(&self) -> Result<Option<String>, ConfigError> {
        secret("requirepass-file", self.requirepass.as_ref(), self.requirepass_file.as_ref())
    }

    /// What the nodes of the cluster share, from the setting or its file.
    ///
    /// # Errors
    /// The file cannot be read or is empty.
    pub(crate) fn shared_secret(&self) -> Result<Option<String>, ConfigError> {
        let (text, file) = (self.cluster_secret.as_ref(), self.cluster_secret_file.as_ref());
        secret("cluster-secret-file", text, file)
    }

    /// Whether the settings go together.
    ///
    /// # Errors
    /// The first pair that does not.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: &str| Err(ConfigError::new(key, problem));
        if self.heartbeat.saturating_mul(3) > self.election_timeout {
            return refuse("heartbeat", "must be at most a third of election-timeout");
        }
        if self.requirepass.is_some() && self.requirepass_file.is_some() {
            return refuse("requirepass", "is given as well as requirepass-file");
        }
        if self.cluster_secret.is_some() && self.cluster_secret_file.is_some() {
            return refuse("cluster-secret", "is given as well as cluster-secret-file");
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return refuse("tls-certificate", "needs tls-key, and the other way round");
        }
        if self.tls_certificate.is_some() && self.tls_authority.is_none() {
            return refuse(
                "tls-certificate",
                "needs tls-authority, by which nodes trust each other",
            );
        }
        if self.tls_peer_certificates && self.tls_certificate.is_none() {
            return refuse("tls-peer-certificates", "needs tls-certificate");
        }
        if self.bootstrap && self.join.is_some() {
            return refuse("bootstrap", "founds a cluster, join enters one: give one of them");
        }
        if self.segment_bytes < self.entry_bytes_max {
            return refuse("segment-bytes", "must be at least entry-bytes-max");
        }
        let mut ids: Vec<_> = self.peer.iter().map(|peer| peer.id).collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return refuse("peer", &format!("node {} is given twice", twice[0]));
        }
        Ok(())
    }
}

/// A secret that is given itself or as the first line of a file.
fn secret(
    key: &str,
    text: Option<&String>,
    file: Option<&PathBuf>,
) -> Result<Option<String>, ConfigError> {
    let Some(path) = file else { return Ok(text.cloned()) };
    let place = format!("{key} {}", path.display());
    let content = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::new(&place, format!("cannot be read: {error}")))?;
    match content.lines().next() {
        Some(line) if !line.is_empty() => Ok(Some(line.to_owned())),
        _ => Err(ConfigError::new(place, "the first line is empty")),
    }
}

#[cfg(test)]
mod tests;
