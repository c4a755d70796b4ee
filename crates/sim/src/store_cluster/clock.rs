//! A node's own clock: it may run fast or slow, and its wall clock may show anything.

use std::time::Duration;

use kontiki_types::{Instant, LogTime};

/// The true time when a simulation begins, so that clocks show plausible dates.
const EPOCH_MS: u64 = 1_800_000_000_000;
const MILLION: i128 = 1_000_000;

/// The monotonic clock and the wall clock of a node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeClock {
    /// The true time at which the monotonic clock showed `shows`.
    at: Instant,
    shows: Instant,
    /// How much faster than the true time it runs from then on, in parts per million.
    ppm: i32,
    /// By how many milliseconds the wall clock is ahead of the monotonic one.
    ahead_ms: i64,
}

impl NodeClock {
    /// What the monotonic clock shows at the true time `now`.
    pub(super) fn monotonic(&self, now: Instant) -> Instant {
        let passed = now.since(self.at).as_micros() as i128;
        let passed = if self.ppm == 0 {
            passed
        } else {
            passed * (MILLION + i128::from(self.ppm)) / MILLION
        };
        self.shows + Duration::from_micros(passed as u64)
    }

    /// What the wall clock shows.
    pub(super) fn wall(&self, now: Instant) -> LogTime {
        let shows = EPOCH_MS + self.monotonic(now).0 / 1000;
        LogTime(shows.saturating_add_signed(self.ahead_ms))
    }

    /// How long the monotonic clock takes to go on by `wait`.
    pub(super) fn true_wait(&self, wait: Duration) -> Duration {
        if self.ppm == 0 {
            return wait;
        }
        let micros = wait.as_micros() as i128 * MILLION / (MILLION + i128::from(self.ppm));
        // Rounded up, so that what was to be waited for is due.
        Duration::from_micros(micros as u64 + 1)
    }

    /// The wall clock jumps.
    pub(super) fn set_wall(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
    }

    /// From here on the clock runs this much faster.
    pub(super) fn drift(&mut self, now: Instant, ppm: i32) {
        self.shows = self.monotonic(now);
        self.at = now;
        self.ppm = ppm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_goes_on_from_where_it_was() {
        let second = |n: u64| Instant(n * 1_000_000);
        let mut clock = NodeClock::default();
        clock.drift(second(10), 100_000);
        assert_eq!(clock.monotonic(second(20)), second(21));
        let wait = clock.true_wait(Duration::from_secs(11));
        assert!(clock.monotonic(second(20) + wait) >= second(32));
        clock.drift(second(20), 0);
        assert_eq!(clock.monotonic(second(30)), second(31));
        clock.set_wall(-5000);
        assert_eq!(clock.wall(second(30)), LogTime(EPOCH_MS + 26_000));
    }
}
