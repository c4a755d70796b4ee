//! Words: maximal runs of Unicode letters (general category L), as the course lab's Go code finds
//! them. A byte that is not valid UTF-8 separates words.
//!
//! `char::is_alphabetic` is another property: it also takes in Roman numerals, vowel signs and
//! circled letters.
//!
//! Text that is ASCII is looked at 64 bytes at a time, as bits; the rest character by character.

use std::sync::OnceLock;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Calls `word` for every word of `text`, with the text from the word's first byte on, and the
/// word's length in bytes.
#[inline]
pub fn words(text: &[u8], mut word: impl FnMut(&[u8], usize)) {
    let mut give = |start: usize, end: usize| {
        word(text.get(start..).unwrap_or_default(), end - start);
    };
    let mut at = 0;
    // Where the word under way began.
    let mut under_way: Option<usize> = None;
    while let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        let (letters, ascii) = classify(block);
        if !ascii {
            let from = under_way.take().unwrap_or(at);
            at = slowly(text, from, at + BLOCK, &mut give);
            continue;
        }
        let before = letters << 1 | u64::from(under_way.is_some());
        let mut starts = letters & !before;
        let mut ends = !letters & before;
        if let Some(start) = under_way {
            if ends == 0 {
                // Letters only.
                at += BLOCK;
                continue;
            }
            give(start, at + ends.trailing_zeros() as usize);
            ends &= ends - 1;
        }
        while ends != 0 {
            let start = starts.trailing_zeros() as usize;
            starts &= starts - 1;
            give(at + start, at + ends.trailing_zeros() as usize);
            ends &= ends - 1;
        }
        under_way = (starts != 0).then(|| at + starts.trailing_zeros() as usize);
        at += BLOCK;
    }
    slowly(text, under_way.unwrap_or(at), text.len(), &mut give);
}

const BLOCK: usize = 64;

/// A bit for each byte that is an ASCII letter, and whether all bytes are ASCII.
///
/// Eight bytes at a time in a number: below 0x80, adding to all of them does not carry.
#[inline(always)]
fn classify(block: &[u8; BLOCK]) -> (u64, bool) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    /// Gathers the lowest bits of eight bytes in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (mut letters, mut high) = (0, 0);
    let (eights, _) = block.as_chunks::<8>();
    for (at, eight) in eights.iter().enumerate() {
        let bytes = u64::from_le_bytes(*eight);
        high |= bytes;
        let lower = bytes | (0x20 * EACH);
        let from_a = lower.wrapping_add((0x80 - b'a' as u64) * EACH);
        let beyond_z = lower.wrapping_add((0x7f - b'z' as u64) * EACH);
        let marks = (from_a & !beyond_z & HIGH) >> 7;
        letters |= (marks.wrapping_mul(GATHER) >> 56) << (8 * at);
    }
    (letters, high & HIGH == 0)
}

/// Finds words from `from` (the start of a word, or no letter before it) on, and ends at the first
/// place at or after `until` that is not within a word. Returns that place.
fn slowly(text: &[u8], from: usize, until: usize, give: &mut impl FnMut(usize, usize)) -> usize {
    let mut at = from;
    let mut start = None;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if start.is_none() && at >= until {
            return at;
        }
        let (is_letter, length) = first(rest);
        if is_letter {
            start.get_or_insert(at);
        } else if let Some(start) = start.take() {
            give(start, at);
        }
        at += length;
    }
    if let Some(start) = start {
        give(start, text.len());
    }
    text.len()
}

/// Whether the first character is a letter, and its length; an invalid byte is no letter.
#[inline]
fn first(text: &[u8]) -> (bool, usize) {
    let Some(lead) = text.first() else { return (false, 1) };
    if lead.is_ascii() {
        return (lead.is_ascii_alphabetic(), 1);
    }
    let length = match lead {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return (false, 1),
    };
    let decoded = text.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match decoded.and_then(|text| text.chars().next()) {
        Some(character) => (is_letter(character), length),
        None => (false, 1),
    }
}

