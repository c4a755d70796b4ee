//! Snapshots: the logical state as a stream of bytes.
//!
//! The stream is a sequence of *items* (header, the steward if there is one, slots, clients, rows, end) cut into *frames*, each
//! with its length and a hash over its number and content. The end item has the state hash, summed
//! up while writing and again while reading. Two replicas that have applied the same entries write
//! the same bytes; rows that do not count (litter, pages, deltas, the due index) are not in it.

mod export;
mod import;
mod summary;

pub use export::Export;
pub use import::{Import, SnapshotError};
pub(crate) use summary::Summary;

use crate::bytes_in::BadBytes;
use crate::hash::hash64;

/// A frame's content is at most this long; a longer row spans frames.
const FRAME_BYTES_MAX: usize = 256 << 10;
/// Length and hash.
const FRAME_HEADER: usize = 4 + 8;

const MAGIC: &[u8; 8] = b"KONTIKIs";

// Items: tag, length, body.
const HEADER: u8 = b'H';
const STEWARD: u8 = b'M';
const SLOT: u8 = b'S';
const CLIENT: u8 = b'C';
const ROW: u8 = b'R';
const MOVING: u8 = b'T';
const STAGED: u8 = b'U';
const END: u8 = b'E';

/// Appends a frame.
fn put_frame(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(&hash64(number, content).to_be_bytes());
    out.extend_from_slice(content);
}

/// The content of the frame that `bytes` begins with; `None` if it is not all there yet.
fn read_frame(bytes: &[u8], number: u64) -> Result<Option<&[u8]>, BadBytes> {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER>() else { return Ok(None) };
    let [a, b, c, d, hash @ ..] = *header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(BadBytes::new(format!("frame {number} claims {length} bytes")));
    }
    let Some(content) = rest.get(..length) else { return Ok(None) };
    if hash64(number, content) != u64::from_be_bytes(hash) {
        return Err(BadBytes::new(format!("frame {number} is damaged")));
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests;
