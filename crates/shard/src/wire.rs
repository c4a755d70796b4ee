//! The byte forms of commands and states: numbers as LEB128, lists with their count, kinds as one
//! byte that is never given another meaning.
//!
//! Reading trusts nothing: it never panics, and what it reserves is bounded by the bytes that are
//! there, since each element of a list takes at least one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kontiki_types::{
    ClientId, Epoch, GroupId, Incarnation, Index, LogId, LogTime, NodeId, Seq, Slot, Term,
};

/// Bytes that are not what this version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBytes {
    /// They end before what they began does.
    #[error("the bytes end too early")]
    Short,
    /// They go on behind the end.
    #[error("bytes are left over")]
    TooLong,
    /// Another version wrote them.
    #[error("format version {found}, this build knows {known}")]
    Version {
        /// What they say.
        found: u8,
        /// What [`crate`] writes.
        known: u8,
    },
    /// A kind that this version does not know.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// They say what cannot be: which rule they break.
    #[error("{0}")]
    Broken(&'static str),
    /// The checksum is another one.
    #[error("the checksum differs")]
    Checksum,
}

/// Takes values from the front of a buffer.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], BadBytes> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(BadBytes::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, BadBytes> {
        let (first, rest) = self.rest.split_first().ok_or(BadBytes::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBytes> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(BadBytes::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn number(&mut self) -> Result<u64, BadBytes> {
        let mut number = 0;
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
        Err(BadBytes::Broken("a number of more than 64 bits"))
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), BadBytes> {
        if self.rest.is_empty() { Ok(()) } else { Err(BadBytes::TooLong) }
    }
}

pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What has a byte form.
pub(crate) trait Wire: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes>;
}

/// A version byte and the value.
pub(crate) fn to_bytes(version: u8, value: &impl Wire) -> Vec<u8> {
    let mut out = vec![version];
    value.put(&mut out);
    out
}

/// The value that all of `bytes` are.
pub(crate) fn from_bytes<T: Wire>(known: u8, bytes: &[u8]) -> Result<T, BadBytes> {
    let mut from = Reader::new(bytes);
    let found = from.u8()?;
    if found != known {
        return Err(BadBytes::Version { found, known });
    }
    let value = T::take(&mut from)?;
    from.finish()?;
    Ok(value)
}

/// Length of the checksum behind a state.
const CHECKSUM: usize = 4;

/// As [`to_bytes`], with a CRC32C behind it.
pub(crate) fn to_checked_bytes(version: u8, value: &impl Wire) -> Vec<u8> {
    let mut out = to_bytes(version, value);
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_be_bytes());
    out
}

/// As [`from_bytes`], if the checksum is right.
pub(crate) fn from_checked_bytes<T: Wire>(known: u8, bytes: &[u8]) -> Result<T, BadBytes> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(BadBytes::Short)?;
    if crc32c::crc32c(content) != u32::from_be_bytes(*checksum) {
        return Err(BadBytes::Checksum);
    }
    from_bytes(known, content)
}

impl Wire for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, *self);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        from.number()
    }
}

impl Wire for u32 {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, u64::from(*self));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let number = from.number()?;
        number.try_into().map_err(|_| BadBytes::Broken("a number of more than 32 bits"))
    }
}

impl Wire for u128 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        from.array().map(Self::from_be_bytes)
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        match from.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(BadBytes::Broken("neither yes nor no")),
        }
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.len() as u64);
        out.extend_from_slice(self);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let length = usize::try_from(from.number()?).map_err(|_| BadBytes::Short)?;
        from.take(length).map(Self::copy_from_slice)
    }
}

impl Wire for Slot {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, u64::from(self.get()));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let number = u16::try_from(from.number()?).ok();
        number.and_then(Self::new).ok_or(BadBytes::Broken("a slot out of range"))
    }
}

