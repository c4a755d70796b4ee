//! Which refusals of callers are worth a word: each once, and again after a while.
//!
//! A caller that is refused comes back several times a second, for as long as it takes its operator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kontiki_types::NodeId;

/// The same refusal is told again after this long.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// Refusals that are remembered. Beyond it nothing is told: who calls under so many names is after
/// the log.
const KEPT_MAX: usize = 64;

/// What was refused lately, and when that was told.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<(NodeId, String), Instant>);

impl Refusals {
    /// Whether to tell that `node` was refused at `now` for this reason.
    pub(super) fn is_news(&mut self, node: NodeId, why: &str, now: Instant) -> bool {
        self.0.retain(|_, told| now.duration_since(*told) < TOLD_AGAIN);
        let refusal = (node, why.to_owned());
        if self.0.len() >= KEPT_MAX || self.0.contains_key(&refusal) {
            return false;
        }
        self.0.insert(refusal, now);
        true
    }

    /// A caller was taken: what it is refused for later is news.
    pub(super) fn accepted(&mut self, node: NodeId) {
        self.0.retain(|(refused, _), _| *refused != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);

    #[test]
    fn a_refusal_is_told_once_in_a_while() {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(refusals.is_news(ONE, "another directory", begun));
        assert!(!refusals.is_news(ONE, "another directory", after(9)));
        assert!(refusals.is_news(ONE, "another cluster", after(9)));
        assert!(refusals.is_news(NodeId(2), "another directory", after(9)));
        assert!(refusals.is_news(ONE, "another directory", after(10)));
        assert!(!refusals.is_news(ONE, "another cluster", after(18)));
    }

    #[test]
    fn who_was_taken_in_between_is_news_again() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.is_news(ONE, "another directory", now));
        refusals.accepted(ONE);
        assert!(refusals.is_news(ONE, "another directory", now));
    }

    #[test]
    fn no_number_of_callers_fills_the_memory_or_the_log() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let told = (0..1000).filter(|node| refusals.is_news(NodeId(*node), "unknown", now)).count();
        assert_eq!((told, refusals.0.len()), (KEPT_MAX, KEPT_MAX));
        assert!(refusals.is_news(ONE, "unknown", now + TOLD_AGAIN));
    }
}
