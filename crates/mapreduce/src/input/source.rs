//! A file of the input that is open: on a file system, or an object in a store.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::listing::path_of;
use crate::objects::{CHUNK_BYTES, ObjectReader, Place, is_url};

/// An open file. Reads have a place of their own.
pub(crate) enum InputSource {
    File(File),
    Object(ObjectReader),
}

impl InputSource {
    /// Opens the file `name`, to read on from where one begins; and its length.
    pub(crate) fn open(name: &[u8]) -> io::Result<(Self, u64)> {
        Self::open_for(name, CHUNK_BYTES)
    }

    /// Opens it to read about `bytes` here and there.
    pub(crate) fn open_for(name: &[u8], bytes: u64) -> io::Result<(Self, u64)> {
        if is_url(name) {
            let place = Place::of(name)?;
            let length = place.length()?.ok_or(io::ErrorKind::NotFound)?;
            return Ok((Self::Object(ObjectReader::new(place, length, bytes)), length));
        }
        let file = File::open(path_of(name))?;
        let length = file.metadata()?.len();
        Ok((Self::File(file), length))
    }

    /// Reads at `offset`; 0 bytes at the end.
    pub(crate) fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read_at(room, offset),
            Self::Object(object) => object.read_at(room, offset),
        }
    }
}

/// Reads a file from its beginning.
pub(super) struct FromStart {
    source: InputSource,
    position: u64,
}

impl FromStart {
    pub(super) fn new(source: InputSource) -> Self {
        Self { source, position: 0 }
    }
}

impl Read for FromStart {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(room, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}
