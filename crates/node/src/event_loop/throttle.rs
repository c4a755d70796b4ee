//! How fast snapshots leave: so many bytes a second, whoever they are for.

use std::time::Duration;

use kontiki_types::Instant;

/// Lets bytes go at a rate.
pub(crate) struct Throttle {
    bytes_per_second: u64,
    /// When all that was let go is through.
    through_at: Instant,
}

impl Throttle {
    /// With 0 bytes a second there is no limit.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, through_at: Instant(0) }
    }

    /// Lets so many more bytes go; how long they have to wait.
    pub(crate) fn take(&mut self, now: Instant, bytes: u64) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let begin = self.through_at.max(now);
        let seconds = bytes as f64 / self.bytes_per_second as f64;
        self.through_at = begin + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        begin.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn bytes_go_at_the_rate() {
        let mut throttle = Throttle::new(1000);
        let start = Instant(0) + Duration::from_secs(5);
        assert_eq!(throttle.take(start, 500), Duration::ZERO);
        assert_eq!(throttle.take(start, 500), Duration::from_millis(500));
        assert_eq!(throttle.take(start, 1), Duration::from_secs(1));
        // A pause is not saved up.
        let later = start + Duration::from_nanos(60 * SECOND);
        assert_eq!(throttle.take(later, 2000), Duration::ZERO);
        assert_eq!(throttle.take(later, 1), Duration::from_secs(2));
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut throttle = Throttle::new(0);
        assert_eq!(throttle.take(Instant(0), u64::MAX), Duration::ZERO);
        assert_eq!(throttle.take(Instant(0), 1), Duration::ZERO);
    }
}
