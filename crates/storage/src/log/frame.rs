//! A frame: what one write and one sync bring to the log. Byte table: `docs/log-format.md`.

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 56;
/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;
const MAGIC: [u8; 4] = *b"KFRM";

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Random number of the segment's present use.
    pub generation: u64,
    /// Position in the chain of frames, from 1.
    pub sequence: u64,
    /// Highest sequence whose sync had returned when this frame was written.
    pub durable: u64,
    /// Number of the oldest segment that was needed then.
    pub oldest: u64,
    /// CRC of the frame before.
    pub previous: u32,
    /// Number of records in the body.
    pub records: u32,
    /// CRC of this frame. Set by [`Frame::seal`].
    pub crc: u32,
    /// Bytes of the body.
    pub length: u32,
}

impl Frame {
    /// Bytes that the frame takes in a segment.
    pub(super) fn size(&self) -> u64 {
        padded(HEADER + self.length as usize) as u64
    }

    /// Writes the header into the first [`HEADER`] bytes of `buffer`, whose rest is the body, and
    /// returns the CRC over all.
    pub(super) fn seal(&self, buffer: &mut [u8]) -> u32 {
        let length = (buffer.len() - HEADER) as u32;
        buffer[4..8].copy_from_slice(&MAGIC);
        buffer[8..16].copy_from_slice(&self.generation.to_le_bytes());
        buffer[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        buffer[24..32].copy_from_slice(&self.durable.to_le_bytes());
        buffer[32..40].copy_from_slice(&self.oldest.to_le_bytes());
        buffer[40..44].copy_from_slice(&length.to_le_bytes());
        buffer[44..48].copy_from_slice(&self.previous.to_le_bytes());
        buffer[48..52].copy_from_slice(&self.records.to_le_bytes());
        buffer[52..56].copy_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(&buffer[4..]);
        buffer[..4].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The frame at the beginning of `bytes`, if it is whole, unharmed and of `generation`; and
    /// its body.
    pub(super) fn parse(bytes: &[u8], generation: u64) -> Option<(Self, &[u8])> {
        let frame = Self::header(bytes, generation)?;
        let end = HEADER.checked_add(frame.length as usize)?;
        let whole = bytes.get(..end)?;
        (crc32c::crc32c(&whole[4..]) == frame.crc).then_some((frame, &whole[HEADER..]))
    }

    /// The header at the beginning of `bytes`, unproven: only magic and generation are compared.
    pub(super) fn header(bytes: &[u8], generation: u64) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        if bytes[4..8] != MAGIC || u64_at(bytes, 8) != generation {
            return None;
        }
        Some(Self {
            crc: u32_at(bytes, 0),
            generation,
            sequence: u64_at(bytes, 16),
            durable: u64_at(bytes, 24),
            oldest: u64_at(bytes, 32),
            length: u32_at(bytes, 40),
            previous: u32_at(bytes, 44),
            records: u32_at(bytes, 48),
        })
    }
}

/// Where, from `at` on, the next frame may begin: a place whose magic is right.
pub(super) fn next_magic(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or(&[]).chunks_exact(ALIGN);
    at + ALIGN * rest.take_while(|place| place[4..] != MAGIC).count()
}

/// `size` rounded up to the next place where a frame may begin.
pub(super) const fn padded(size: usize) -> usize {
    size.next_multiple_of(ALIGN)
}

/// The little-endian number at `at`. Panics past the end: for headers of checked size only.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The little-endian number at `at`. Panics past the end: for headers of checked size only.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
