//! What the controller wants of the groups led here.

use core::time::Duration;

use kontiki_shard::{Answer as Said, Move, Query};
use kontiki_types::{GroupId, Instant};

use super::task::{Task, TaskId};
use super::{Mover, Purpose};
use crate::steward::CONTROLLER;

/// How often a node asks that hears nothing of the controller by itself, or that takes part in moves.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// How long after a failure it asks again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// When to ask.
#[derive(Debug, Default)]
pub(super) struct Duties {
    /// Something has happened since it was asked last.
    pub(super) wanted: bool,
    pub(super) hears_controller: bool,
    is_asked: bool,
    /// Not before.
    after: Instant,
    asked_at: Instant,
}

impl Mover {
    /// The data groups led here.
    fn led_groups(&self) -> impl Iterator<Item = GroupId> {
        self.led.keys().copied().filter(|group| *group != CONTROLLER)
    }

    /// When the controller is to be asked next.
    pub(super) fn duties_at(&self) -> Instant {
        let duties = &self.duties;
        if duties.is_asked || self.led_groups().next().is_none() {
            return Instant::MAX;
        }
        if duties.wanted {
            return duties.after;
        }
        if duties.hears_controller && self.tasks.is_empty() {
            return Instant::MAX;
        }
        duties.asked_at + ASK_EVERY
    }

    pub(super) fn ask_for_duties(&mut self) {
        if self.duties_at() > self.now {
            return;
        }
        let groups = self.led_groups().collect();
        self.duties.wanted = false;
        self.duties.is_asked = true;
        self.duties.asked_at = self.now;
        self.ask(CONTROLLER, &Query::Duties { groups }, Purpose::Duties);
    }

    pub(super) fn hear_duties(&mut self, said: Option<Said>) {
        self.duties.is_asked = false;
        let Some(Said::Duties { moves, .. }) = said else {
            self.duties.wanted = true;
            self.duties.after = self.now + ASK_AGAIN;
            return;
        };
        self.leave(|id| !moves.iter().any(|found| found.tag.id == id.id));
        for found in moves {
            let from = found.from.map(|from| from.id);
            for (group, is_source) in [(from, true), (Some(found.to.id), false)] {
                let Some(group) = group.filter(|group| self.led.contains_key(group)) else {
                    continue;
                };
                self.take_up(TaskId { id: found.tag.id, group, is_source }, &found);
            }
        }
    }

    /// Begins or goes on with a side of a move.
    fn take_up(&mut self, id: TaskId, found: &Move) {
        if self.tasks.contains_key(&id) {
            self.hear_found(id, found.clone());
        } else {
            self.tasks.insert(id, Task::new(found.clone(), self.now));
        }
    }
}
