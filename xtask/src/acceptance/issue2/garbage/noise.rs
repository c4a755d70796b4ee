//! Byte strings that no decent client sends; the same for the same seed.

/// An endless source of them.
pub struct Noise {
    state: u64,
    /// Sentences of the protocol, to be spoiled.
    sentences: &'static [&'static [u8]],
}

const RESP: [&[u8]; 10] = [
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    b"*1000000000\r\n$3\r\nSET\r\n",
    b"*3\r\n$3\r\nSET\r\n$9223372036854775807\r\n",
    b"*-1\r\n$-1\r\n*0\r\n",
    b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    b"SET k \"unbalanced\r\n",
    b"*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n$1\r\nx\r\n",
    b"*1\r\n$5\r\nMULTI\r\n*1\r\n$4\r\nEXEC\r\n",
    b"*4\r\n$6\r\nSETBIT\r\n$1\r\nk\r\n$10\r\n4294967295\r\n$1\r\n1\r\n",
];

const GRPC: [&[u8]; 5] = [
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\xff\xff\xff",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x04\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/// Random strings are this long at most.
const RANDOM_BYTES_MAX: u64 = 2_048;
const SPOILED_PLACES_MAX: u64 = 8;

impl Noise {
    pub fn resp(seed: u64) -> Noise {
        Noise { state: seed, sentences: &RESP }
    }

    pub fn grpc(seed: u64) -> Noise {
        Noise { state: seed, sentences: &GRPC }
    }

    /// The next string: one time in three random bytes, else some sentences, spoiled.
    pub fn next(&mut self) -> Vec<u8> {
        if self.below(3) == 0 {
            return (0..=self.below(RANDOM_BYTES_MAX)).map(|_| self.below(256) as u8).collect();
        }
        let mut bytes = Vec::new();
        for _ in 0..=self.below(4) {
            bytes.extend_from_slice(
                self.sentences[self.below(self.sentences.len() as u64) as usize],
            );
        }
        for _ in 0..self.below(SPOILED_PLACES_MAX) {
            self.spoil(&mut bytes);
        }
        bytes
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() as u64 + 1) as usize;
        match self.below(4) {
            0 => bytes.insert(at, self.below(256) as u8),
            1 => bytes.truncate(at),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            _ => {}
        }
    }

    /// A number below `bound`: splitmix64, which any seed suits.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Noise;

    #[test]
    fn the_same_seed_makes_the_same_noise() {
        let (mut one, mut two, mut other) = (Noise::resp(7), Noise::resp(7), Noise::resp(8));
        let first: Vec<Vec<u8>> = (0..50).map(|_| one.next()).collect();
        assert_eq!(first, (0..50).map(|_| two.next()).collect::<Vec<_>>());
        assert_ne!(first, (0..50).map(|_| other.next()).collect::<Vec<_>>());
    }
}
