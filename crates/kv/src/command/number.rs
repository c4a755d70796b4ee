//! Integers as Redis reads and writes them.

use bytes::Bytes;

/// The longest decimal form of an `i64`: a sign and 19 digits.
const DIGITS_MAX: usize = 20;

/// The number that `text` is the canonical decimal form of: no plus sign, no leading zero, no
/// space.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if text.len() <= DIGITS_MAX => {}
        _ => return None,
    }
    // Counted below zero, where there is one number more.
    let mut number: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// The decimal form.
pub(crate) fn format_i64(number: i64) -> Bytes {
    let mut buffer = [0; DIGITS_MAX];
    let mut at = DIGITS_MAX;
    let mut left = number.unsigned_abs();
    loop {
        at -= 1;
        buffer[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    Bytes::copy_from_slice(&buffer[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_number() {
        for text in ["0", "1", "-1", "10", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(parse_i64(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "0x1",
            "9223372036854775808",
            "a",
            "1\0",
            "-9223372036854775809",
            "99999999999999999999",
            "100000000000000000000000",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn formats_the_ends_of_the_range() {
        for number in [0, 7, -7, 10, i64::MAX, i64::MIN] {
            assert_eq!(format_i64(number), number.to_string());
        }
    }
}
