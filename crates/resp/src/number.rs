//! Decimal integers as Redis reads and writes them.

/// Longest decimal form of an `i64`: a sign and 19 digits.
pub(crate) const DECIMAL_BYTES_MAX: usize = 20;

/// Reads a decimal `i64` as strictly as Redis does: an optional `-`, no `+`, no leading zeros, no
/// `-0`, no blanks.
///
/// ```
/// use kontiki_resp::parse_integer;
/// assert_eq!(parse_integer(b"-12"), Some(-12));
/// assert_eq!(parse_integer(b"007"), None);
/// ```
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() < DECIMAL_BYTES_MAX => {}
        _ => return None,
    }
    // Negative numbers reach one further than positive ones, so the sum is kept negative.
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Writes `value` in decimal into the end of `buffer` and returns the digits. No allocation.
///
/// ```
/// let mut buffer = [0; 20];
/// assert_eq!(kontiki_resp::format_integer(-7, &mut buffer), b"-7");
/// ```
pub fn format_integer(value: i64, buffer: &mut [u8; DECIMAL_BYTES_MAX]) -> &[u8] {
    let mut at = buffer.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        // The remainder of a division by ten is one digit.
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buffer[at] = b'-';
    }
    &buffer[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        let check =
            |text: &str, expect| assert_eq!(parse_integer(text.as_bytes()), expect, "{text}");
        check("0", Some(0));
        check("10", Some(10));
        check("-1", Some(-1));
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        for wrong in
            ["", "-", "-0", "+1", "01", "00", " 1", "1 ", "1a", "--1", "0x1", "9223372036854775808"]
        {
            check(wrong, None);
        }
        check("-9223372036854775809", None);
        check("100000000000000000000", None);
    }

    #[test]
    fn integers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 1, 9, 10, 99, 100, 12345, i64::MAX, i64::MIN, -1, -10] {
            let mut buffer = [0; DECIMAL_BYTES_MAX];
            assert_eq!(format_integer(value, &mut buffer), value.to_string().as_bytes());
        }
    }
}
