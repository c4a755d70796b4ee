//! Segments that are not written any more, to be read and checked beside a log in use.

use std::io;
use std::path::PathBuf;

use super::frame::{self, Frame};
use super::segment::{self, Header};
use crate::disk::{Disk, File};

/// A closed segment as it was when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Where it is, until it is given back.
    pub path: PathBuf,
    pub(super) generation: u64,
    pub(super) end: u64,
}

impl SegmentFile {
    /// Reads the segment, calling `paced` with the number of bytes after each frame; where the first
    /// damaged frame is, if there is one.
    ///
    /// # Errors
    /// What reading gives: [`io::ErrorKind::NotFound`] if it has been given back since.
    pub fn first_damage<D: Disk>(
        &self,
        disk: &D,
        mut paced: impl FnMut(usize),
    ) -> io::Result<Option<u64>> {
        let file = disk.open(&self.path)?;
        let mut offset = segment::START as u64;
        while offset < self.end {
            let found = match self.frame_at(&file, offset) {
                // A length that was changed leads beyond the file.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                found => found?,
            };
            let Some(size) = found else {
                // The file may have been taken for another segment meanwhile.
                let is_the_same = header(disk, self)?.is_none_or(|it| it == self.generation);
                return if is_the_same { Ok(Some(offset)) } else { Err(given_back()) };
            };
            offset += size;
            paced(usize::try_from(size).unwrap_or(usize::MAX));
        }
        Ok(None)
    }

    /// The size of the frame at `offset`, if it is whole.
    fn frame_at<F: File>(&self, file: &F, offset: u64) -> io::Result<Option<u64>> {
        let mut bytes = vec![0; frame::HEADER];
        file.read_exact_at(&mut bytes, offset)?;
        let Some(found) = Frame::header(&bytes, self.generation) else { return Ok(None) };
        if found.size() > self.end - offset {
            return Ok(None);
        }
        bytes.resize(frame::HEADER + found.length as usize, 0);
        file.read_exact_at(&mut bytes, offset)?;
        Ok(Frame::parse(&bytes, self.generation).map(|(frame, _)| frame.size()))
    }
}

fn given_back() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// The generation of the file that has the segment's name; `None` if its header is damaged.
fn header<D: Disk>(disk: &D, segment: &SegmentFile) -> io::Result<Option<u64>> {
    let mut page = vec![0; segment::PAGE];
    match disk.open(&segment.path)?.read_exact_at(&mut page, segment::HEADER as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    Ok(Header::decode(&page).ok().map(|header| header.generation))
}
