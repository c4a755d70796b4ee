//! The leader's stamp on entries: where log time comes from (PROTOCOL 8).
//!
//! Log time must never go back, never stand still, and not be moved by one bad clock. So a stamp
//! is the larger of two readings: the last known log time plus the monotonic time elapsed since,
//! and the lower median of the wall clocks of a majority. The first never stands still, the second
//! catches up after a whole cluster was down; neither follows a single clock that jumps ahead.

use std::collections::BTreeMap;
use std::time::Duration;

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Instant, LogTime, NodeId};

/// A wall clock sample older than this says nothing. Leaders hear a majority many times as often; and
/// a clock that was wrong for a moment is outvoted no longer than this after it is right again, which
/// is as long as the next wrong one meets it.
const SAMPLE_LIFETIME: Duration = Duration::from_secs(2);

/// With so many voters one wrong clock is outvoted.
const OUTVOTED_MIN: usize = 3;

/// The wall clocks of the other nodes as last heard, each with the local time of hearing.
#[derive(Debug, Default)]
pub(crate) struct WallClocks {
    heard: BTreeMap<NodeId, (LogTime, Instant)>,
    /// Replicas here have voters at other nodes, whether these were heard yet or not.
    has_others: bool,
}

impl WallClocks {
    /// Notes that `node` showed `wall` in a message that arrived at `now`.
    pub(crate) fn hear(&mut self, now: Instant, node: NodeId, wall: LogTime) {
        self.heard.insert(node, (wall, now));
    }

    /// Notes that there are other nodes, as a group's voters say.
    pub(crate) fn expect_others(&mut self) {
        self.has_others = true;
    }

    /// When `node` was last heard.
    pub(crate) fn last_heard(&self, node: NodeId) -> Option<Instant> {
        self.heard.get(&node).map(|&(_, at)| at)
    }

    /// The lower median over this node's own clock and all that were heard lately. `None` if there are
    /// others and none was heard: one clock alone is believed only by a node that is alone.
    fn lower_median_of_all(&self, now: Instant, own: LogTime) -> Option<LogTime> {
        let heard = self.heard.values().map(|&(wall, at)| (wall, now.since(at)));
        let fresh = heard.filter(|(_, age)| *age < SAMPLE_LIFETIME);
        let mut walls: Vec<LogTime> = fresh.map(|(wall, age)| later(wall, age)).collect();
        let has_others = self.has_others || !self.heard.is_empty();
        if has_others && walls.is_empty() {
            return None;
        }
        walls.push(own);
        walls.sort_unstable();
        walls.get((walls.len() - 1) / 2).copied()
    }

    /// The lower median over `voters` (of which `me` shows `own`), or `None` while fewer than a
    /// majority of them were heard lately.
    fn lower_median(
        &self,
        now: Instant,
        me: NodeId,
        own: LogTime,
        voters: impl Iterator<Item = NodeId>,
    ) -> Option<LogTime> {
        let mut count = 0;
        let mut walls: Vec<LogTime> = Vec::with_capacity(8);
        for voter in voters {
            count += 1;
            if voter == me {
                walls.push(own);
            } else if let Some(&(wall, at)) = self.heard.get(&voter) {
                let age = now.since(at);
                if age < SAMPLE_LIFETIME {
                    walls.push(later(wall, age));
                }
            }
        }
        walls.sort_unstable();
        (walls.len() > count / 2).then(|| walls[(walls.len() - 1) / 2])
    }
}

/// Log time of one group as this node knows it.
#[derive(Debug, Default)]
pub(crate) struct GroupClock {
    base: LogTime,
    at: Instant,
}

impl GroupClock {
    /// Entries up to log time `time` were applied or stamped at `now`.
    pub(crate) fn advance(&mut self, now: Instant, time: LogTime) {
        if time > self.estimate(now) || self.base == LogTime(0) {
            self.base = time.max(self.base);
            self.at = now;
        }
    }

    /// What log time would be if an entry were stamped now: never less than what was applied.
    pub(crate) fn estimate(&self, now: Instant) -> LogTime {
        if self.base == LogTime(0) { self.base } else { later(self.base, now.since(self.at)) }
    }

    /// The stamp for an entry that a leader proposes now.
    pub(crate) fn stamp(
        &mut self,
        now: Instant,
        walls: &WallClocks,
        me: NodeId,
        own: LogTime,
        voters: impl Iterator<Item = NodeId> + Clone,
    ) -> LogTime {
        // Two clocks are no majority against one that is wrong, so a group that small goes by those
        // of other nodes, too: one that has just begun must not carry an hour into the store.
        let median = match voters.clone().count() {
            0..OUTVOTED_MIN => walls.lower_median_of_all(now, own),
            _ => walls.lower_median(now, me, own, voters),
        };
        let mut median = median.unwrap_or_default();
        if planted(Plant::OneClockBelieved) {
            median = own;
        }
        let stamp = self.estimate(now).max(median);
        if stamp > self.estimate(now) {
            self.base = stamp;
            self.at = now;
        }
        stamp
    }
}

