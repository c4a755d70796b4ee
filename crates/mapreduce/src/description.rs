//! What the workers need to know of a job: the payload that a coordinator keeps for them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::destination::Destination;
use crate::input::MapTask;
use crate::objects::is_url;
use crate::spec::Application;
use crate::store::Fence;

/// A job, planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What it runs.
    pub application: Application,
    /// Its maps. Their files are opened by the workers, by the same names.
    pub maps: Vec<MapTask>,
    /// Number of reduces. 0: the output is that of the maps.
    pub reduces: u32,
    /// The folder for the output, which every worker can write.
    output: Vec<u8>,
    /// If it goes to a store: what holds off attempts that were replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fence: Option<Fence>,
}

impl Description {
    /// A job with its output in `output`.
    pub fn new(application: Application, maps: Vec<MapTask>, reduces: u32, output: &Path) -> Self {
        let output = output.as_os_str().as_bytes().to_vec();
        Self { application, maps, reduces, output, fence: None }
    }

    /// The folder for the output, or the URL of a prefix.
    pub fn output(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.output))
    }

    /// Where the output goes.
    ///
    /// # Errors
    /// A URL of no store that is known.
    pub fn destination(&self) -> std::io::Result<Destination> {
        Destination::behind(self.output(), self.fence.clone())
    }

    /// The same job behind a fence, if its output needs one. Blocks.
    ///
    /// # Errors
    /// The store of the output cannot be reached.
    pub fn fenced(&self) -> std::io::Result<Self> {
        Ok(Self { fence: self.destination()?.begin()?, ..self.clone() })
    }

    /// Number of output files.
    pub fn outputs(&self) -> u32 {
        if self.reduces == 0 { self.maps.len() as u32 } else { self.reduces }
    }

    /// The folder for outputs under way: in the output folder, so that a rename puts them in place.
    /// `None`: the output is in a store, and workers upload it from where they like.
    pub fn work(&self) -> Option<PathBuf> {
        (!is_url(&self.output)).then(|| self.output().join("_work"))
    }

    /// As bytes.
    ///
    /// # Errors
    /// None that is known of: the types are plain.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// From bytes.
    ///
    /// # Errors
    /// Bytes that are no description, or of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
