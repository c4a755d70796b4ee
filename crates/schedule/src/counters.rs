//! Counters: named sums over the accepted attempts of a job.

use std::collections::BTreeMap;

/// More names than this in one job are not kept.
pub const COUNTERS_MAX: usize = 1000;
/// Longer group and counter names are cut, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Sums by group and name, in order of both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<(String, String), i64>);

impl Counters {
    /// No counters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `amount`, stopping at the ends of `i64`. Returns whether there was room for the name.
    pub fn add(&mut self, group: &str, name: &str, amount: i64) -> bool {
        let key = (cut(group).to_owned(), cut(name).to_owned());
        if let Some(sum) = self.0.get_mut(&key) {
            *sum = sum.saturating_add(amount);
            return true;
        }
        let room = self.0.len() < COUNTERS_MAX;
        if room {
            self.0.insert(key, amount);
        }
        room
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (group, name, amount) in other.iter() {
            self.add(group, name, amount);
        }
    }

    /// One sum, 0 for a name that is not there.
    pub fn get(&self, group: &str, name: &str) -> i64 {
        self.0.get(&(cut(group).to_owned(), cut(name).to_owned())).copied().unwrap_or(0)
    }

    /// Group, name and sum, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, i64)> {
        self.0.iter().map(|((group, name), sum)| (group.as_str(), name.as_str(), *sum))
    }

    /// How many names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The longest beginning of `text` that is within the limit.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_stop_at_the_ends() {
        let mut counters = Counters::new();
        assert!(counters.add("g", "n", i64::MAX));
        assert!(counters.add("g", "n", 1));
        assert_eq!(counters.get("g", "n"), i64::MAX);
        assert_eq!(counters.get("g", "other"), 0);
    }

    #[test]
    fn names_are_bounded_in_number_and_length() {
        let mut counters = Counters::new();
        for number in 0..COUNTERS_MAX {
            assert!(counters.add("g", &number.to_string(), 1));
        }
        assert!(!counters.add("g", "one more", 1));
        assert!(counters.add("g", "7", 1));
        assert_eq!((counters.len(), counters.get("g", "7")), (COUNTERS_MAX, 2));
        let mut counters = Counters::new();
        counters.add("g", &"ä".repeat(NAME_BYTES_MAX), 1);
        assert!(counters.iter().all(|(_, name, _)| name.len() <= NAME_BYTES_MAX));
    }
}
