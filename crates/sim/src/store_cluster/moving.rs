//! Moves of slots at a node: what the task around the mover is on a real one.

use kontiki_replica::steward::CONTROLLER;
use kontiki_replica::{Answer, Found, Mover, MoverOutput, NodeInfo};
use kontiki_types::{ClientId, GroupId, Instant, LogTime, Term};

use super::StoreConfig;

/// The number of the mover's session among the node's connections, which count up from 1.
const SESSION: u64 = u64::MAX;

/// See the module. A store that is not sharded has none.
pub(super) struct Moving {
    mover: Option<Mover>,
    /// Something has happened since it was last looked at.
    has_news: bool,
    /// The next look is set.
    is_awake: bool,
    timer: Instant,
}

impl Moving {
    pub(super) fn new(config: &StoreConfig, me: &NodeInfo, has_controller: bool) -> Self {
        let (incarnation, boot) = (me.incarnation, me.boot);
        let client = ClientId { incarnation, boot, connection: SESSION };
        let mover = config.is_sharded().then(|| Mover::new(client, config.moves));
        let mut moving = Self { mover, has_news: false, is_awake: false, timer: Instant::MAX };
        if has_controller {
            moving.hears_steward(CONTROLLER);
        }
        moving
    }

    pub(super) fn is_sharded(&self) -> bool {
        self.mover.is_some()
    }

    fn tell(&mut self, tell: impl FnOnce(&mut Mover)) {
        if let Some(mover) = &mut self.mover {
            tell(mover);
            self.has_news = true;
        }
    }

    /// This node leads the group in this term, or does not lead it.
    pub(super) fn role(&mut self, group: GroupId, leads: Option<Term>) {
        self.tell(|mover| mover.role(group, leads));
    }

    /// A group's machine here has been told something.
    pub(super) fn hears_steward(&mut self, group: GroupId) {
        if group == CONTROLLER {
            self.tell(|mover| {
                mover.set_hears_controller(true);
                mover.controller_changed();
            });
        }
    }

    /// There is no replica of the group here any more.
    pub(super) fn closed(&mut self, group: GroupId) {
        self.role(group, None);
        if group == CONTROLLER {
            self.tell(|mover| mover.set_hears_controller(false));
        }
    }

    pub(super) fn answer(&mut self, ticket: u64, answer: Answer) {
        self.tell(|mover| mover.answer(ticket, answer));
    }

    pub(super) fn looked(&mut self, ticket: u64, found: Option<Found>) {
        self.tell(|mover| mover.looked(ticket, found));
    }

    /// Whether it is to be looked at soon, asked once.
    pub(super) fn wakes(&mut self) -> bool {
        self.has_news && !std::mem::replace(&mut self.is_awake, true)
    }

    /// What is to be done.
    pub(super) fn poll(&mut self, now: Instant, log_time: LogTime) -> Vec<MoverOutput> {
        (self.has_news, self.is_awake) = (false, false);
        let Some(mover) = &mut self.mover else { return Vec::new() };
        mover.set_time(now, log_time);
        mover.poll()
    }

    /// For when the next look is to be set, if that has changed.
    pub(super) fn timer(&mut self, now: Instant) -> Option<Instant> {
        let at = self.mover.as_ref()?.next_deadline();
        let at = if at == Instant::MAX { at } else { at.max(Instant(now.0 + 1)) };
        let before = std::mem::replace(&mut self.timer, at);
        (at != before && at != Instant::MAX).then_some(at)
    }

    /// Whether a timer was set anew since.
    pub(super) fn is_moot(&self, set: Option<Instant>) -> bool {
        set.is_some_and(|set| set != self.timer)
    }
}
