//! Natural numbers of any size, as far as reading and printing floating-point numbers needs them.

/// A natural number. Limbs from the lowest; the highest is not 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Big {
    limbs: Vec<u32>,
}

impl From<u64> for Big {
    fn from(number: u64) -> Self {
        Self { limbs: vec![number as u32, (number >> 32) as u32] }.trimmed()
    }
}

impl Big {
    /// The number with these decimal digits (0 to 9, not ASCII), the highest first.
    pub(super) fn from_decimal(digits: &[u8]) -> Self {
        let mut number = Self { limbs: Vec::with_capacity(digits.len() / 9 + 1) };
        for chunk in digits.chunks(9) {
            let value = chunk.iter().fold(0, |value, &digit| value * 10 + u32::from(digit));
            number.multiply_add(10_u32.pow(chunk.len() as u32), value);
        }
        number
    }

    /// Its decimal digits in ASCII, the highest first.
    pub(super) fn to_decimal(&self) -> Vec<u8> {
        const CHUNK: u64 = 1_000_000_000;
        let mut left = self.clone();
        let mut text = Vec::with_capacity(left.limbs.len() * 10 + 1);
        loop {
            let mut rest = 0;
            for limb in left.limbs.iter_mut().rev() {
                let value = rest << 32 | u64::from(*limb);
                *limb = (value / CHUNK) as u32;
                rest = value % CHUNK;
            }
            left = left.trimmed();
            let last = left.limbs.is_empty();
            for _ in 0..9 {
                if last && rest == 0 && !text.is_empty() {
                    break;
                }
                text.push(b'0' + (rest % 10) as u8);
                rest /= 10;
                if last && rest == 0 {
                    break;
                }
            }
            if last {
                text.reverse();
                return text;
            }
        }
    }

    /// How many bits it takes; 0 for 0.
    pub(super) fn bits(&self) -> u32 {
        self.limbs.last().map_or(0, |top| self.limbs.len() as u32 * 32 - top.leading_zeros())
    }

    pub(super) fn multiply_by_power_of_ten(&mut self, exponent: u32) {
        for _ in 0..exponent / 9 {
            self.multiply_add(1_000_000_000, 0);
        }
        self.multiply_add(10_u32.pow(exponent % 9), 0);
    }

    pub(super) fn shifted_left(&self, bits: u32) -> Self {
        let mut limbs = vec![0; bits as usize / 32];
        let within = bits % 32;
        let mut carry = 0;
        for &limb in &self.limbs {
            let value = u64::from(limb) << within | carry;
            limbs.push(value as u32);
            carry = value >> 32;
        }
        limbs.push(carry as u32);
        Self { limbs }.trimmed()
    }

    /// The quotient, which must be below 2^128, and whether there is a rest.
    pub(super) fn divided_by(&self, divisor: &Self) -> (u128, bool) {
        let (above, below) = (self.bits(), divisor.bits());
        let mut rest = self.clone();
        let mut quotient = 0;
        for shift in (0..=above.saturating_sub(below)).rev() {
            let step = divisor.shifted_left(shift);
            quotient <<= 1;
            if rest.subtract(&step) {
                quotient |= 1;
            }
        }
        (quotient, !rest.limbs.is_empty())
    }

    /// self × factor + term.
    fn multiply_add(&mut self, factor: u32, term: u32) {
        let mut carry = u64::from(term);
        for limb in &mut self.limbs {
            let value = u64::from(*limb) * u64::from(factor) + carry;
            *limb = value as u32;
            carry = value >> 32;
        }
        if carry > 0 {
            self.limbs.push(carry as u32);
        }
    }

    /// Subtracts `other` if it is not larger, and says whether it did.
    fn subtract(&mut self, other: &Self) -> bool {
        let larger = self
            .limbs
            .len()
            .cmp(&other.limbs.len())
            .then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()));
        if larger.is_lt() {
            return false;
        }
        let mut borrow = 0;
        for (position, limb) in self.limbs.iter_mut().enumerate() {
            let take = u64::from(other.limbs.get(position).copied().unwrap_or(0)) + borrow;
            borrow = u64::from(u64::from(*limb) < take);
            *limb = ((borrow << 32) + u64::from(*limb) - take) as u32;
        }
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        true
    }

    fn trimmed(mut self) -> Self {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
        self
    }
}
