//! When a leader may be moved.

use core::time::Duration;
use std::collections::BTreeMap;

use kontiki_types::{GroupId, Instant};

/// After it came to lead, a leader stays for so long: elections that follow each other are over.
const AT_FIRST: Duration = Duration::from_millis(300);

/// After having been moved away from here within [`MEMORY`], for this times as long as before, up to
/// [`MOST`]. Two nodes that disagree about who is up would hand a group to each other all the time.
const FACTOR: u32 = 3;
const MOST: Duration = Duration::from_secs(30);
const MEMORY: Duration = Duration::from_secs(60);

/// How often leaders were moved away from a node of late.
#[derive(Clone, Debug, Default)]
pub struct Pace(BTreeMap<GroupId, (Instant, Duration)>);

impl Pace {
    /// Whether a group that is led here since `since` may be handed over, for no other reason than
    /// that another node is to lead it.
    pub fn allows(&self, group: GroupId, since: Instant, now: Instant) -> bool {
        let wait = match self.0.get(&group) {
            Some((at, wait)) if now.since(*at) < MEMORY => *wait,
            _ => AT_FIRST,
        };
        now.since(since) >= wait
    }

    /// Notes that a group is handed over.
    pub fn note(&mut self, group: GroupId, now: Instant) {
        self.0.retain(|_, (at, _)| now.since(*at) < MEMORY);
        let next = match self.0.get(&group) {
            Some((_, wait)) => wait.saturating_mul(FACTOR).min(MOST),
            None => AT_FIRST.saturating_mul(FACTOR),
        };
        self.0.insert(group, (now, next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_comes_back_again_and_again_stays_longer_each_time() {
        let (group, mut pace) = (GroupId(7), Pace::default());
        let (mut now, mut waits) = (Instant(0), Vec::new());
        for _ in 0..7 {
            let since = now;
            while !pace.allows(group, since, now) {
                now = now + Duration::from_millis(100);
            }
            pace.note(group, now);
            waits.push(now.since(since).as_millis());
        }
        assert_eq!(waits, [300, 900, 2700, 8100, 24_300, 30_000, 30_000]);
        // Another group does not wait for it, and it is forgotten after a while.
        assert!(pace.allows(GroupId(8), now, now + AT_FIRST));
        assert!(!pace.allows(group, now, now + AT_FIRST));
        let later = now + MEMORY;
        assert!(pace.allows(group, later, later + AT_FIRST));
    }
}
