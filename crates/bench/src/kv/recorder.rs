//! What all clients of a run share: the phase it is in, and what has been counted.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::workload::{Kind, Operation, Workload};

/// What the clients are doing; the controller moves it forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Every key is written once, in order.
    Fill,
    /// Load that is not counted.
    WarmUp,
    /// Load that is counted.
    Measure,
    /// Clients finish what they have sent.
    Stop,
}

/// Slower operations count as this slow.
const LATENCY_MAX: Duration = Duration::from_secs(600);

/// Counts of one kind of operation.
pub(crate) struct Counts {
    pub latency: Histogram<u64>,
}

impl Counts {
    fn new() -> Self {
        // The arguments are constants within the histogram's documented range.
        let latency = Histogram::new_with_max(LATENCY_MAX.as_nanos() as u64, 3);
        Self { latency: latency.expect("three digits up to ten minutes are allowed") }
    }
}

pub(crate) struct Recorder {
    phase: Cell<Phase>,
    /// The next key to fill.
    filled: Cell<u64>,
    keys: u64,
    ops: Cell<u64>,
    ops_max: u64,
    reads: RefCell<Counts>,
    writes: RefCell<Counts>,
    errors: Cell<u64>,
    first_error: RefCell<Option<String>>,
    last_success: Cell<Instant>,
    longest_gap: Cell<Duration>,
}

impl Recorder {
    pub(crate) fn new(keys: u64, ops_max: Option<u64>) -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::WarmUp),
            filled: Cell::new(0),
            keys,
            ops: Cell::new(0),
            ops_max: ops_max.unwrap_or(u64::MAX),
            reads: RefCell::new(Counts::new()),
            writes: RefCell::new(Counts::new()),
            errors: Cell::new(0),
            first_error: RefCell::new(None),
            last_success: Cell::new(Instant::now()),
            longest_gap: Cell::new(Duration::ZERO),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.last_success.set(Instant::now());
    }

    /// The next operation of a client, or `None` when it shall end.
    pub(crate) fn next(&self, workload: &mut Workload) -> Option<Operation> {
        match self.phase.get() {
            Phase::Stop => None,
            Phase::WarmUp | Phase::Measure => Some(workload.next()),
            Phase::Fill => {
                let key = self.filled.get();
                self.filled.set(key + 1);
                (key < self.keys).then_some(Operation { kind: Kind::Write, key })
            }
        }
    }

    /// A reply has come to an operation sent at `sent`.
    pub(crate) fn success(&self, kind: Kind, sent: Instant) {
        if self.phase.get() != Phase::Measure {
            return;
        }
        let now = Instant::now();
        let gap = now - self.last_success.replace(now);
        self.longest_gap.set(self.longest_gap.get().max(gap));
        let counts = match kind {
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
        };
        counts.borrow_mut().latency.saturating_record((now - sent).as_nanos() as u64);
        self.ops.set(self.ops.get() + 1);
        if self.ops.get() >= self.ops_max {
            self.phase.set(Phase::Stop);
        }
    }

    /// An operation was refused, or its connection broke.
    pub(crate) fn error(&self, text: impl FnOnce() -> String) {
        self.errors.set(self.errors.get() + 1);
        self.first_error.borrow_mut().get_or_insert_with(text);
    }

    pub(crate) fn last_success(&self) -> Instant {
        self.last_success.get()
    }

    pub(crate) fn ops(&self) -> u64 {
        self.ops.get()
    }

    pub(crate) fn errors(&self) -> u64 {
        self.errors.get()
    }

    pub(crate) fn first_error(&self) -> Option<String> {
        self.first_error.borrow().clone()
    }

    /// The longest time within the measurement without a success, its end at `end` included.
    pub(crate) fn longest_gap(&self, end: Instant) -> Duration {
        self.longest_gap.get().max(end.saturating_duration_since(self.last_success.get()))
    }

    /// Gives the counts of reads and of writes to `read`.
    pub(crate) fn counts<T>(&self, read: impl FnOnce(&Counts, &Counts) -> T) -> T {
        read(&self.reads.borrow(), &self.writes.borrow())
    }
}
