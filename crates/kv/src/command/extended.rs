//! The numbers of INCRBYFLOAT.
//!
//! Redis computes INCRBYFLOAT in C's `long double`, which on x86-64 has a mantissa of 64 bits, and
//! prints 17 digits after the point, without trailing zeroes. The same here in integers, so that
//! every platform gets the same bytes, and the ones that Redis gives. Reading, adding and printing
//! each round to the nearest, ties to even.
//!
//! A number is mantissa × 2^exponent. Its mantissa has the top bit set, unless the exponent is the
//! smallest; so there is one form for each number.

use super::big::Big;

/// Smallest exponent: that of numbers too small for a full mantissa, zero among them.
const EXPONENT_MIN: i32 = -16445;

/// Largest exponent of a finite number.
const EXPONENT_MAX: i32 = 16320;

/// Stands for the infinite.
const INFINITE: i16 = i16::MAX;

/// Texts from this length on are no numbers.
const TEXT_MAX: usize = 5 * 1024;

/// Digits after the point.
const FRACTION_DIGITS: usize = 17;

/// A number of INCRBYFLOAT: 64 bits of mantissa, a sign, possibly infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    negative: bool,
    exponent: i16,
    mantissa: u64,
}

impl Extended {
    /// Zero.
    pub const ZERO: Self = Self { negative: false, exponent: EXPONENT_MIN as i16, mantissa: 0 };

    /// Size of [`Extended::to_bytes`].
    pub const BYTES: usize = 11;

    /// Sign, exponent, mantissa; big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = u8::from(self.negative);
        bytes[1..3].copy_from_slice(&self.exponent.to_be_bytes());
        bytes[3..].copy_from_slice(&self.mantissa.to_be_bytes());
        bytes
    }

    /// The number that [`Extended::to_bytes`] wrote; `None` if these bytes are none.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [sign, e0, e1, mantissa @ ..] = *bytes;
        let number = Self {
            negative: sign == 1,
            exponent: i16::from_be_bytes([e0, e1]),
            mantissa: u64::from_be_bytes(mantissa),
        };
        let exponent = i32::from(number.exponent);
        let full = number.mantissa >> 63 == 1;
        let valid = match exponent {
            EXPONENT_MIN..=EXPONENT_MAX => full || exponent == EXPONENT_MIN,
            _ => number.exponent == INFINITE && number.mantissa == 1 << 63,
        };
        (sign <= 1 && valid).then_some(number)
    }

    /// Reads a number as C's `strtold`: decimal or hexadecimal with an optional fraction and
    /// exponent, or `inf`, `infinity`. `None`: it is no number, not a number (`nan`), or out of
    /// range.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] => (false, digits),
            digits => (false, digits),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Self { negative, exponent: INFINITE, mantissa: 1 << 63 });
        }
        match digits {
            [b'0', b'x' | b'X', hex @ ..] => parse_hexadecimal(negative, hex),
            decimal => parse_decimal(negative, decimal),
        }
    }

    /// The sum; `None` if it is not finite.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        if self.exponent == INFINITE || other.exponent == INFINITE {
            return None;
        }
        let (large, small) =
            if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        // The larger exponent goes down by up to 62 to meet the other: its mantissa then still
        // fits beside a sign. What the smaller mantissa loses in meeting it is remembered in
        // `sticky`, for the rounding.
        let distance = i32::from(large.exponent) - i32::from(small.exponent);
        let down = distance.min(62);
        let up = (distance - down) as u32;
        let exponent = i32::from(large.exponent) - down;
        let kept = small.mantissa.checked_shr(up).unwrap_or(0);
        let sticky = up > 0 && small.mantissa != kept.checked_shl(up).unwrap_or(0);
        let first = i128::from(large.mantissa) << down;
        let second = i128::from(kept);
        if large.negative == small.negative {
            return round(large.negative, (first + second) as u128, exponent, sticky);
        }
        let difference = first - second - i128::from(sticky);
        let negative =
            if difference < 0 { small.negative } else { large.negative && difference > 0 };
        round(negative, difference.unsigned_abs(), exponent, sticky)
    }

    /// Decimal digits, without exponent, at most 17 of them after the point.
    pub fn format(self) -> Vec<u8> {
        let mut text = if self.exponent >= 0 {
            if self.exponent == INFINITE {
                b"inf".to_vec()
            } else {
                Big::from(self.mantissa).shifted_left(self.exponent as u32).to_decimal()
            }
        } else {
            format_fraction(self.mantissa, -i32::from(self.exponent))
        };
        if self.negative && text != b"0" {
            text.insert(0, b'-');
        }
        text
    }
}

