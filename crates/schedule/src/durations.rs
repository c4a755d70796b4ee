//! How long the attempts of a phase took: a histogram whose size does not depend on their number.

use std::time::Duration;

/// Steps per doubling: a value is off by at most a ninth.
const STEPS: u32 = 8;
/// Doublings of a millisecond: more than a year.
const DOUBLINGS: u32 = 35;

/// A histogram of durations.
#[derive(Clone, Debug)]
pub(crate) struct Durations {
    buckets: Box<[u32]>,
    count: u64,
    longest: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        let buckets = vec![0; (DOUBLINGS * STEPS) as usize].into_boxed_slice();
        Self { buckets, count: 0, longest: Duration::ZERO }
    }
}

impl Durations {
    pub(crate) fn add(&mut self, duration: Duration) {
        let last = self.buckets.len().saturating_sub(1);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(duration).min(last)) {
            *bucket = bucket.saturating_add(1);
            self.count += 1;
        }
        self.longest = self.longest.max(duration);
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The median, rounded up to a bucket's end. `None` without any.
    pub(crate) fn median(&self) -> Option<Duration> {
        let half = self.count.div_ceil(2);
        let mut seen = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            seen += u64::from(*bucket);
            if seen >= half && seen > 0 {
                return Some(end_of(at).min(self.longest));
            }
        }
        None
    }
}

/// Below 8 ms a bucket per millisecond; then [`STEPS`] buckets per doubling.
fn bucket_of(duration: Duration) -> usize {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let steps = u64::from(STEPS);
    if millis < steps {
        return millis as usize;
    }
    let doublings = millis.ilog2() - STEPS.ilog2();
    let step = (millis >> doublings) - steps;
    (u64::from(doublings + 1) * steps + step) as usize
}

fn end_of(bucket: usize) -> Duration {
    let (bucket, steps) = (bucket as u64, u64::from(STEPS));
    if bucket < steps {
        return Duration::from_millis(bucket + 1);
    }
    let (doublings, step) = (bucket / steps - 1, bucket % steps);
    Duration::from_millis((steps + step + 1) << doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_off_by_a_ninth_at_most() {
        assert_eq!(Durations::default().median(), None);
        for exact in [3_u64, 9, 64, 100, 1000, 12_345, 3_600_000, 100_000_000] {
            let mut durations = Durations::default();
            for part in [1, 2, 3, 4, 5, 6, 7] {
                durations.add(Duration::from_millis(exact * part / 4));
            }
            let found = durations.median().map_or(0, |median| median.as_millis() as u64);
            let error = found.abs_diff(exact);
            assert!(error <= exact / 8 + 1, "{found} for {exact}");
        }
    }
}
