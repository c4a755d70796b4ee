//! Is a history of one register linearizable? (Wing and Gong 1993, with Lowe's cache of
//! configurations, 2017.)
//!
//! A history is one key's reads and writes, each with when it was asked and when it was answered.
//! It is linearizable if every operation can be put at one moment between the two so that each read
//! gives the write before it. An operation that was never answered may take effect at any later
//! time, or never. Keys are independent of each other, so each is checked alone (locality).

use std::collections::HashSet;

use kontiki_types::Instant;

/// What was done to the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<V> {
    /// Set to this value.
    Write(V),
    /// Read, and this was there.
    Read(V),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<V> {
    /// What was done.
    pub action: Action<V>,
    /// When it was asked for.
    pub asked: Instant,
    /// When it was answered; `None` if that is unknown.
    pub answered: Option<Instant>,
}

/// A history that has no linearization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinearizable {
    /// The most operations that could be put in order.
    pub ordered: usize,
    /// Of how many that had to be.
    pub answered: usize,
    /// The operations that the longest order could not go on with.
    pub stuck: Vec<usize>,
}

/// Looks for an order of `history` that explains it, starting from `initial`.
///
/// # Errors
/// There is none.
pub fn check_register<V: Clone + Eq>(
    initial: V,
    history: &[Operation<V>],
) -> Result<(), NotLinearizable> {
    let mut search = Search::new(initial, history);
    search.run()
}

/// A set of operations as bits.
type Bits = Vec<u64>;

struct Search<'a, V> {
    history: &'a [Operation<V>],
    /// By the time they were asked for.
    order: Vec<usize>,
    /// Values by number, so that a configuration is small. 0 is the initial one.
    values: Vec<usize>,
    answered: usize,
}

struct Frame {
    operation: usize,
    value_before: usize,
}

impl<'a, V: Clone + Eq> Search<'a, V> {
    fn new(initial: V, history: &'a [Operation<V>]) -> Self {
        let mut known = vec![initial];
        let values = history
            .iter()
            .map(|operation| {
                let (Action::Write(value) | Action::Read(value)) = &operation.action;
                known.iter().position(|other| other == value).unwrap_or_else(|| {
                    known.push(value.clone());
                    known.len() - 1
                })
            })
            .collect();
        let mut order: Vec<usize> = (0..history.len()).collect();
        // A read that was never answered says nothing.
        order.retain(|&at| {
            history[at].answered.is_some() || matches!(history[at].action, Action::Write(_))
        });
        order.sort_by_key(|&at| history[at].asked);
        let answered = order.iter().filter(|&&at| history[at].answered.is_some()).count();
        Self { history, order, values, answered }
    }

    fn run(&mut self) -> Result<(), NotLinearizable> {
        let mut done: Bits = vec![0; self.history.len().div_ceil(64)];
        let mut seen: HashSet<(Bits, usize)> = HashSet::new();
        let mut stack: Vec<Frame> = Vec::new();
        let (mut value, mut ordered, mut from) = (0, 0, 0);
        let mut best = NotLinearizable { ordered: 0, answered: self.answered, stuck: Vec::new() };
        loop {
            if ordered == self.answered {
                return Ok(());
            }
            match self.next(&done, value, from, &mut seen) {
                Some(operation) => {
                    stack.push(Frame { operation, value_before: value });
                    set(&mut done, operation);
                    value = self.after(operation, value);
                    ordered += usize::from(self.history[operation].answered.is_some());
                    from = 0;
                }
                None => {
                    if ordered >= best.ordered {
                        best.ordered = ordered;
                        best.stuck = self.candidates(&done).map(|(_, at)| at).collect();
                    }
                    let Some(frame) = stack.pop() else { return Err(best) };
                    clear(&mut done, frame.operation);
                    value = frame.value_before;
                    ordered -= usize::from(self.history[frame.operation].answered.is_some());
                    from = self.place(frame.operation) + 1;
                }
            }
        }
    }