/// mantissa / 2^`shift` in decimal.
fn format_fraction(mantissa: u64, shift: i32) -> Vec<u8> {
    const UNIT: u128 = 10_u128.pow(FRACTION_DIGITS as u32);
    // Below 2^121, so that a shift from 122 on leaves less than a half.
    let scaled = u128::from(mantissa) * UNIT;
    let rounded = if shift >= 122 { 0 } else { shift_right_rounding(scaled, shift as u32, false) };
    let mut text = Big::from((rounded / UNIT) as u64).to_decimal();
    let mut fraction = rounded % UNIT;
    if fraction > 0 {
        text.push(b'.');
        let point = text.len();
        text.resize(point + FRACTION_DIGITS, b'0');
        for digit in text[point..].iter_mut().rev() {
            *digit = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        while text.last() == Some(&b'0') {
            text.pop();
        }
    }
    text
}

/// The nearest number to `value` × 2^`exponent`, or to a bit more than that if `sticky`. `None`:
/// beyond the largest.
///
/// With `sticky`, `value` must have more than 64 bits, or lie below the smallest exponent.
fn round(negative: bool, value: u128, exponent: i32, sticky: bool) -> Option<Extended> {
    if value == 0 {
        return Some(Extended { negative, exponent: EXPONENT_MIN as i16, mantissa: 0 });
    }
    let bits = 128 - value.leading_zeros() as i32;
    let drop = (bits - 64).max(EXPONENT_MIN - exponent);
    let (mut mantissa, mut exponent) = if drop <= 0 {
        (value << -drop, exponent + drop)
    } else if drop > 127 {
        (0, EXPONENT_MIN)
    } else {
        (shift_right_rounding(value, drop as u32, sticky), exponent + drop)
    };
    if mantissa >> 64 != 0 {
        mantissa >>= 1;
        exponent += 1;
    }
    if exponent > EXPONENT_MAX {
        return None;
    }
    Some(Extended { negative, exponent: exponent as i16, mantissa: mantissa as u64 })
}

/// value / 2^`shift`, to the nearest, ties to even; `sticky`: the value is a bit larger.
fn shift_right_rounding(value: u128, shift: u32, sticky: bool) -> u128 {
    if shift == 0 {
        return value;
    }
    let whole = value >> shift;
    let rest = value & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    let up = rest > half || rest == half && (sticky || whole & 1 == 1);
    whole + u128::from(up)
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<Extended> {
    let (digits, point, exponent) = split(text, u8::is_ascii_digit, b'e')?;
    let digits: Vec<u8> = digits.iter().map(|digit| digit - b'0').collect();
    let leading = digits.iter().take_while(|&&digit| digit == 0).count();
    if leading == digits.len() {
        return round(negative, 0, 0, false);
    }
    // The value is 0.DIGITS × 10^magnitude. Far outside, the answer is known without the work.
    let magnitude = exponent + point as i64 - leading as i64;
    if !(-5000..=5000).contains(&magnitude) {
        return None;
    }
    let scale = magnitude - (digits.len() - leading) as i64;
    let mut above = Big::from_decimal(&digits[leading..]);
    let mut below = Big::from(1);
    let side = if scale < 0 { &mut below } else { &mut above };
    side.multiply_by_power_of_ten(scale.unsigned_abs() as u32);
    // Shifted so that the quotient has 66 or 67 bits: a mantissa and what rounding needs.
    let shift = 66 + below.bits() as i32 - above.bits() as i32;
    let side = if shift > 0 { &mut above } else { &mut below };
    *side = side.shifted_left(shift.unsigned_abs());
    let (quotient, rest) = above.divided_by(&below);
    let number = round(negative, quotient, -shift, rest)?;
    // Too small for any number but zero is out of range, as beyond the largest is.
    (number.mantissa != 0).then_some(number)
}

fn parse_hexadecimal(negative: bool, text: &[u8]) -> Option<Extended> {
    let (digits, point, exponent) = split(text, u8::is_ascii_hexdigit, b'p')?;
    let mut value: u128 = 0;
    let mut sticky = false;
    let mut exponent = exponent + 4 * (point as i64 - digits.len() as i64);
    for digit in &digits {
        let nibble = (*digit as char).to_digit(16)?;
        if value >> 120 == 0 {
            value = value << 4 | u128::from(nibble);
        } else {
            sticky |= nibble != 0;
            exponent += 4;
        }
    }
    if value == 0 {
        return round(negative, 0, 0, false);
    }
    let exponent = i32::try_from(exponent.clamp(-100_000, 100_000)).ok()?;
    round(negative, value, exponent, sticky).filter(|number| number.mantissa != 0)
}

/// Takes apart digits with at most one point among them, and an exponent after `mark`: the
/// digits, how many of them stand before the point, the exponent. `None`: there are no digits, or
/// something else follows.
fn split(text: &[u8], is_digit: impl Fn(&u8) -> bool, mark: u8) -> Option<(Vec<u8>, usize, i64)> {
    let mut digits = Vec::with_capacity(text.len());
    let mut point = None;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        if is_digit(byte) {
            digits.push(*byte);
        } else if *byte == b'.' && point.is_none() {
            point = Some(digits.len());
        } else {
            break;
        }
        at += 1;
    }
    let exponent = match text.get(at) {
        None => 0,
        Some(byte) if byte.eq_ignore_ascii_case(&mark) => parse_exponent(&text[at + 1..])?,
        Some(_) => return None,
    };
    if digits.is_empty() {
        return None;
    }
    let point = point.unwrap_or(digits.len());
    Some((digits, point, exponent))
}

/// A decimal exponent with an optional sign, bounded: beyond a million all are alike.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let bounded = digits
        .iter()
        .fold(0, |all: i64, digit| (all * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some(sign * bounded)
}

#[cfg(test)]
mod tests;
