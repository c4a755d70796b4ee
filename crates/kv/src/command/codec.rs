//! The byte form of commands and replies, as it stands in the log and in completion records.
//!
//! ```text
//! command := version (1 byte, VERSION) · kind
//! kind    := tag (1 byte) · fields in the order of their declaration
//! number  := LEB128, seven bits a byte, low ones first; signed numbers zigzag
//! bytes   := length (number) · that many bytes
//! list    := count (number) · that many elements
//! option  := 0 | 1 · element
//! ```
//!
//! Tags are for ever: a kind that changes gets another tag. An unknown version or tag is an error
//! that names it, never a guess, so that replicas of different versions never apply differently.
//!
//! Decoding slices the input instead of copying it, accepts exactly what encoding makes (up to
//! over-long numbers), and grows lists only by elements that were really there.

use bytes::Bytes;
use kontiki_types::Slot;
use thiserror::Error;

use super::options::{
    BitFieldAction, BitFieldOp, BitOperation, BitRange, BitUnit, Condition, Deadline,
    ExpireCondition, Expiry, IntegerType, LcsOutput, Overflow, TimeUnit,
};
use super::{Extended, Parsed, Read, ScanPosition, Write};
use crate::Reply;

/// The version that [`Write::encode`], [`Read::encode`] and [`Reply::encode`] write.
pub const VERSION: u8 = 1;

/// How deep replies nest: an EXEC with an LCS IDX takes six.
const MAX_DEPTH: u8 = 16;

/// Elements for which a list reserves memory before it has seen them.
const RESERVED_ELEMENTS_MAX: u64 = 64;

/// The bytes are not a command or reply of a version known here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Written by another version.
    #[error("version {found} of the command format is not known here, only {VERSION}")]
    UnknownVersion {
        /// The version byte.
        found: u8,
    },
    /// A kind that is not known here.
    #[error("unknown {what} {tag}")]
    UnknownTag {
        /// Of what it is a kind.
        what: &'static str,
        /// Its number.
        tag: u8,
    },
    /// The bytes end within a field.
    #[error("the bytes end within a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("{count} bytes follow the last field")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A number does not fit 64 bits.
    #[error("a number does not fit 64 bits")]
    NumberTooLarge,
    /// A field has a value that its type does not have.
    #[error("not a valid {what}")]
    Invalid {
        /// The type of the field.
        what: &'static str,
    },
    /// Values nest deeper than any that are written.
    #[error("values nest too deeply")]
    TooDeep,
}

impl Write {
    /// Appends the byte form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.put(out);
    }

    /// The command that [`Write::encode`] wrote as all of `bytes`. Keys and values are slices of
    /// `bytes`.
    ///
    /// # Errors
    /// See [`DecodeError`]; the bytes may be anything.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Read {
    /// Appends the byte form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.put(out);
    }

    /// The command that [`Read::encode`] wrote as all of `bytes`. Keys are slices of `bytes`.
    ///
    /// # Errors
    /// See [`DecodeError`]; the bytes may be anything.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Reply {
    /// Appends the byte form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        self.put(out);
    }

    /// The reply that [`Reply::encode`] wrote as all of `bytes`. Strings are slices of `bytes`.
    ///
    /// # Errors
    /// See [`DecodeError`]; the bytes may be anything.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

fn decode<T: Field>(bytes: &Bytes) -> Result<T, DecodeError> {
    let mut reader = Reader { bytes, at: 0, depth: 0 };
    match reader.byte()? {
        VERSION => {}
        found => return Err(DecodeError::UnknownVersion { found }),
    }
    let value = T::take(&mut reader)?;
    match bytes.len() - reader.at {
        0 => Ok(value),
        count => Err(DecodeError::Trailing { count }),
    }
}

struct Reader<'a> {
    bytes: &'a Bytes,
    // Invariant: at <= bytes.len().
    at: usize,
    depth: u8,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(DecodeError::NumberTooLarge);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::NumberTooLarge)
    }

    fn slice(&mut self, length: u64) -> Result<Bytes, DecodeError> {
        let left = self.bytes.len() - self.at;
        let length = usize::try_from(length)
            .ok()
            .filter(|&length| length <= left)
            .ok_or(DecodeError::Truncated)?;
        let slice = self.bytes.slice(self.at..self.at + length);
        self.at += length;
        Ok(slice)
    }

    fn deeper<T>(
        &mut self,
        take: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        self.depth += 1;
        let value = take(self);
        self.depth -= 1;
        value
    }
}

/// Something with a byte form.
trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

impl Field for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        let mut left = *self;
        while left >= 0x80 {
            out.push(left as u8 | 0x80);
            left >>= 7;
        }
        out.push(left as u8);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.number()
    }
}