    /// The next operation at or after `from` that may come first among what is left, and leads to a
    /// configuration that was not tried.
    fn next(
        &self,
        done: &Bits,
        value: usize,
        from: usize,
        seen: &mut HashSet<(Bits, usize)>,
    ) -> Option<usize> {
        let mut left = self.candidates(done).filter(|&(place, _)| place >= from).map(|(_, at)| at);
        left.find(|&at| {
            if matches!(self.history[at].action, Action::Read(_)) && self.values[at] != value {
                return false;
            }
            let mut then = done.clone();
            set(&mut then, at);
            seen.insert((then, self.after(at, value)))
        })
    }

    /// Operations that no other one left was answered before they were asked for.
    fn candidates<'s>(&'s self, done: &'s Bits) -> impl Iterator<Item = (usize, usize)> + 's {
        let left = || self.order.iter().enumerate().filter(|&(_, &at)| !is_set(done, at));
        let first_answer =
            left().filter_map(|(_, &at)| self.history[at].answered).min().unwrap_or(Instant::MAX);
        left()
            .take_while(move |&(_, &at)| self.history[at].asked <= first_answer)
            .map(|(place, &at)| (place, at))
    }

    fn after(&self, operation: usize, value: usize) -> usize {
        match self.history[operation].action {
            Action::Write(_) => self.values[operation],
            Action::Read(_) => value,
        }
    }

    fn place(&self, operation: usize) -> usize {
        self.order.iter().position(|&at| at == operation).unwrap_or(0)
    }
}

fn set(bits: &mut Bits, at: usize) {
    bits[at / 64] |= 1 << (at % 64);
}

fn clear(bits: &mut Bits, at: usize) {
    bits[at / 64] &= !(1 << (at % 64));
}

fn is_set(bits: &Bits, at: usize) -> bool {
    bits[at / 64] & (1 << (at % 64)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u32, asked: u64, answered: u64) -> Operation<u32> {
        let answered = (answered > 0).then_some(Instant(answered));
        Operation { action: Action::Write(value), asked: Instant(asked), answered }
    }

    fn read(value: u32, asked: u64, answered: u64) -> Operation<u32> {
        Operation { action: Action::Read(value), ..write(0, asked, answered) }
    }

    #[test]
    fn one_after_the_other() {
        let history = [write(1, 1, 2), read(1, 3, 4), write(2, 5, 6), read(2, 7, 8)];
        assert_eq!(check_register(0, &history), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)];
        let error = check_register(0, &history).expect_err("stale");
        assert_eq!((error.ordered, error.stuck), (2, vec![2]));
    }

    #[test]
    fn what_overlaps_may_come_in_any_order_but_in_one() {
        let both = [write(1, 1, 10), write(2, 1, 10)];
        let seen = |first, second| {
            let mut history = both.to_vec();
            history.extend([read(first, 2, 3), read(second, 4, 5)]);
            check_register(0, &history).is_ok()
        };
        assert!(seen(1, 2) && seen(2, 1) && seen(0, 1) && seen(2, 2));
        assert!(!seen(1, 0));
        let mut history = both.to_vec();
        history.extend([read(1, 11, 12), read(2, 13, 14)]);
        assert!(check_register(0, &history).is_err(), "they cannot swap after both were answered");
    }

    #[test]
    fn an_unknown_write_may_take_effect_late_or_never() {
        let history = [write(1, 1, 2), write(2, 3, 0), read(1, 5, 6), read(2, 7, 8)];
        assert_eq!(check_register(0, &history), Ok(()));
        let history = [write(1, 1, 2), write(2, 3, 0), read(1, 5, 6), read(1, 7, 8)];
        assert_eq!(check_register(0, &history), Ok(()));
        let history = [write(1, 1, 2), write(2, 3, 0), read(2, 5, 6), read(1, 7, 8)];
        assert!(check_register(0, &history).is_err(), "it cannot be undone");
    }
}
