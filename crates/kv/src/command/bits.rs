//! Bits: GETBIT, SETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the most significant one of byte 0.

use bytes::Bytes;

use super::options::{BitOperation, BitRange, BitUnit};
use super::strings::{clamp, length, padded};
use crate::{Access, AccessMut, Reply};

pub(super) fn get_bit<A: Access + ?Sized>(state: &A, key: &[u8], offset: u64) -> Reply {
    let bit = state.get(key).is_some_and(|record| bit_at(&record.value, offset));
    Reply::Integer(i64::from(bit))
}

/// The bit at `offset`; zeroes follow the last byte.
pub(super) fn bit_at(bytes: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset / 8).ok().and_then(|at| bytes.get(at));
    byte.is_some_and(|byte| byte & mask(offset) != 0)
}

/// The bit within its byte.
pub(super) fn mask(offset: u64) -> u8 {
    0x80 >> (offset % 8)
}

pub(super) fn set_bit<A: AccessMut + ?Sized>(
    state: &mut A,
    key: &[u8],
    offset: u64,
    bit: bool,
) -> Reply {
    let (before, expires) =
        state.get(key).map_or((Bytes::new(), None), |record| (record.value, record.expires));
    let old = bit_at(&before, offset);
    // The parser bounds the offset by the longest value.
    let at = (offset / 8) as usize;
    if old != bit || at >= before.len() {
        let mut whole = padded(&before, at + 1);
        whole[at] = if bit { whole[at] | mask(offset) } else { whole[at] & !mask(offset) };
        state.put(key, whole.into(), expires);
    }
    Reply::Integer(i64::from(old))
}

pub(super) fn bit_count<A: Access + ?Sized>(
    state: &A,
    key: &[u8],
    range: Option<BitRange>,
) -> Reply {
    let Some(record) = state.get(key) else { return Reply::Integer(0) };
    if range.is_some_and(|range| range.start < 0 && range.end < 0 && range.start > range.end) {
        return Reply::Integer(0);
    }
    let count = part(range, record.value.len()).map_or(0, |part| {
        let bytes = &record.value[part.first..=part.last];
        let ones: u64 = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let outside = (bytes[0] & !part.first_mask).count_ones()
            + (bytes[bytes.len() - 1] & !part.last_mask).count_ones();
        // In a part of one byte the two masks may leave out disjoint bits only.
        ones - u64::from(outside)
    });
    Reply::Integer(count.cast_signed())
}

pub(super) fn bit_pos<A: Access + ?Sized>(
    state: &A,
    key: &[u8],
    bit: bool,
    range: Option<BitRange>,
    bounded: bool,
) -> Reply {
    const NOWHERE: Reply = Reply::Integer(-1);
    let Some(record) = state.get(key) else {
        return Reply::Integer(if bit { -1 } else { 0 });
    };
    let Some(part) = part(range, record.value.len()) else { return NOWHERE };
    let found = (part.first..=part.last).find_map(|at| {
        let byte = record.value[at];
        let mut hits = if bit { byte } else { !byte };
        if at == part.first {
            hits &= part.first_mask;
        }
        if at == part.last {
            hits &= part.last_mask;
        }
        (hits != 0).then(|| at * 8 + hits.leading_zeros() as usize)
    });
    match found {
        Some(position) => length(position),
        None if bit || bounded => NOWHERE,
        None => length(record.value.len() * 8),
    }
}

/// A part of a string by bits: its first and last byte, and which bits of them belong to it.
struct Part {
    first: usize,
    last: usize,
    first_mask: u8,
    last_mask: u8,
}

fn part(range: Option<BitRange>, length: usize) -> Option<Part> {
    let range = range.unwrap_or(BitRange { start: 0, end: -1, unit: BitUnit::Byte });
    match range.unit {
        BitUnit::Byte => {
            let (first, last) = clamp(range.start, range.end, length)?;
            Some(Part { first, last, first_mask: 0xff, last_mask: 0xff })
        }
        BitUnit::Bit => {
            let (start, end) = clamp(range.start, range.end, length * 8)?;
            let first_mask = 0xff >> (start % 8);
            let last_mask = 0xff << (7 - end % 8);
            Some(Part { first: start / 8, last: end / 8, first_mask, last_mask })
        }
    }
}

pub(super) fn bit_op<A: AccessMut + ?Sized>(
    state: &mut A,
    operation: BitOperation,
    to: &[u8],
    from: &[Bytes],
) -> Reply {
    let operands: Vec<Bytes> =
        from.iter().map(|key| state.get(key).map_or(Bytes::new(), |record| record.value)).collect();
    let longest = operands.iter().map(Bytes::len).max().unwrap_or(0);
    if longest == 0 {
        state.delete(to);
        return Reply::Integer(0);
    }
    let Some((first, others)) = operands.split_first() else { return Reply::Integer(0) };
    let mut result = padded(first, longest);
    if operation == BitOperation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for operand in others {
        combine(operation, &mut result, operand);
    }
    state.put(to, result.into(), None);
    length(longest)
}

fn combine(operation: BitOperation, result: &mut [u8], operand: &[u8]) {
    let (beside, beyond) = result.split_at_mut(operand.len());
    let pairs = beside.iter_mut().zip(operand);
    match operation {
        BitOperation::And => {
            pairs.for_each(|(byte, other)| *byte &= other);
            beyond.fill(0);
        }
        BitOperation::Or => pairs.for_each(|(byte, other)| *byte |= other),
        BitOperation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
        BitOperation::Not => {}
    }
}
