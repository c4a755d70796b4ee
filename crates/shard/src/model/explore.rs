//! Breadth-first exploration of all states that can be reached.

use std::collections::{HashMap, VecDeque};

/// A system: its state is a value, and it says what may happen next.
pub(super) trait System: Clone {
    type Label: Copy;
    /// A label in words; it leads on from this state.
    fn describe(&self, label: Self::Label) -> String;
    /// Tells states apart.
    fn hash(&self) -> u64;
    /// What may happen, and the state after it.
    fn next(&self) -> Vec<(Self::Label, Self)>;
    /// What is wrong with the state, if something is.
    fn violation(&self) -> Option<String>;
    /// Whether everything is done and nothing is under way.
    fn is_finished(&self) -> bool;
}

/// What an exploration came to.
#[derive(Debug)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) steps: usize,
    pub(super) finished: usize,
    /// What was wrong, and the shortest way there.
    pub(super) violation: Option<(String, Vec<String>)>,
}

/// Explores from `first` on, up to the first violation, and at most `states_max` states.
pub(super) fn explore<S: System>(first: &S, states_max: usize) -> Explored {
    let mut ids = HashMap::from([(first.hash(), 0)]);
    let mut parents: Vec<usize> = vec![0];
    let mut steps: Vec<(u32, u32)> = Vec::new();
    let mut finished: Vec<usize> = Vec::new();
    let mut queue = VecDeque::from([(0, first.clone())]);
    let mut explored = Explored { states: 0, steps: 0, finished: 0, violation: None };
    while let Some((id, state)) = queue.pop_front() {
        if let Some(what) = state.violation() {
            explored.violation = Some((what, way_to(first, &parents, id)));
            break;
        }
        if state.is_finished() {
            finished.push(id);
        }
        for (_, next) in state.next() {
            let new = ids.len();
            let to = *ids.entry(next.hash()).or_insert(new);
            if to == new {
                assert!(new < states_max, "more than {states_max} states");
                parents.push(id);
                queue.push_back((new, next));
            }
            steps.push((id as u32, to as u32));
        }
    }
    explored.states = ids.len();
    explored.steps = steps.len();
    explored.finished = finished.len();
    if explored.violation.is_none()
        && let Some(stuck) = first_stuck(ids.len(), &steps, finished)
    {
        let what = "from here the end cannot be reached".to_string();
        explored.violation = Some((what, way_to(first, &parents, stuck)));
    }
    explored
}

/// The first state from which no finished one can be reached.
fn first_stuck(states: usize, steps: &[(u32, u32)], finished: Vec<usize>) -> Option<usize> {
    let mut before: Vec<Vec<u32>> = vec![Vec::new(); states];
    steps.iter().for_each(|(from, to)| before[*to as usize].push(*from));
    let mut ends = vec![false; states];
    finished.iter().for_each(|id| ends[*id] = true);
    let mut open = finished;
    while let Some(id) = open.pop() {
        for from in before[id].iter().map(|from| *from as usize) {
            if !std::mem::replace(&mut ends[from], true) {
                open.push(from);
            }
        }
    }
    ends.iter().position(|ends| !ends)
}

/// What happens on the way to a state, from its parents.
fn way_to<S: System>(first: &S, parents: &[usize], id: usize) -> Vec<String> {
    let mut ids = vec![id];
    while let Some(id) = ids.last().copied().filter(|id| *id != 0) {
        ids.push(parents[id]);
    }
    ids.reverse();
    // Numbers are given in the order of exploration, so exploring again gives the same ones.
    let mut known = HashMap::from([(first.hash(), 0)]);
    let mut queue = VecDeque::from([(0, first.clone())]);
    let mut way = Vec::new();
    let mut at = 0;
    while let Some((id, state)) = queue.pop_front() {
        let is_on_the_way = ids.get(at) == Some(&id);
        for (what, next) in state.next() {
            let new = known.len();
            let to = *known.entry(next.hash()).or_insert(new);
            if is_on_the_way && ids.get(at + 1) == Some(&to) && way.len() == at {
                way.push(state.describe(what));
            }
            if to == new {
                queue.push_back((new, next));
            }
        }
        if is_on_the_way {
            at += 1;
            if at + 1 == ids.len() {
                break;
            }
        }
    }
    way
}