impl Field for i64 {
    fn put(&self, out: &mut Vec<u8>) {
        (((*self << 1) ^ (*self >> 63)) as u64).put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let zigzag = reader.number()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid { what: "truth value" }),
        }
    }
}

impl Field for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        out.extend_from_slice(self);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let length = reader.number()?;
        reader.slice(length)
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::take(reader)? { Some(T::take(reader)?) } else { None })
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::take(reader)?, B::take(reader)?))
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        for element in self {
            element.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.number()?;
        let mut elements = Self::with_capacity(count.min(RESERVED_ELEMENTS_MAX) as usize);
        for _ in 0..count {
            // Every element takes a byte at least, so a false count ends with the input.
            elements.push(T::take(reader)?);
        }
        Ok(elements)
    }
}

impl Field for IntegerType {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.bits() << 1 | u8::from(self.is_signed()));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let byte = reader.byte()?;
        Self::new(byte & 1 == 1, byte >> 1).ok_or(DecodeError::Invalid { what: "integer type" })
    }
}

impl Field for ExpireCondition {
    fn put(&self, out: &mut Vec<u8>) {
        let flags = [self.if_none, self.if_some, self.if_later, self.if_earlier];
        out.push(flags.iter().rev().fold(0, |byte, &flag| byte << 1 | u8::from(flag)));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let byte = reader.byte()?;
        if byte > 0b1111 {
            return Err(DecodeError::Invalid { what: "condition of an expiry" });
        }
        let flag = |bit: u8| byte >> bit & 1 == 1;
        Ok(Self { if_none: flag(0), if_some: flag(1), if_later: flag(2), if_earlier: flag(3) })
    }
}

impl Field for ScanPosition {
    fn put(&self, out: &mut Vec<u8>) {
        self.cursor().put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::from_cursor(reader.number()?))
    }
}

impl Field for Slot {
    fn put(&self, out: &mut Vec<u8>) {
        u64::from(self.get()).put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let slot = u16::try_from(reader.number()?).ok().and_then(Self::new);
        slot.ok_or(DecodeError::Invalid { what: "slot" })
    }
}

impl Field for Extended {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let slice = reader.slice(Self::BYTES as u64)?;
        let bytes = slice.as_ref().try_into().map_err(|_| DecodeError::Truncated)?;
        Self::from_bytes(bytes).ok_or(DecodeError::Invalid { what: "floating-point number" })
    }
}

/// The byte form of a struct: its fields in this order.
macro_rules! fields {
    ($type:ident { $($field:ident),* }) => {
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(Self { $($field: Field::take(reader)?),* })
            }
        }
    };
}

/// The byte form of an enum: a tag per variant, then its fields in this order. Fields of tuple
/// variants are named by their position.
macro_rules! tagged {
    ($type:ident, $what:literal, { $($tag:literal => $variant:ident { $($field:tt $(: $name:ident)?),* })* }) => {
        impl Field for $type {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $(tagged!(@pattern $variant { $($field $(: $name)?),* }) => {
                        out.push($tag);
                        $(tagged!(@name $field $(: $name)?).put(out);)*
                    })*
                }
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Ok(match reader.byte()? {
                    $($tag => Self::$variant { $($field: Field::take(reader)?),* },)*
                    tag => return Err(DecodeError::UnknownTag { what: $what, tag }),
                })
            }
        }
    };
    (@pattern $variant:ident { $($field:tt $(: $name:ident)?),* }) => {
        Self::$variant { $($field $(: $name)?),* }
    };
    (@name $field:tt : $name:ident) => { $name };
    (@name $field:tt) => { $field };
}

fields!(BitRange { start, end, unit });
fields!(BitFieldOp { integer, offset, action });

tagged!(Condition, "condition", { 0 => Always {} 1 => IfAbsent {} 2 => IfPresent {} });
tagged!(Deadline, "deadline", { 0 => At { 0: at } 1 => In { 0: span } });
tagged!(Expiry, "expiry", { 0 => Clear {} 1 => Keep {} 2 => Until { 0: deadline } });
tagged!(TimeUnit, "unit of time", { 0 => Seconds {} 1 => Milliseconds {} });
tagged!(BitUnit, "unit", { 0 => Byte {} 1 => Bit {} });
tagged!(BitOperation, "bit operation", { 0 => And {} 1 => Or {} 2 => Xor {} 3 => Not {} });
tagged!(Overflow, "overflow rule", { 0 => Wrap {} 1 => Saturate {} 2 => Fail {} });
tagged!(BitFieldAction, "bit field action", {
    0 => Get {}
    1 => Set { 0: value, 1: overflow }
    2 => IncrBy { 0: value, 1: overflow }
});
tagged!(LcsOutput, "output of LCS", {
    0 => Sequence {}
    1 => Length {}
    2 => Indexes { min_length, with_length }
});

