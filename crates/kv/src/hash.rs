//! The hash that digests, state hashes and snapshot frames are made of.
//!
//! It is part of formats (docs/state-machine.md, "Hashes"), so it never changes. It finds accidents,
//! not attackers: whoever can choose both inputs can make them collide.

/// Odd constants without structure: the fractional parts of √2, √3, √5 and √7, lowest bit set.
const K: [u64; 4] =
    [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

/// The full product of two words, folded to one.
const fn fold(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    product as u64 ^ (product >> 64) as u64
}

/// 64 bits of `bytes` under `seed`.
pub(crate) fn hash64(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = fold(seed ^ K[0], bytes.len() as u64 ^ K[1]);
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        state = absorb(state, block);
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let state = absorb(state, &last);
    fold(state ^ K[2], state.rotate_left(32) ^ K[3])
}

fn absorb(state: u64, block: &[u8; 16]) -> u64 {
    let all = u128::from_le_bytes(*block);
    let (first, second) = (all as u64, (all >> 64) as u64);
    // The second word is added once more, so that it counts even where the first meets the state
    // in a zero factor.
    fold(state ^ first, second ^ K[3]).wrapping_add(second.rotate_left(29) ^ state)
}

/// 128 bits of `bytes` under `seed`: two independent halves.
pub(crate) fn hash128(seed: u64, bytes: &[u8]) -> u128 {
    u128::from(hash64(seed, bytes)) << 64 | u128::from(hash64(!seed, bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_are_frozen() {
        let found = [hash64(0, b""), hash64(1, b"123456789"), hash64(0, &[7; 40])];
        assert_eq!(
            found,
            [9_362_871_976_615_060_757, 16_283_455_335_312_652_592, 17_682_420_088_067_137_492]
        );
    }

    #[test]
    fn every_bit_and_the_length_count() {
        let mut seen = BTreeSet::from([hash64(0, &[0; 40]), hash64(1, &[0; 40])]);
        for bit in 0..320 {
            let mut bytes = [0; 40];
            bytes[bit / 8] = 1 << (bit % 8);
            assert!(seen.insert(hash64(0, &bytes)), "bit {bit}");
        }
        for length in 0..40 {
            assert!(seen.insert(hash64(0, &[0; 40][..length])), "length {length}");
        }
    }
}