impl Wire for ClientId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        from.array().map(|bytes| Self::from_bytes(&bytes))
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        if bool::take(from)? { T::take(from).map(Some) } else { Ok(None) }
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.len() as u64);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let count = from.number()?;
        let mut all = Self::new();
        for _ in 0..count {
            all.push(T::take(from)?);
        }
        Ok(all)
    }
}

impl<T: Wire> Wire for VecDeque<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.len() as u64);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        Vec::take(from).map(Self::from)
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.len() as u64);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, BadBytes> {
        let count = from.number()?;
        let mut all = Self::new();
        for _ in 0..count {
            let key = K::take(from)?;
            if all.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(BadBytes::Broken("keys out of order"));
            }
            all.insert(key, V::take(from)?);
        }
        Ok(all)
    }
}

/// The byte form of a type, field by field, or kind by kind.
macro_rules! wire {
    (struct $name:ident { $($field:tt),* }) => {
        impl $crate::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $($crate::wire::Wire::put(&self.$field, out);)*
            }

            fn take(
                from: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::BadBytes> {
                Ok(Self { $($field: $crate::wire::Wire::take(from)?),* })
            }
        }
    };
    (enum $name:ident { $($kind:literal => $variant:ident { $($field:ident),* }),* $(,)? }) => {
        impl $crate::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant { $($field),* } => {
                        out.push($kind);
                        $($crate::wire::Wire::put($field, out);)*
                    })*
                }
            }

            fn take(
                from: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::BadBytes> {
                match from.u8()? {
                    $($kind => Ok(Self::$variant { $($field: $crate::wire::Wire::take(from)?),* }),)*
                    kind => Err($crate::wire::BadBytes::Kind(kind)),
                }
            }
        }
    };
}

pub(crate) use wire;

wire!(struct Term { 0 });
wire!(struct Index { 0 });
wire!(struct Epoch { 0 });
wire!(struct GroupId { 0 });
wire!(struct NodeId { 0 });
wire!(struct Incarnation { 0 });
wire!(struct Seq { 0 });
wire!(struct LogTime { 0 });
wire!(struct LogId { term, index });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_and_stay_within_64_bits() {
        for number in [0, 1, 127, 128, 16384, u64::MAX - 1, u64::MAX] {
            assert_eq!(from_bytes::<u64>(1, &to_bytes(1, &number)), Ok(number));
        }
        let mut too_large = vec![1];
        too_large.extend([0xff; 9]);
        too_large.push(2);
        assert!(matches!(from_bytes::<u64>(1, &too_large), Err(BadBytes::Broken(_))));
        assert_eq!(from_bytes::<u32>(1, &to_bytes(1, &u64::MAX)).ok(), None);
    }

    #[test]
    fn a_claimed_length_reserves_nothing() {
        let mut bytes = vec![1];
        put_number(&mut bytes, u64::MAX);
        assert_eq!(from_bytes::<Bytes>(1, &bytes), Err(BadBytes::Short));
        assert_eq!(from_bytes::<Vec<u64>>(1, &bytes), Err(BadBytes::Short));
        assert_eq!(from_bytes::<BTreeMap<u64, u64>>(1, &bytes), Err(BadBytes::Short));
    }

    #[test]
    fn versions_leftovers_and_checksums_are_told_apart() {
        let bytes = to_checked_bytes(3, &7u64);
        assert_eq!(from_checked_bytes::<u64>(3, &bytes), Ok(7));
        let known = BadBytes::Version { found: 3, known: 4 };
        assert_eq!(from_checked_bytes::<u64>(4, &bytes), Err(known));
        let mut damaged = bytes.clone();
        damaged[1] ^= 1;
        assert_eq!(from_checked_bytes::<u64>(3, &damaged), Err(BadBytes::Checksum));
        assert_eq!(from_bytes::<u64>(3, &bytes), Err(BadBytes::TooLong));
        assert_eq!(from_checked_bytes::<u64>(3, &bytes[..3]), Err(BadBytes::Short));
    }
}