tagged!(Write, "write", {
    1 => Set { key, value, condition, get, expiry }
    2 => SetNx { key, value }
    3 => GetEx { key, expiry }
    4 => GetDel { key }
    5 => MSet { pairs }
    6 => MSetNx { pairs }
    7 => Append { key, value }
    8 => SetRange { key, offset, value }
    9 => IncrBy { key, by }
    10 => IncrByFloat { key, by }
    11 => SetBit { key, offset, bit }
    12 => BitOp { operation, to, from }
    13 => BitField { key, ops }
    14 => Del { keys }
    15 => Rename { from, to, if_absent }
    16 => Copy { from, to, replace }
    17 => Expire { key, deadline, condition }
    18 => Persist { key }
    19 => Flush {}
    20 => Exec { watched, commands }
    21 => Transaction { compare, commands }
    22 => PutIfVersion { key, value, version }
    23 => FlushSlots { slots }
    24 => Steward { call }
});

tagged!(Read, "read", {
    1 => Answer { 0: reply }
    2 => IfLive { key, live, absent }
    3 => Get { key }
    4 => MGet { keys }
    5 => StrLen { key }
    6 => GetRange { key, start, end }
    7 => Lcs { first, second, output }
    8 => GetBit { key, offset }
    9 => BitCount { key, range }
    10 => BitPos { key, bit, range, bounded }
    11 => BitField { key, ops }
    12 => Exists { keys }
    13 => Type { key }
    14 => Keys { pattern }
    15 => RandomKey { choice }
    16 => Ttl { key, unit, absolute }
    17 => Scan { from, pattern, count, other_type }
    18 => DbSize {}
    19 => ObjectEncoding { key }
    20 => MemoryUsage { key }
    21 => Versions { keys }
    22 => GetWithVersion { key }
    23 => CountSlots { slots }
    24 => KeysOfSlots { slots, pattern, limit }
    25 => Steward { query }
});

/// A command within a transaction.
impl Field for Parsed {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Read(read) => {
                out.push(0);
                read.put(out);
            }
            Self::Write(write) => {
                out.push(1);
                write.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.deeper(|reader| match reader.byte()? {
            0 => match Read::take(reader)? {
                Read::Steward { .. } => Err(DecodeError::TooDeep),
                read => Ok(Self::Read(read)),
            },
            1 => match Write::take(reader)? {
                Write::Exec { .. } | Write::Transaction { .. } | Write::Steward { .. } => {
                    Err(DecodeError::TooDeep)
                }
                write => Ok(Self::Write(write)),
            },
            tag => Err(DecodeError::UnknownTag { what: "command", tag }),
        })
    }
}

/// Simple strings that are often answered, by position. Only ever extended.
const SIMPLE: [&str; 6] = ["PONG", "QUEUED", "string", "none", "RESET", "OK"];

impl Field for Reply {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ok => out.push(0),
            Self::Nil => out.push(1),
            Self::NilArray => out.push(2),
            Self::Integer(number) => tag(out, 3, number),
            Self::Bulk(bytes) => tag(out, 4, bytes),
            Self::Error(text) => tag(out, 5, text),
            Self::Simple(text) => match SIMPLE.iter().position(|known| known == text) {
                Some(position) => out.extend([6, position as u8]),
                None => tag(out, 7, &Bytes::from_static(text.as_bytes())),
            },
            Self::Status(text) => tag(out, 7, text),
            Self::Array(elements) => tag(out, 8, elements),
            Self::Set(elements) => tag(out, 9, elements),
            Self::Map(pairs) => tag(out, 10, pairs),
            Self::Verbatim(text) => tag(out, 11, text),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.deeper(|reader| {
            Ok(match reader.byte()? {
                0 => Self::Ok,
                1 => Self::Nil,
                2 => Self::NilArray,
                3 => Self::Integer(Field::take(reader)?),
                4 => Self::Bulk(Field::take(reader)?),
                5 => Self::Error(Field::take(reader)?),
                6 => {
                    let tag = reader.byte()?;
                    let unknown = DecodeError::UnknownTag { what: "simple string", tag };
                    Self::Simple(SIMPLE.get(usize::from(tag)).ok_or(unknown)?)
                }
                7 => Self::Status(Field::take(reader)?),
                8 => Self::Array(Field::take(reader)?),
                9 => Self::Set(Field::take(reader)?),
                10 => Self::Map(Field::take(reader)?),
                11 => Self::Verbatim(Field::take(reader)?),
                tag => return Err(DecodeError::UnknownTag { what: "reply", tag }),
            })
        })
    }
}

fn tag(out: &mut Vec<u8>, tag: u8, field: &impl Field) {
    out.push(tag);
    field.put(out);
}

#[cfg(test)]
mod tests;
