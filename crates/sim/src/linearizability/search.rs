//! The search for an order: Wing and Gong's, on Lowe's list of calls and returns, with Lowe's cache.
//!
//! The list holds, by time, the calls and returns of the required operations that have no place in
//! the order yet. What comes before its first return could come next. An operation that gets a place
//! is taken out of the list, and put back when the search turns around.
//!
//! What makes it fast, and why no order is missed:
//!
//! - *A read that fits is placed at once.* It changes nothing, and nothing waits for it: any order
//!   that goes on from here goes on with the read moved to the front.
//! - *A SET that nobody reads* is placed at once when nobody reads what is there any more, and that
//!   stays, on a key that is only set and read: what comes next in any order overwrites either.
//! - *A configuration is tried once*, and one with more optional operations than another, all else
//!   being equal, not at all (see `Seen`).
//! - *Optional operations come last*, since an order needs none of them for itself. Of two that do
//!   the same the one that was called first is placed first: in any order where it is not, the two
//!   can be exchanged.
//! - *A key that only grows* is at every moment the front of the longest value that was read of it
//!   (`Problem::grows_to`), and never longer than an operation without a place must find it.
//! - *A value that must still be read* stays while nothing is left that brings it back, which is
//!   known of keys that are only set, only appended to or only counted up. An optional SET of a value
//!   that nobody reads any more is of no use.
//! - *A value that never comes back* comes when all that puts an end to it can wait for the last one
//!   that was answered with it.

use super::model::Cell;
use super::problem::{Op, Problem};
use super::seen::{Bits, Seen};
use super::{Budget, Clocks};

/// Looks for an order, and tells how many steps that took.
///
/// Where the search has gone wrong before, it could try all that optional operations do in all their
/// orders before it turns around. So after a short first look few of them may follow each other, and
/// then more.
pub(super) fn search(problem: &Problem, budget: &Budget) -> (Found, u64) {
    let first_look = FIRST_LOOK * (problem.required.len() + problem.optional.len()) as u64;
    let mut steps = 0;
    let mut ordered = 0;
    for (row_max, share) in ROWS {
        let left = budget.steps.saturating_sub(steps);
        let steps_max = share.map_or(first_look, |share| budget.steps / share).min(left);
        let mut search = Search::new(problem, budget, row_max, steps_max);
        let found = search.run();
        steps += search.steps;
        match found {
            Found::Order(_) | Found::NoOrder => return (found, steps),
            Found::Open(most) => ordered = ordered.max(most),
        }
    }
    (Found::Open(ordered), steps)
}

/// How many optional operations may follow each other, and which share of the budget each of these
/// searches may take; `None` for the first look's.
const ROWS: [(usize, Option<u64>); 5] =
    [(usize::MAX, None), (1, Some(8)), (2, Some(8)), (4, Some(8)), (usize::MAX, Some(1))];
/// Steps of the first look for each operation.
const FIRST_LOOK: u64 = 20;

/// What came of a search.
#[derive(Debug)]
pub(super) enum Found {
    Order(Order),
    NoOrder,
    /// No order was found, nor that there is none; so many required operations were in order at
    /// most.
    Open(usize),
}

/// An order that explains the operations.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The operations, as places in the history.
    pub(super) operations: Vec<usize>,
    /// What the keys held after each of the last of them.
    pub(super) states: Vec<Vec<Option<Vec<u8>>>>,
}

/// An operation, by its place in `Problem::required` or `Problem::optional`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Required(usize),
    Optional(usize),
}

/// Where to go on among the operations that could come next.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    /// An entry of the list; `None` when it is the optional operations' turn.
    entry: Option<usize>,
    optional: usize,
    /// Which of the keys that may have expired are taken for gone, as bits.
    gone: u32,
}

#[derive(Clone, Copy, Debug)]
struct Placed {
    which: Which,
    gone: u32,
    state_before: u32,
    call_before: u64,
    row_before: usize,
    /// Where to go on after this one was taken back; `None` if there was no choice.
    next: Option<Cursor>,
}

