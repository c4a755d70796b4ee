//! Where reducers get map output from: files of this machine, or whoever serves them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Bucket, ShuffleError, ShuffleFile};

/// Reads map output. Implementations need not check blocks: the reader does.
pub trait Fetch: Send + Sync {
    /// The runs of `bucket` in the output of map task `map`.
    ///
    /// # Errors
    /// When the output is lost or its index damaged.
    fn bucket(&self, map: u32, bucket: u32) -> Result<Bucket, ShuffleError>;

    /// Fills `room` with the bytes at `offset` of the output of map task `map`.
    ///
    /// # Errors
    /// When they are not all there.
    fn read(&self, map: u32, offset: u64, room: &mut [u8]) -> Result<(), ShuffleError>;
}

/// Files kept open at a time: well below the usual limit of 1024 per process.
const OPEN_MAX: usize = 128;

/// Map output in files of this machine, by the number of the map task.
pub struct LocalFetch {
    paths: Vec<PathBuf>,
    open: Mutex<VecDeque<(u32, Arc<ShuffleFile>)>>,
}

impl LocalFetch {
    /// The output of map task X is `paths[X]`.
    pub fn new(paths: Vec<PathBuf>) -> LocalFetch {
        LocalFetch { paths, open: Mutex::new(VecDeque::new()) }
    }

    fn file(&self, map: u32) -> Result<Arc<ShuffleFile>, ShuffleError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, file)) = open.iter().find(|(of, _)| *of == map) {
            return Ok(Arc::clone(file));
        }
        let path = self.paths.get(map as usize);
        let lost = || ShuffleError::Lost { map, reason: "nobody has it".into() };
        let file = Arc::new(ShuffleFile::open(path.ok_or_else(lost)?, map)?);
        if open.len() == OPEN_MAX {
            open.pop_front();
        }
        open.push_back((map, Arc::clone(&file)));
        Ok(file)
    }
}

impl Fetch for LocalFetch {
    fn bucket(&self, map: u32, bucket: u32) -> Result<Bucket, ShuffleError> {
        self.file(map)?.bucket(bucket)
    }

    fn read(&self, map: u32, offset: u64, room: &mut [u8]) -> Result<(), ShuffleError> {
        self.file(map)?.read(offset, room)
    }
}
