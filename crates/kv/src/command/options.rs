//! The options of commands, typed.

/// When SET applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// NX: if the key is absent.
    IfAbsent,
    /// XX: if the key is live.
    IfPresent,
}

/// A moment of log time, or a time from the log time at apply on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Milliseconds since the Unix epoch.
    At(i64),
    /// Milliseconds from the apply on.
    In(i64),
}

/// What a write does to the expiry of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The key never expires from then on.
    Clear,
    /// KEEPTTL.
    Keep,
    /// EX, PX, EXAT, PXAT.
    Until(Deadline),
}

/// When EXPIRE and its kin apply. All that are set must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireCondition {
    /// NX: if the key has no expiry.
    pub if_none: bool,
    /// XX: if the key has an expiry.
    pub if_some: bool,
    /// GT: if the new expiry is later; no expiry counts as the latest.
    pub if_later: bool,
    /// LT: if the new expiry is earlier.
    pub if_earlier: bool,
}

/// The unit in which a time is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds, rounded.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

/// The unit in which a part of a string is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitUnit {
    /// Bytes.
    Byte,
    /// Bits.
    Bit,
}

/// A part of a string, both ends included; negative ends count from the end of the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// The first byte or bit.
    pub start: i64,
    /// The last byte or bit.
    pub end: i64,
    /// What `start` and `end` count.
    pub unit: BitUnit,
}

/// How BITOP combines its operands, bit by bit; shorter ones are followed by zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitOperation {
    /// 1 where all have 1.
    And,
    /// 1 where any has 1.
    Or,
    /// 1 where an odd number has 1.
    Xor,
    /// 1 where the only operand has 0.
    Not,
}

/// An integer within a bit field: `u1` to `u63`, `i1` to `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerType {
    signed: bool,
    bits: u8,
}

impl IntegerType {
    /// The type, or `None` if there is none of that width: 1 to 63 bits, 64 if signed.
    pub const fn new(signed: bool, bits: u8) -> Option<Self> {
        if bits == 0 || bits > 63 + signed as u8 { None } else { Some(Self { signed, bits }) }
    }

    /// Whether it is in two's complement.
    pub const fn is_signed(self) -> bool {
        self.signed
    }

    /// Its width.
    pub const fn bits(self) -> u8 {
        self.bits
    }
}

/// Position of a bit in a string, from the most significant bit of the first byte.
pub type BitOffset = u64;

/// What BITFIELD does if a number does not fit its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Keep the low bits.
    Wrap,
    /// Take the nearest number of the type.
    Saturate,
    /// Change nothing and answer nil.
    Fail,
}

/// One step of a BITFIELD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitFieldOp {
    /// The type of the integer.
    pub integer: IntegerType,
    /// Its first bit.
    pub offset: BitOffset,
    /// What is done with it.
    pub action: BitFieldAction,
}

/// What one step of a BITFIELD does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitFieldAction {
    /// Answers the integer.
    Get,
    /// Sets the integer and answers the one before.
    Set(i64, Overflow),
    /// Adds to the integer and answers the sum.
    IncrBy(i64, Overflow),
}

/// What LCS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LcsOutput {
    /// The longest common subsequence itself.
    Sequence,
    /// LEN: its length.
    Length,
    /// IDX: where its runs lie in both strings, and its length.
    Indexes {
        /// MINMATCHLEN: only runs at least this long.
        min_length: u64,
        /// WITHMATCHLEN: with the length of each run.
        with_length: bool,
    },
}