struct Search<'a> {
    problem: &'a Problem,
    clocks: &'a Clocks,
    budget: &'a Budget,
    list: List,
    seen: Seen,
    required: Bits,
    optional: Bits,
    placed: Vec<Placed>,
    /// Required operations that are placed.
    count: usize,
    state: u32,
    /// The latest call among what is placed: it is not earlier than that.
    call: u64,
    /// Optional operations that were placed since the last required one.
    row: usize,
    /// How many may be.
    row_max: usize,
    /// Whether one more could have been placed.
    is_cut: bool,
    steps: u64,
    steps_max: u64,
    cells: Vec<Cell>,
    /// For each key, below which place of `Problem::found_at` all operations are placed.
    found: Vec<usize>,
    /// For each key, below which place of `Problem::ends_at` all operations are placed.
    ended: Vec<usize>,
    /// For each numbered value, how many operations without a place were answered with it, and how
    /// many set it.
    unread: Vec<u32>,
    unset: Vec<u32>,
    /// Required operations that were placed at most.
    most: usize,
}

impl<'a> Search<'a> {
    /// `row_max` is how many optional operations may follow each other, and `steps_max` what the
    /// search may take.
    fn new(problem: &'a Problem, budget: &'a Budget, row_max: usize, steps_max: u64) -> Self {
        let mut seen = Seen::default();
        let cells = vec![None; problem.keys.len()];
        let state = seen.state(&cells);
        let mut unread = vec![0; problem.values()];
        let mut unset = unread.clone();
        for op in problem.required.iter().chain(&problem.optional) {
            op.reads.iter().for_each(|&value| unread[value] += 1);
            op.sets.iter().for_each(|&value| unset[value] += 1);
        }
        Self {
            problem,
            clocks: &budget.clocks,
            budget,
            list: List::new(&problem.required),
            seen,
            required: Bits::new(problem.required.len()),
            optional: Bits::new(problem.optional.len()),
            placed: Vec::new(),
            count: 0,
            state,
            call: 0,
            row: 0,
            row_max,
            is_cut: false,
            steps: 0,
            steps_max,
            cells,
            found: vec![0; problem.keys.len()],
            ended: vec![0; problem.keys.len()],
            unread,
            unset,
            most: 0,
        }
    }

    fn run(&mut self) -> Found {
        // Where to go on; `None` in a configuration in which nothing was tried.
        let mut cursor = None;
        loop {
            if self.count == self.problem.required.len() {
                return Found::Order(self.order());
            }
            if self.steps > self.steps_max || self.seen.count > self.budget.configurations {
                return Found::Open(self.most);
            }
            let placed = match cursor {
                None => self.without_choice().or_else(|| self.next(self.start())),
                // There was a choice here, so there is nothing that can be placed without one.
                Some(cursor) => self.next(cursor),
            };
            match placed {
                Some(placed) => {
                    self.place(placed);
                    cursor = None;
                }
                None => {
                    cursor = self.turn_around();
                    if cursor.is_none() {
                        return if self.is_cut { Found::Open(self.most) } else { Found::NoOrder };
                    }
                }
            }
        }
    }

    /// Takes back what was placed, down to where there is a choice left; `None` if there is none.
    fn turn_around(&mut self) -> Option<Cursor> {
        while let Some(placed) = self.placed.pop() {
            self.take_back(placed);
            if placed.next.is_some() {
                return placed.next;
            }
        }
        None
    }

    fn start(&self) -> Cursor {
        Cursor { entry: self.list.first(), optional: 0, gone: 0 }
    }

