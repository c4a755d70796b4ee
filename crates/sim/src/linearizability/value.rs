//! Values as the search compares them: by length and fingerprint, so that a long value that grows
//! byte by byte costs nothing to keep, to append to and to compare.

/// A string: its length, its fingerprint, and its bytes if they are few.
///
/// Two strings of one length with one fingerprint are taken for the same. The fingerprint is a
/// polynomial in two bases modulo 2^61 - 1: for two given strings of n bytes that differ, at most
/// n² of 2^122 pairs of bases take one for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Value {
    length: u64,
    print: [u64; 2],
    /// The bytes of a string that may be a number; zeroes for a longer one.
    small: [u8; SMALL_MAX],
}

/// The longest decimal form of an `i64`.
const SMALL_MAX: usize = 20;

impl Value {
    pub(super) const EMPTY: Self = Self { length: 0, print: [0; 2], small: [0; SMALL_MAX] };

    pub(super) fn new(bytes: &[u8]) -> Self {
        Self::EMPTY.then(bytes)
    }

    /// This string and `bytes` behind it.
    pub(super) fn then(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            // One more than the byte, so that zeroes count. Both in one turn: neither waits for the
            // other.
            let digit = u128::from(byte) + 1;
            let [one, two] = self.print;
            let next = |print, base| reduce(u128::from(print) * u128::from(base) + digit);
            self.print = [next(one, BASES[0]), next(two, BASES[1])];
        }
        let before = self.length as usize;
        self.length += bytes.len() as u64;
        match self.small.get_mut(before..before + bytes.len()) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.small = [0; SMALL_MAX],
        }
        self
    }

    pub(super) fn length(self) -> u64 {
        self.length
    }

    /// The bytes, if they are few.
    pub(super) fn small(&self) -> Option<&[u8]> {
        self.small.get(..self.length as usize)
    }

    /// The number that the string is the decimal form of.
    pub(super) fn number(&self) -> Option<i64> {
        let text = std::str::from_utf8(self.small()?).ok()?;
        let number: i64 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    }
}

const MODULUS: u64 = (1 << 61) - 1;
const BASES: [u64; 2] = [0x0b3f_91c5_6d2e_a847, 0x15d7_4c20_e98b_3f61];

fn reduce(number: u128) -> u64 {
    let folded = (number & u128::from(MODULUS)) as u64 + (number >> 61) as u64;
    if folded >= MODULUS { folded - MODULUS } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bytes_count_not_how_they_came_together() {
        let long = [7; 300];
        let parts = Value::new(&long[..13]).then(&long[13..20]).then(&[]).then(&long[20..]);
        assert_eq!(parts, Value::new(&long));
        assert_eq!(Value::new(b"ab"), Value::new(b"a").then(b"b"));
        assert_ne!(Value::new(b"ab"), Value::new(b"ba"));
        assert_ne!(Value::new(b"\0"), Value::new(b"\0\0"));
        assert_eq!((parts.length(), parts.small()), (300, None));
    }

    #[test]
    fn numbers_are_read_in_their_canonical_form_only() {
        let number = |text: &str| Value::new(text.as_bytes()).number();
        assert_eq!(number("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(number("0"), Some(0));
        for text in ["", "+1", "01", "-0", " 1", "1.0", "9223372036854775808", "1\0"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
