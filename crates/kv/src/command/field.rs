//! BITFIELD: integers of any width at any bit.

use bytes::Bytes;

use super::bits::{bit_at, mask};
use super::options::{BitFieldAction, BitFieldOp, IntegerType, Overflow};
use super::strings::padded;
use crate::{Access, AccessMut, Reply};

pub(super) fn read<A: Access + ?Sized>(state: &A, key: &[u8], ops: &[BitFieldOp]) -> Reply {
    let value = state.get(key).map_or(Bytes::new(), |record| record.value);
    Reply::Array(ops.iter().map(|op| Reply::Integer(get(&value, op) as i64)).collect())
}

pub(super) fn write<A: AccessMut + ?Sized>(state: &mut A, key: &[u8], ops: &[BitFieldOp]) -> Reply {
    let (before, expires) =
        state.get(key).map_or((Bytes::new(), None), |record| (record.value, record.expires));
    // The string grows to hold every integer that may be written, whether or not it is.
    let writes = ops.iter().filter(|op| op.action != BitFieldAction::Get);
    let bits = writes.map(|op| op.offset + u64::from(op.integer.bits())).max().unwrap_or(0);
    // The parser bounds the offset by the longest value.
    let mut value = padded(&before, bits.div_ceil(8) as usize);
    let replies = ops.iter().map(|op| step(&mut value, op)).collect();
    if value != before {
        state.put(key, value.into(), expires);
    }
    Reply::Array(replies)
}

fn step(value: &mut [u8], op: &BitFieldOp) -> Reply {
    let before = get(value, op);
    let (wanted, overflow) = match op.action {
        BitFieldAction::Get => return Reply::Integer(before as i64),
        // As an unsigned integer, a negative number stands for a huge one.
        BitFieldAction::Set(to, overflow) if op.integer.is_signed() => (i128::from(to), overflow),
        BitFieldAction::Set(to, overflow) => (i128::from(to.cast_unsigned()), overflow),
        BitFieldAction::IncrBy(by, overflow) => (before + i128::from(by), overflow),
    };
    let Some(after) = fit(wanted, op.integer, overflow) else { return Reply::Nil };
    put(value, op, after);
    let answered = if matches!(op.action, BitFieldAction::Set(..)) { before } else { after };
    Reply::Integer(answered as i64)
}

/// The number of the type that stands for `number`; `None`: it does not fit.
fn fit(number: i128, integer: IntegerType, overflow: Overflow) -> Option<i128> {
    let (low, high) = bounds(integer);
    if (low..=high).contains(&number) {
        return Some(number);
    }
    match overflow {
        Overflow::Fail => None,
        Overflow::Saturate => Some(number.clamp(low, high)),
        Overflow::Wrap => Some(wrap(number, integer)),
    }
}

fn bounds(integer: IntegerType) -> (i128, i128) {
    let bits = integer.bits();
    if integer.is_signed() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

/// The low bits of `number`, read as a number of the type.
fn wrap(number: i128, integer: IntegerType) -> i128 {
    let unused = 128 - u32::from(integer.bits());
    if integer.is_signed() {
        number << unused >> unused
    } else {
        (number.cast_unsigned() << unused >> unused).cast_signed()
    }
}

fn get(value: &[u8], op: &BitFieldOp) -> i128 {
    let end = op.offset + u64::from(op.integer.bits());
    let bits = (op.offset..end).fold(0, |bits, at| bits << 1 | i128::from(bit_at(value, at)));
    wrap(bits, op.integer)
}

fn put(value: &mut [u8], op: &BitFieldOp, number: i128) {
    let bits = u64::from(op.integer.bits());
    for place in 0..bits {
        let at = op.offset + bits - 1 - place;
        let byte = &mut value[(at / 8) as usize];
        if number >> place & 1 == 1 {
            *byte |= mask(at);
        } else {
            *byte &= !mask(at);
        }
    }
}