    fn op(&self, which: Which) -> &'a Op {
        match which {
            Which::Required(at) => &self.problem.required[at],
            Which::Optional(at) => &self.problem.optional[at],
        }
    }

    /// A candidate with which any order that goes on from here can begin, if there is one.
    fn without_choice(&mut self) -> Option<Placed> {
        let mut entry = self.list.first();
        while let Some((place, at)) = entry.and_then(|at| Some((at, self.list.call_at(at)?))) {
            entry = self.list.after(place);
            let op = self.op(Which::Required(at));
            let is_read = op.only_reads && (!self.problem.has_latest || op.call <= self.call);
            if !is_read && !self.is_read_by_nobody(op) {
                continue;
            }
            self.steps += 1;
            let must = self.expirable(op).1;
            if must == 0 && self.try_out(op, 0).is_some() {
                return Some(Placed {
                    which: Which::Required(at),
                    gone: 0,
                    state_before: self.state,
                    call_before: self.call,
                    row_before: self.row,
                    next: None,
                });
            }
        }
        None
    }

    /// Whether `op` sets the one key to what nobody reads, and nobody reads what is there, nor that
    /// it expires.
    fn is_read_by_nobody(&self, op: &Op) -> bool {
        let [Some(live)] = self.seen.cells(self.state) else { return false };
        op.only_sets
            && live.life.is_none()
            && op.sets.iter().all(|&value| self.unread[value] == 0)
            && self.problem.value(0, live.value).is_some_and(|value| self.unread[value] == 0)
    }

    /// The next operation from `cursor` on that can come next and leads to something new.
    fn next(&mut self, mut cursor: Cursor) -> Option<Placed> {
        let until = self.list.first_return(&self.problem.required);
        loop {
            let which = match cursor.entry.and_then(|entry| self.list.call_at(entry)) {
                Some(at) => Which::Required(at),
                None => {
                    cursor.entry = None;
                    let op = self.problem.optional.get(cursor.optional)?;
                    if op.call > until {
                        return None;
                    }
                    let waits = |twin| !self.optional.has(twin);
                    let is_useless = op.only_sets && op.sets.iter().all(|&of| self.unread[of] == 0);
                    if self.optional.has(cursor.optional)
                        || op.earlier_twin.is_some_and(waits)
                        || is_useless
                    {
                        cursor.optional += 1;
                        continue;
                    }
                    if self.row == self.row_max {
                        self.is_cut = true;
                        return None;
                    }
                    Which::Optional(cursor.optional)
                }
            };
            let op = self.op(which);
            let (may, must) = self.expirable(op);
            while cursor.gone <= may {
                let gone = cursor.gone;
                cursor.gone += 1;
                if gone & !may != 0 || must & !gone != 0 {
                    continue;
                }
                self.steps += 1;
                if self.try_out(op, gone).is_some() && self.is_new(which) {
                    return Some(Placed {
                        which,
                        gone,
                        state_before: self.state,
                        call_before: self.call,
                        row_before: self.row,
                        next: Some(cursor),
                    });
                }
            }
            cursor.gone = 0;
            match cursor.entry {
                Some(entry) => cursor.entry = self.list.after(entry),
                None => cursor.optional += 1,
            }
        }
    }

    /// Which of the keys that `op` touches may have expired when it runs next, and which must have,
    /// as bits.
    fn expirable(&self, op: &Op) -> (u32, u32) {
        let cells = self.seen.cells(self.state);
        let (mut may, mut must) = (0, 0);
        if op.touched.iter().all(|&key| cells[key].is_none_or(|live| live.life.is_none())) {
            return (0, 0);
        }
        let latest = self.list.first_return(&self.problem.required);
        let earliest = self.call.max(op.call);
        for (bit, &key) in op.touched.iter().enumerate().take(EXPIRABLE_MAX) {
            let Some(life) = cells[key].and_then(|live| live.life) else { continue };
            may |= u32::from(life.earliest <= latest) << bit;
            must |= u32::from(life.latest < earliest) << bit;
        }
        (may | must, must)
    }

    /// Runs `op` on a copy of the state, which is in `cells` afterwards.
    fn try_out(&mut self, op: &Op, gone: u32) -> Option<()> {
        self.cells.clear();
        self.cells.extend_from_slice(self.seen.cells(self.state));
        expire(&mut self.cells, op, gone);
        op.run(&mut self.cells, self.clocks, &self.problem.grows_to)?;
        let leads_nowhere =
            |key| self.loses(op, key) || self.outgrows(op, key) || self.comes_too_early(op, key);
        (!op.touched.iter().copied().any(leads_nowhere)).then_some(())
    }

    /// Whether `cells`, after `op`, has `key` longer than another operation must still find it.
    fn outgrows(&mut self, op: &Op, key: usize) -> bool {
        let found_at = &self.problem.found_at[key];
        let length = self.cells[key].map_or(0, |live| live.value.length());
        let is_placed = |at: usize| self.required.has(at);
        let first = &mut self.found[key];
        while found_at.get(*first).is_some_and(|&(_, at)| is_placed(at)) {
            *first += 1;
        }
        let mut others = found_at[*first..]
            .iter()
            .filter(|&&(_, at)| !is_placed(at) && self.problem.required[at].index != op.index);
        others.next().is_some_and(|&(found, _)| length > found)
    }

    /// Whether `cells`, after `op`, has lost the value of `key` for good, and some operation must
    /// still be answered with it.
    fn loses(&self, op: &Op, key: usize) -> bool {
        let Some(before) = self.seen.cells(self.state)[key].map(|live| live.value) else {
            return false;
        };
        if self.cells[key].is_some_and(|live| live.value == before) {
            return false;
        }
        let Some(value) = self.problem.value(key, before) else { return false };
        let own = |list: &[usize]| list.iter().filter(|&&of| of == value).count() as u32;
        self.unread[value] > own(&op.reads) && self.unset[value] == own(&op.sets)
    }

    /// Whether `cells`, after `op`, has a value of `key` that never comes back, and must end before
    /// all have been called that were answered with it.
    fn comes_too_early(&mut self, op: &Op, key: usize) -> bool {
        let Some(live) = self.cells[key] else { return false };
        let Some(value) = self.problem.value(key, live.value) else { return false };
        let own = |list: &[usize]| list.iter().filter(|&&of| of == value).count() as u32;
        if self.unread[value] == own(&op.reads) || self.unset[value] != own(&op.sets) {
            return false;
        }
        let required = &self.required;
        let waits = |at: usize| !required.has(at) && self.problem.required[at].index != op.index;
        let mut readers = self.problem.read_at[value].iter().filter(|&&(_, at)| waits(at));
        let Some(&(read, _)) = readers.next() else { return false };
        let ends_at = &self.problem.ends_at[key];
        let first = &mut self.ended[key];
        while ends_at.get(*first).is_some_and(|&(_, at)| required.has(at)) {
            *first += 1;
        }
        let brings = |at: usize| self.problem.required[at].sets.contains(&value);
        let mut ends = ends_at[*first..].iter().filter(|&&(_, at)| waits(at) && !brings(at));
        ends.next().is_some_and(|&(returned, _)| returned < read)
    }

    /// Whether the configuration with `which` placed, and `cells`, is worth trying.
    fn is_new(&mut self, which: Which) -> bool {
        let state = self.seen.state(&self.cells);
        let first = self.list.lowest_but(which);
        match which {
            Which::Required(at) => {
                self.required.set(at);
                let new = self.seen.is_new(state, first, &self.required, &self.optional);
                self.required.clear(at);
                new
            }
            Which::Optional(at) => {
                self.optional.set(at);
                let new = self.seen.is_new(state, first, &self.required, &self.optional);
                self.optional.clear(at);
                new
            }
        }
    }

    /// Places what was tried out last.
    fn place(&mut self, placed: Placed) {
        self.state = self.seen.state(&self.cells);
        let op = self.op(placed.which);
        self.call = self.call.max(op.call);
        op.reads.iter().for_each(|&value| self.unread[value] -= 1);
        op.sets.iter().for_each(|&value| self.unset[value] -= 1);
        match placed.which {
            Which::Required(at) => {
                self.required.set(at);
                self.list.take_out(at);
                self.row = 0;
                self.count += 1;
                self.most = self.most.max(self.count);
            }
            Which::Optional(at) => {
                self.row += 1;
                self.optional.set(at);
            }
        }
        self.placed.push(placed);
    }

    fn take_back(&mut self, placed: Placed) {
        self.state = placed.state_before;
        self.call = placed.call_before;
        self.row = placed.row_before;
        let op = self.op(placed.which);
        op.reads.iter().for_each(|&value| self.unread[value] += 1);
        op.sets.iter().for_each(|&value| self.unset[value] += 1);
        for &(key, place) in &op.places_found_at {
            self.found[key] = self.found[key].min(place);
        }
        for &(key, place) in &op.places_ends_at {
            self.ended[key] = self.ended[key].min(place);
        }
        match placed.which {
            Which::Required(at) => {
                self.required.clear(at);
                self.list.put_back(at);
                self.count -= 1;
            }
            Which::Optional(at) => self.optional.clear(at),
        }
    }

    /// Goes the way once more, to tell what was there at its end.
    fn order(&self) -> Order {
        let mut cells: Vec<Cell> = vec![None; self.problem.keys.len()];
        let mut texts: Vec<Option<Vec<u8>>> = vec![None; cells.len()];
        let mut order = Order::default();
        for (at, placed) in self.placed.iter().enumerate() {
            let op = self.op(placed.which);
            expire(&mut cells, op, placed.gone);
            for &key in &op.touched {
                let before = texts[key].take().filter(|_| cells[key].is_some());
                texts[key] = op.text_after(key, before, cells[key], self.clocks);
            }
            // It ran before, so it runs.
            let _ = op.run(&mut cells, self.clocks, &self.problem.grows_to);
            order.operations.push(op.index);
            if at + STATES_MAX >= self.placed.len() {
                order.states.push(texts.clone());
            }
        }
        order
    }
}

