//! Finding a command by its name, without allocating: a hash table made at compile time.

use super::{ENTRIES, Entry};

/// Places of the table; a power of two, and several times the number of commands.
const PLACES: usize = 512;

static INDEX: [Option<&Entry>; PLACES] = build();

pub(super) fn lookup(name: &[u8]) -> Option<&'static Entry> {
    let mut place = hash(name);
    // The table has free places, so this ends.
    while let Some(entry) = INDEX[place] {
        if entry.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(entry);
        }
        place = (place + 1) % PLACES;
    }
    None
}

/// FNV-1a of the name in lower case. Names longer than any command are cut, so that a client cannot
/// make a lookup slow.
const fn hash(name: &[u8]) -> usize {
    const LENGTH_MAX: usize = 16;
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() && at < LENGTH_MAX {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 16) as usize % PLACES
}

const fn build() -> [Option<&'static Entry>; PLACES] {
    let mut index: [Option<&'static Entry>; PLACES] = [None; PLACES];
    let mut kind = 0;
    while kind < ENTRIES.len() {
        let mut at = 0;
        while at < ENTRIES[kind].len() {
            let entry = &ENTRIES[kind][at];
            let mut place = hash(entry.name.as_bytes());
            while index[place].is_some() {
                place = (place + 1) % PLACES;
            }
            index[place] = Some(entry);
            at += 1;
        }
        kind += 1;
    }
    index
}
