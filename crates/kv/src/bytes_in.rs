//! Reading our own byte formats without trusting them.

use std::borrow::Cow;

/// Bytes that are not what this version writes. The text says which format and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBytes(Cow<'static, str>);

impl BadBytes {
    /// With what is wrong.
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }

    /// An unknown format version of `what`.
    pub fn version(what: &str, found: u8, known: u8) -> Self {
        Self(format!("{what}: format version {found}, this build knows {known}").into())
    }
}

/// Takes numbers and slices from the front of a buffer.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.all.len()
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], BadBytes> {
        let rest = &self.all[self.at..];
        let taken = rest.get(..length).ok_or_else(|| BadBytes::new("ends too early"))?;
        self.at += length;
        Ok(taken)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.all[self.at..];
        self.at = self.all.len();
        rest
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], BadBytes> {
        self.take(N)?.try_into().map_err(|_| BadBytes::new("ends too early"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BadBytes> {
        self.array::<1>().map(|[byte]| *byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, BadBytes> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, BadBytes> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// An unsigned LEB128 number of at most 64 bits.
    pub(crate) fn varint(&mut self) -> Result<u64, BadBytes> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BadBytes::new("number of more than 64 bits"))
    }

    /// A varint length and that many bytes.
    pub(crate) fn blob(&mut self) -> Result<&'a [u8], BadBytes> {
        let length = self.varint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// Appends `number` as unsigned LEB128.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a varint length and the bytes.
pub(crate) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_and_stay_within_64_bits() {
        for number in [0, 1, 127, 128, 16383, 16384, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, number);
            let mut cursor = Cursor::new(&out);
            assert_eq!(cursor.varint().unwrap(), number);
            assert!(cursor.is_empty());
        }
        let mut too_large = vec![0xff; 9];
        too_large.push(2);
        assert!(Cursor::new(&too_large).varint().is_err());
        assert!(Cursor::new(&[0x80; 11]).varint().is_err());
    }

    #[test]
    fn a_blob_never_reaches_beyond_the_buffer() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert!(Cursor::new(&out).blob().is_err());
    }
}