fn expire(cells: &mut [Cell], op: &Op, gone: u32) {
    for (bit, &key) in op.touched.iter().enumerate().take(EXPIRABLE_MAX) {
        if gone & 1 << bit != 0 {
            cells[key] = None;
        }
    }
}

/// Keys of one operation that may expire independently of each other.
const EXPIRABLE_MAX: usize = 8;
/// States at the end of an order that are told.
const STATES_MAX: usize = 40;

/// Calls and returns by time, as a list from which operations are taken out in any order and put
/// back in the reverse one.
struct List {
    /// For each entry the operation, and whether it is its call.
    entries: Vec<(usize, bool)>,
    /// The entry behind each; the last one stands for the beginning and the end.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each operation's call and return are.
    places: Vec<(usize, usize)>,
}

impl List {
    fn new(ops: &[Op]) -> Self {
        // At the same time calls come before returns: the two operations may come in any order.
        let mut entries: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * ops.len());
        for (at, op) in ops.iter().enumerate() {
            entries.push((op.call, false, at));
            entries.push((op.returned, true, at));
        }
        entries.sort_unstable();
        let mut places = vec![(0, 0); ops.len()];
        for (place, &(_, is_return, op)) in entries.iter().enumerate() {
            if is_return {
                places[op].1 = place;
            } else {
                places[op].0 = place;
            }
        }
        let count = entries.len() + 1;
        let entries = entries.into_iter().map(|(_, is_return, op)| (op, !is_return)).collect();
        let next = (0..count).map(|at| (at + 1) % count).collect();
        let previous = (0..count).map(|at| (at + count - 1) % count).collect();
        Self { entries, next, previous, places }
    }

    fn end(&self) -> usize {
        self.entries.len()
    }

    fn first(&self) -> Option<usize> {
        self.after(self.end())
    }

    fn after(&self, entry: usize) -> Option<usize> {
        Some(self.next[entry]).filter(|&entry| entry != self.end())
    }

    /// The operation whose call this is; `None` for a return.
    fn call_at(&self, entry: usize) -> Option<usize> {
        self.entries.get(entry).filter(|entry| entry.1).map(|entry| entry.0)
    }

    /// The time of the first return.
    fn first_return(&self, ops: &[Op]) -> u64 {
        let mut entry = self.first();
        while let Some(at) = entry {
            if !self.entries[at].1 {
                return ops[self.entries[at].0].returned;
            }
            entry = self.after(at);
        }
        u64::MAX
    }

    /// The operation that was called first, without `which`.
    fn lowest_but(&self, which: Which) -> usize {
        let mut entry = self.first();
        while let Some(at) = entry {
            match self.entries[at] {
                (op, true) if Which::Required(op) != which => return op,
                _ => entry = self.after(at),
            }
        }
        self.places.len()
    }

    fn take_out(&mut self, op: usize) {
        let (call, returned) = self.places[op];
        for entry in [call, returned] {
            let (previous, next) = (self.previous[entry], self.next[entry]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    fn put_back(&mut self, op: usize) {
        let (call, returned) = self.places[op];
        for entry in [returned, call] {
            let (previous, next) = (self.previous[entry], self.next[entry]);
            self.next[previous] = entry;
            self.previous[next] = entry;
        }
    }
}
