//! Counters of user code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Sums by group and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters(BTreeMap<String, BTreeMap<String, i64>>);

impl Counters {
    /// Adds `amount` to a counter; saturates.
    pub fn add(&mut self, group: &str, name: &str, amount: i64) {
        let known = self.0.get_mut(group).and_then(|names| names.get_mut(name));
        if let Some(sum) = known {
            *sum = sum.saturating_add(amount);
        } else {
            self.0.entry(group.to_owned()).or_default().insert(name.to_owned(), amount);
        }
    }

    /// Adds all counters of another attempt or task.
    pub fn add_all(&mut self, other: &Counters) {
        for (group, name, amount) in other.iter() {
            self.add(group, name, amount);
        }
    }

    /// Group, name and sum, in byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, i64)> {
        self.0.iter().flat_map(|(group, names)| {
            names.iter().map(|(name, sum)| (group.as_str(), name.as_str(), *sum))
        })
    }

    /// The sum of a counter; 0 if nothing was counted.
    pub fn get(&self, group: &str, name: &str) -> i64 {
        self.0.get(group).and_then(|names| names.get(name)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_attempts_add_up() {
        let mut one = Counters::default();
        one.add("words", "long", 2);
        one.add("words", "long", i64::MAX);
        let mut two = Counters::default();
        two.add("words", "short", -1);
        one.add_all(&two);
        assert_eq!(
            one.iter().collect::<Vec<_>>(),
            [("words", "long", i64::MAX), ("words", "short", -1)]
        );
        assert_eq!((one.get("words", "short"), one.get("x", "y")), (-1, 0));
    }
}
