//! The two clocks of a node.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kontiki_types::{Instant, LogTime};
use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock that runs through a suspend (PROTOCOL 5: a lease must not outlive a nap).
pub(crate) fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
    Instant(seconds * 1_000_000 + nanos / 1_000)
}

/// The wall clock since the Unix epoch; zero if it is set before that.
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock as a suggestion for log time.
pub(crate) fn wall_time() -> LogTime {
    LogTime(u64::try_from(wall_clock().as_millis()).unwrap_or(u64::MAX))
}
