//! Finding the record on which user code fails, by halving.
//!
//! A failed attempt may say which records were under way: the *suspects*, by their numbers in the
//! task's input. Probes, attempts that run user code on a part of the suspects and throw the output
//! away, halve them until one is left, and that one is tried alone. If it fails, it is *bad*: with
//! [`skip_bad_records`](crate::JobSpec::skip_bad_records) later attempts leave it out, otherwise the
//! job fails and says which one it was. If it does not, the failures had another cause, and the task
//! is tried as a whole again.
//!
//! With user code that fails on the same records each time, n suspects take at most
//! `log2(n) + 2` probes for each bad record.

use std::ops::Range;

/// Probes begin after this many failures of a task whose bad records may be left out.
pub(crate) const FAILURES_BEFORE: u16 = 2;
/// A task with more bad records than this fails the job.
pub const SKIPPED_MAX: usize = 100;

/// A search under way. Invariant: `suspects` is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bisect {
    suspects: Range<u64>,
}

/// What a probe has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Probe [`Bisect::next`].
    Again,
    /// This record makes user code fail.
    Bad(u64),
    /// No record was found that does.
    Innocent,
}

impl Bisect {
    /// A search among `suspects`; `None` if there are none.
    pub(crate) fn new(suspects: Range<u64>) -> Option<Self> {
        (!suspects.is_empty()).then_some(Self { suspects })
    }

    /// What to run next.
    pub(crate) fn next(&self) -> Range<u64> {
        let Range { start, end } = self.suspects;
        let half = (end - start).div_ceil(2);
        start..start + half
    }

    /// The probe of [`Bisect::next`] has ended.
    pub(crate) fn probed(&mut self, failed: bool) -> Step {
        let probe = self.next();
        match (failed, probe == self.suspects) {
            (true, true) => return Step::Bad(probe.start),
            (false, true) => return Step::Innocent,
            (true, false) => self.suspects = probe,
            (false, false) => self.suspects.start = probe.end,
        }
        Step::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn search(suspects: Range<u64>, fails: impl Fn(u64) -> bool) -> (Step, u32) {
        let mut bisect = Bisect::new(suspects).expect("there are suspects");
        for probes in 1.. {
            let failed = bisect.next().any(&fails);
            match bisect.probed(failed) {
                Step::Again => {}
                step => return (step, probes),
            }
        }
        unreachable!("the search ends")
    }

    proptest! {
        #[test]
        fn the_first_bad_record_is_found(
            start in 0..1000_u64, length in 1..5000_u64, bad in proptest::collection::btree_set(0..6000_u64, 0..4),
        ) {
            let suspects = start..start + length;
            let first = suspects.clone().find(|record| bad.contains(record));
            let (step, probes) = search(suspects, |record| bad.contains(&record));
            prop_assert_eq!(step, first.map_or(Step::Innocent, Step::Bad));
            prop_assert!(probes <= length.ilog2() + 2, "{} probes for {}", probes, length);
        }
    }

    #[test]
    fn one_suspect_is_tried_alone() {
        assert_eq!(search(7..8, |_| true), (Step::Bad(7), 1));
        assert_eq!(search(7..8, |_| false), (Step::Innocent, 1));
        assert_eq!(Bisect::new(7..7), None);
    }

    #[test]
    fn the_last_suspect_is_not_believed_bad_without_a_try() {
        let mut bisect = Bisect::new(0..2).expect("two");
        assert_eq!(bisect.probed(false), Step::Again);
        assert_eq!(bisect.next(), 1..2);
        assert_eq!(bisect.probed(false), Step::Innocent);
    }
}
