//! Bits and bit fields.

use bytes::Bytes;

use super::{Outcome, fail, integer, is, key, read, write};
use crate::Reply;
use crate::command::options::{
    BitFieldAction, BitFieldOp, BitOperation, BitRange, BitUnit, IntegerType, Overflow,
};
use crate::command::{MAX_VALUE_BYTES, Read, Write, error, number};

/// A bit's position; `None` if it is none or lies beyond the longest value.
fn offset(argument: &[u8], scale: u64) -> Option<u64> {
    let position = u64::try_from(number::parse_i64(argument)?).ok()?.checked_mul(scale)?;
    (position >> 3 < MAX_VALUE_BYTES as u64).then_some(position)
}

fn bit_offset(argument: &Bytes) -> Result<u64, Reply> {
    offset(argument, 1).ok_or_else(|| error::fixed(error::BIT_OFFSET))
}

pub(crate) fn getbit(args: &[Bytes]) -> Outcome {
    read(Read::GetBit { key: key(args), offset: bit_offset(&args[2])? })
}

pub(crate) fn setbit(args: &[Bytes]) -> Outcome {
    let offset = bit_offset(&args[2])?;
    match number::parse_i64(&args[3]) {
        Some(bit @ 0..=1) => write(Write::SetBit { key: key(args), offset, bit: bit == 1 }),
        _ => fail(error::BIT_VALUE),
    }
}

pub(crate) fn bitcount(args: &[Bytes]) -> Outcome {
    let key = key(args);
    let range = match &args[2..] {
        [] => Ok(None),
        [start, end] => range(start, end, None).map(Some),
        [start, end, unit] => range(start, end, Some(unit)).map(Some),
        _ => Err(error::fixed(error::SYNTAX)),
    };
    match range {
        Ok(range) => read(Read::BitCount { key, range }),
        Err(error) => read(Read::IfLive { key, live: error, absent: Reply::Integer(0) }),
    }
}

fn range(start: &Bytes, end: &Bytes, unit: Option<&Bytes>) -> Result<BitRange, Reply> {
    let (start, end) = (integer(start)?, integer(end)?);
    // Such a part is empty in every string, and Redis then does not look at the unit.
    let unit = unit.filter(|_| start >= 0 || end >= 0 || start <= end);
    Ok(BitRange { start, end, unit: bit_unit(unit)? })
}

fn bit_unit(argument: Option<&Bytes>) -> Result<BitUnit, Reply> {
    match argument {
        None => Ok(BitUnit::Byte),
        Some(argument) if is(argument, "BYTE") => Ok(BitUnit::Byte),
        Some(argument) if is(argument, "BIT") => Ok(BitUnit::Bit),
        Some(_) => Err(error::fixed(error::SYNTAX)),
    }
}

pub(crate) fn bitpos(args: &[Bytes]) -> Outcome {
    let key = key(args);
    let bit = match integer(&args[2])? {
        bit @ 0..=1 => bit == 1,
        _ => return fail(error::BIT_ARGUMENT),
    };
    match search_range(&args[3..]) {
        Ok((range, bounded)) => read(Read::BitPos { key, bit, range, bounded }),
        Err(error) => {
            let absent = Reply::Integer(if bit { -1 } else { 0 });
            read(Read::IfLive { key, live: error, absent })
        }
    }
}

fn search_range(args: &[Bytes]) -> Result<(Option<BitRange>, bool), Reply> {
    let Some(start) = args.first() else { return Ok((None, false)) };
    if args.len() > 3 {
        return Err(error::fixed(error::SYNTAX));
    }
    let start = integer(start)?;
    let unit = bit_unit(args.get(2))?;
    let end = args.get(1).map_or(Ok(-1), integer)?;
    Ok((Some(BitRange { start, end, unit }), args.len() > 1))
}

pub(crate) fn bitop(args: &[Bytes]) -> Outcome {
    const OPERATIONS: [(&str, BitOperation); 4] = [
        ("AND", BitOperation::And),
        ("OR", BitOperation::Or),
        ("XOR", BitOperation::Xor),
        ("NOT", BitOperation::Not),
    ];
    let Some(&(_, operation)) = OPERATIONS.iter().find(|(name, _)| is(&args[1], name)) else {
        return fail(error::SYNTAX);
    };
    if operation == BitOperation::Not && args.len() != 4 {
        return fail(error::BITOP_NOT);
    }
    write(Write::BitOp { operation, to: args[2].clone(), from: args[3..].to_vec() })
}

pub(crate) fn bitfield(args: &[Bytes]) -> Outcome {
    let key = key(args);
    let ops = steps(&args[2..])?;
    if only_reads(&ops) {
        read(Read::BitField { key, ops })
    } else {
        write(Write::BitField { key, ops })
    }
}

pub(crate) fn bitfield_ro(args: &[Bytes]) -> Outcome {
    let ops = steps(&args[2..])?;
    if only_reads(&ops) {
        read(Read::BitField { key: key(args), ops })
    } else {
        fail(error::BITFIELD_READ_ONLY)
    }
}

fn only_reads(ops: &[BitFieldOp]) -> bool {
    ops.iter().all(|op| op.action == BitFieldAction::Get)
}

fn steps(mut args: &[Bytes]) -> Result<Vec<BitFieldOp>, Reply> {
    let mut ops = Vec::new();
    let mut overflow = Overflow::Wrap;
    while let Some((name, rest)) = args.split_first() {
        args = match rest {
            [integer, offset, rest @ ..] if is(name, "GET") => {
                ops.push(place(integer, offset)?);
                rest
            }
            [integer, offset, value, rest @ ..] if is(name, "SET") => {
                let op = place(integer, offset)?;
                let action = BitFieldAction::Set(self::integer(value)?, overflow);
                ops.push(BitFieldOp { action, ..op });
                rest
            }
            [integer, offset, value, rest @ ..] if is(name, "INCRBY") => {
                let op = place(integer, offset)?;
                let action = BitFieldAction::IncrBy(self::integer(value)?, overflow);
                ops.push(BitFieldOp { action, ..op });
                rest
            }
            [rule, rest @ ..] if is(name, "OVERFLOW") => {
                overflow = overflow_rule(rule)?;
                rest
            }
            _ => return Err(error::fixed(error::SYNTAX)),
        };
    }
    Ok(ops)
}

fn place(integer: &Bytes, offset: &Bytes) -> Result<BitFieldOp, Reply> {
    let integer = integer_type(integer).ok_or_else(|| error::fixed(error::BITFIELD_TYPE))?;
    let offset = match offset.as_ref() {
        [b'#', count @ ..] => self::offset(count, u64::from(integer.bits())),
        offset => self::offset(offset, 1),
    };
    let offset = offset.ok_or_else(|| error::fixed(error::BIT_OFFSET))?;
    Ok(BitFieldOp { integer, offset, action: BitFieldAction::Get })
}

fn integer_type(argument: &[u8]) -> Option<IntegerType> {
    let (signed, bits) = match argument {
        [b'i', bits @ ..] => (true, bits),
        [b'u', bits @ ..] => (false, bits),
        _ => return None,
    };
    IntegerType::new(signed, u8::try_from(number::parse_i64(bits)?).ok()?)
}

fn overflow_rule(argument: &Bytes) -> Result<Overflow, Reply> {
    const RULES: [(&str, Overflow); 3] =
        [("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
    let rule = RULES.iter().find(|(name, _)| is(argument, name)).map(|&(_, rule)| rule);
    rule.ok_or_else(|| error::fixed(error::OVERFLOW_RULE))
}