fn later(time: LogTime, by: Duration) -> LogTime {
    LogTime(time.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const VOTERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    fn second(n: u64) -> Instant {
        Instant(n * 1_000_000)
    }

    #[test]
    fn one_clock_an_hour_ahead_moves_nothing() {
        let (mut walls, mut clock) = (WallClocks::default(), GroupClock::default());
        walls.hear(second(0), NodeId(2), LogTime(1_000_000));
        walls.hear(second(0), NodeId(3), LogTime(1_000_001));
        let ahead = LogTime(1_000_000 + 3_600_000);
        let stamp = clock.stamp(second(0), &walls, ME, ahead, VOTERS.into_iter());
        assert_eq!(stamp, LogTime(1_000_001));
    }

    /// Swarm of a sharded store, seed 104 when it was found: a group that had joined had one replica
    /// yet when the clock of its node jumped. Deadlines are counted from the group that is ahead, so
    /// every other group refused all writes.
    #[test]
    fn one_clock_an_hour_ahead_moves_nothing_in_a_group_of_one_either() {
        let (mut walls, mut clock) = (WallClocks::default(), GroupClock::default());
        walls.hear(second(0), NodeId(2), LogTime(1_000_000));
        walls.hear(second(0), NodeId(3), LogTime(1_000_001));
        let ahead = LogTime(1_000_000 + 3_600_000);
        let stamp = clock.stamp(second(0), &walls, ME, ahead, [ME].into_iter());
        assert_eq!(stamp, LogTime(1_000_001));
        // Cut off it goes by the time that has passed.
        let stamp = clock.stamp(second(9), &walls, ME, ahead, [ME].into_iter());
        assert_eq!(stamp, LogTime(1_009_001));
    }

    /// Swarm of a sharded store, seed 6286 when it was found: the node of a group of one was cut off
    /// and restarted while its clock was an hour ahead, so that it had heard nobody.
    #[test]
    fn a_node_that_has_heard_nobody_believes_its_clock_only_if_there_is_nobody() {
        let ahead = LogTime(1_000_000 + 3_600_000);
        for has_others in [true, false] {
            let (mut walls, mut clock) = (WallClocks::default(), GroupClock::default());
            if has_others {
                walls.expect_others();
            }
            clock.advance(second(1), LogTime(1_000_000));
            let stamp = clock.stamp(second(3), &walls, ME, ahead, [ME].into_iter());
            assert_eq!(stamp, if has_others { LogTime(1_002_000) } else { ahead });
        }
    }

    /// Swarm of a sharded store, seed 4421 when it was found: one node's clock was an hour ahead and
    /// right again when another one's jumped, and was still taken for wrong by what it had said.
    #[test]
    fn a_clock_that_was_wrong_is_soon_forgotten() {
        let (mut walls, mut clock) = (WallClocks::default(), GroupClock::default());
        let (good, ahead) = (LogTime(1_000_000), LogTime(1_000_000 + 3_600_000));
        clock.advance(second(0), good);
        walls.hear(second(0), NodeId(2), ahead);
        walls.hear(second(3), NodeId(3), LogTime(good.0 + 3_000));
        let stamp = clock.stamp(second(3), &walls, ME, ahead, VOTERS.into_iter());
        assert_eq!(stamp, LogTime(good.0 + 3_000));
    }

    #[test]
    fn time_goes_on_when_every_wall_clock_goes_back() {
        let (mut walls, mut clock) = (WallClocks::default(), GroupClock::default());
        clock.advance(second(10), LogTime(5_000_000));
        for node in [NodeId(2), NodeId(3)] {
            walls.hear(second(12), node, LogTime(1));
        }
        let stamp = clock.stamp(second(12), &walls, ME, LogTime(1), VOTERS.into_iter());
        assert_eq!(stamp, LogTime(5_002_000));
    }

    #[test]
    fn a_minority_of_clocks_is_not_believed() {
        let (walls, mut clock) = (WallClocks::default(), GroupClock::default());
        clock.advance(second(1), LogTime(7_000));
        let stamp = clock.stamp(second(1), &walls, ME, LogTime(99_000), VOTERS.into_iter());
        assert_eq!(stamp, LogTime(7_000));
    }

    #[test]
    fn old_samples_are_forgotten() {
        let (mut walls, mut clock) = (WallClocks::default(), GroupClock::default());
        walls.hear(second(0), NodeId(2), LogTime(50_000));
        clock.advance(second(9), LogTime(1_000));
        let stamp = clock.stamp(second(9), &walls, ME, LogTime(90_000), VOTERS.into_iter());
        assert_eq!(stamp, LogTime(1_000));
    }
}
