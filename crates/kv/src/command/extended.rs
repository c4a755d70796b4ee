//! The numbers of INCRBYFLOAT.

/// A number of INCRBYFLOAT: a finite floating-point number with a mantissa of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    negative: bool,
    /// The number is mantissa × 2^exponent.
    exponent: i16,
    mantissa: u64,
}

impl Extended {
    /// Size of [`Extended::to_bytes`].
    pub const BYTES: usize = 11;

    /// Sign and exponent, then mantissa, big-endian.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = u8::from(self.negative);
        bytes[1..3].copy_from_slice(&self.exponent.to_be_bytes());
        bytes[3..].copy_from_slice(&self.mantissa.to_be_bytes());
        bytes
    }

    /// The number that [`Extended::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [sign, e0, e1, mantissa @ ..] = *bytes;
        let negative = match sign {
            0 => false,
            1 => true,
            _ => return None,
        };
        let exponent = i16::from_be_bytes([e0, e1]);
        Some(Self { negative, exponent, mantissa: u64::from_be_bytes(mantissa) })
    }
}
