//! Which reduce a key of a command belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::api::{HashPartition, Partition};

/// What of a key decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioning {
    /// All of it.
    #[default]
    Key,
    /// Some fields, as with Hadoop's `KeyFieldBasedPartitioner`: keys that agree in them go to the same
    /// reduce.
    Fields {
        /// The first, from 1.
        from: u32,
        /// The last; none: all that follow, as they are.
        to: Option<u32>,
    },
}

impl FromStr for Partitioning {
    type Err = String;

    /// `hash`, `first-field`, or `-kFROM[,TO]` as Hadoop has it.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "hash" => return Ok(Self::Key),
            "first-field" => return Ok(Self::Fields { from: 1, to: Some(1) }),
            _ => {}
        }
        let fields = || {
            let fields = text.strip_prefix("-k")?;
            let (from, to) = match fields.split_once(',') {
                Some((from, to)) => (from, Some(to.parse::<u32>().ok()?)),
                None => (fields, None),
            };
            let from = from.parse::<u32>().ok()?;
            (from >= 1 && to.is_none_or(|to| to >= from)).then_some(Self::Fields { from, to })
        };
        fields().ok_or_else(|| format!("{text} is none of hash, first-field, -kFROM and -kFROM,TO"))
    }
}

impl fmt::Display for Partitioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("hash"),
            Self::Fields { from, to: None } => write!(f, "-k{from}"),
            Self::Fields { from, to: Some(to) } => write!(f, "-k{from},{to}"),
        }
    }
}

/// The partition of a job of commands.
#[derive(Debug, Clone)]
pub(super) struct KeyPartition {
    pub(super) of: Partitioning,
    /// Between the fields of a key.
    pub(super) separator: Vec<u8>,
}

impl KeyPartition {
    /// The part of the key that decides; nothing, if it has too few fields.
    fn deciding<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        let Partitioning::Fields { from, to } = self.of else { return key };
        let length = self.separator.len();
        let (mut field, mut begins, mut at) = (1, None, 0);
        loop {
            if field == from {
                begins = Some(at);
            }
            let rest = key.get(at..).unwrap_or_default();
            let end = memchr::memmem::find(rest, &self.separator).map(|found| at + found);
            match (begins, end) {
                (Some(begins), Some(end)) if to == Some(field) => {
                    return key.get(begins..end).unwrap_or_default();
                }
                (Some(begins), None) => return key.get(begins..).unwrap_or_default(),
                (Some(begins), _) if to.is_none() => {
                    return key.get(begins..).unwrap_or_default();
                }
                (None, None) => return b"",
                (_, Some(end)) => at = end + length,
            }
            field += 1;
        }
    }
}

impl Partition for KeyPartition {
    fn reduce_of(&self, key: &[u8], reduces: u32) -> u32 {
        HashPartition.reduce_of(self.deciding(key), reduces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_were_named_decide() {
        for (how, separator, key, expect) in [
            ("hash", ".", "a.b.c", "a.b.c"),
            ("first-field", ".", "a.b.c", "a"),
            ("first-field", ".", "abc", "abc"),
            ("first-field", "::", "a:b::c", "a:b"),
            ("-k2", ".", "a.b.c", "b.c"),
            ("-k2,2", ".", "a.b.c", "b"),
            ("-k2,3", ".", "a.b.c.d", "b.c"),
            ("-k2,9", ".", "a.b.c", "b.c"),
            ("-k4", ".", "a.b.c", ""),
            ("-k2,2", ".", "a..c", ""),
            ("-k1,1", ".", "", ""),
        ] {
            let of: Partitioning = how.parse().expect(how);
            let partition = KeyPartition { of, separator: separator.into() };
            let found = partition.deciding(key.as_bytes());
            assert_eq!(found, expect.as_bytes(), "{how} {key}");
            assert_eq!(of.to_string().parse(), Ok(of));
        }
        for bad in ["", "-k", "-k0", "-k2,1", "-k1.2,3", "-k1,x", "second-field"] {
            assert!(bad.parse::<Partitioning>().is_err(), "{bad}");
        }
    }
}