/// Whether `character` has the general category L: Lu, Ll, Lt, Lm or Lo.
pub fn is_letter(character: char) -> bool {
    let number = character as usize;
    match plane_zero().get(number / 64) {
        Some(bits) => bits >> (number % 64) & 1 == 1,
        None => looked_up(character),
    }
}

fn looked_up(character: char) -> bool {
    character.general_category_group() == GeneralCategoryGroup::Letter
}

/// A bit for each character below U+10000: 8 KiB instead of a search per character.
fn plane_zero() -> &'static [u64; 1024] {
    static BITS: OnceLock<Box<[u64; 1024]>> = OnceLock::new();
    BITS.get_or_init(|| {
        let mut bits = Box::new([0_u64; 1024]);
        for character in ('\0'..='\u{ffff}').filter(|character| looked_up(*character)) {
            let number = character as usize;
            if let Some(place) = bits.get_mut(number / 64) {
                *place |= 1 << (number % 64);
            }
        }
        bits
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        words(text, |window, length| found.push(window[..length].to_vec()));
        found
    }

    /// The definition, written down once more: valid pieces by the standard library, letters by the
    /// table.
    fn expected(text: &[u8]) -> Vec<Vec<u8>> {
        let chunks = text.utf8_chunks().flat_map(|chunk| {
            chunk.valid().split(|c: char| !looked_up(c)).map(str::to_owned).collect::<Vec<_>>()
        });
        chunks.filter(|word| !word.is_empty()).map(String::into_bytes).collect()
    }

    fn check(text: &[u8], expect: &[&str]) {
        let found = found(text);
        let found: Vec<String> =
            found.into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn letters_are_general_category_l() {
        check("a1b_c'd".as_bytes(), &["a", "b", "c", "d"]);
        check(
            "Grüße, Ωmega привет 日本語 ǅ ʰ ª".as_bytes(),
            &["Grüße", "Ωmega", "привет", "日本語", "ǅ", "ʰ", "ª"],
        );
        // Roman numerals (Nl), circled letters (So), vowel signs (Mc), digits (Nd), all alphabetic
        // or alphanumeric to Rust, are no letters.
        check("Ⅻ ⓐ कि ٣".as_bytes(), &["क"]);
        // Beyond the first plane.
        check("𝔘𐐀 😀".as_bytes(), &["𝔘𐐀"]);
    }

    #[test]
    fn invalid_bytes_separate() {
        check(b"ab\xffcd\xc3", &["ab", "cd"]);
        check(b"\xe2\x82A\xed\xa0\x80b\xf0\x9f\x98", &["A", "b"]);
        check(b"a\0b\r\nc", &["a", "b", "c"]);
    }

    #[test]
    fn words_cross_blocks() {
        let long = "x".repeat(1000);
        check(format!("a {long} b").as_bytes(), &["a", &long, "b"]);
        for before in 0..130 {
            let text = format!("{}abcdef{}", " ".repeat(before), "é ".repeat(40));
            let expect: Vec<&str> =
                ["abcdefé"].into_iter().chain(std::iter::repeat_n("é", 39)).collect();
            check(text.as_bytes(), &expect);
        }
    }

    proptest! {
        #[test]
        fn any_text_has_the_words_of_the_definition(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    &b"a"[..], b"bc", b" ", b"\n", b"wordword", b"\xc3\xa9", b"\xd0\xbf", b"\xff",
                    b"\xe0\xa4\x95", b"\xe0\xa4\xbf", b"\xf0\x90\x90\x80", b"\xc3", b"1", b"the quick ",
                ]),
                0..200,
            ),
        ) {
            let text = pieces.concat();
            prop_assert_eq!(found(&text), expected(&text));
        }

        #[test]
        fn any_bytes_have_the_words_of_the_definition(text: Vec<u8>) {
            prop_assert_eq!(found(&text), expected(&text));
        }
    }
}
