//! The first eight bytes of a key as a number: most comparisons end there.

/// `MASKS[n]` keeps the first `n` bytes of a little-endian number.
const MASKS: [u64; 9] = [
    0,
    0xff,
    0xffff,
    0xff_ffff,
    0xffff_ffff,
    0xff_ffff_ffff,
    0xffff_ffff_ffff,
    0xff_ffff_ffff_ffff,
    u64::MAX,
];

/// The first eight of the `length` bytes at the start of `window`, little-endian, zeros behind a
/// shorter key.
#[inline(always)]
pub(super) fn window_prefix(window: &[u8], length: usize) -> u64 {
    if let Some(first) = window.first_chunk::<8>() {
        return u64::from_le_bytes(*first) & MASKS[length.min(8)];
    }
    let mut bytes = [0; 8];
    for (place, byte) in bytes.iter_mut().zip(window.iter().take(length)) {
        *place = *byte;
    }
    u64::from_le_bytes(bytes)
}

/// The first eight bytes of `key` as a number that sorts as they do, zeros behind a shorter key.
///
/// Different numbers sort as their keys; equal ones say nothing about what follows, or about zeros
/// at the end.
#[inline]
pub(crate) fn sort_prefix(key: &[u8]) -> u64 {
    window_prefix(key, key.len()).swap_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn different_prefixes_sort_as_their_keys(one: Vec<u8>, two: Vec<u8>) {
            let (first, second) = (sort_prefix(&one), sort_prefix(&two));
            if first != second {
                prop_assert_eq!(first.cmp(&second), one.cmp(&two));
            }
        }

        #[test]
        fn what_follows_the_key_in_its_window_does_not_matter(key: Vec<u8>, rest: Vec<u8>) {
            let window = [&key[..], &rest[..]].concat();
            prop_assert_eq!(window_prefix(&window, key.len()), window_prefix(&key, key.len()));
        }
    }
}
