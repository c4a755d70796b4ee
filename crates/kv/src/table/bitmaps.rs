//! Bits and bit fields.

use super::{Category, Entry, Flag, Group, KeySpec};
use crate::command::parse::bits;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::new("bitcount", -2, Group::Bitmap, "2.6.0")
        .flags(&[Flag::Readonly])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .syntax("key [index:start end [index_unit:BYTE|BIT]]")
        .parser(bits::bitcount)
        .doc("O(N) in the length of the part", "Counts the set bits of a value or of a part of it."),
    Entry::new("bitfield", -2, Group::Bitmap, "3.2.0")
        .flags(&[Flag::Write, Flag::Denyoom])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::new("RW access update variable_flags", 1, 0, 1)])
        .syntax("key [operation:GET encoding offset|[OVERFLOW overflow] SET encoding offset value|[OVERFLOW overflow] INCRBY encoding offset increment]...")
        .parser(bits::bitfield)
        .doc("O(N) in the number of operations", "Reads and writes integers of any width within a value."),
    Entry::new("bitfield_ro", -2, Group::Bitmap, "6.0.0")
        .flags(&[Flag::Readonly, Flag::Fast])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .syntax("key [encoding_offset:GET encoding offset]...")
        .parser(bits::bitfield_ro)
        .doc("O(N) in the number of operations", "Reads integers of any width within a value."),
    Entry::new("bitop", -4, Group::Bitmap, "2.6.0")
        .flags(&[Flag::Write, Flag::Denyoom])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::new("OW update", 2, 0, 1), KeySpec::new("RO access", 3, -1, 1)])
        .syntax("operation destkey key...")
        .parser(bits::bitop)
        .doc("O(N) in the length of the longest value", "Combines values bit by bit."),
    Entry::new("bitpos", -3, Group::Bitmap, "2.8.7")
        .flags(&[Flag::Readonly])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .syntax("key bit [index:start [end_index:end [index_unit:BYTE|BIT]]]")
        .parser(bits::bitpos)
        .doc("O(N) in the length of the part", "Finds the first set or clear bit."),
    Entry::new("getbit", 3, Group::Bitmap, "2.2.0")
        .flags(&[Flag::Readonly, Flag::Fast])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::new("RO access", 1, 0, 1)])
        .syntax("key offset")
        .parser(bits::getbit)
        .doc("O(1)", "Answers a bit of a value."),
    Entry::new("setbit", 4, Group::Bitmap, "2.2.0")
        .flags(&[Flag::Write, Flag::Denyoom])
        .categories(&[Category::Bitmap])
        .keys(&[KeySpec::new("RW access update", 1, 0, 1)])
        .syntax("key offset value#")
        .parser(bits::setbit)
        .doc("O(N) in the length of the value", "Sets or clears a bit of a value."),
];
