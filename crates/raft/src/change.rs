//! Changes of configuration by joint consensus (§6, thesis §4.3), and leaving the group.
//!
//! - A configuration is in effect from the moment it is appended, and rolled back if its entry is
//!   truncated; the log keeps track of that.
//! - A change of voters goes through a joint configuration, which the leader (this one, or the next)
//!   leaves by itself once it is committed. A change of learners alone needs no joint step.
//! - One change at a time, and none before the leader has committed an entry of its term.
//! - A change names the entry of the configuration it replaces (PROTOCOL 16).

use alloc::sync::Arc;
use alloc::vec::Vec;

use kontiki_types::{Index, Instant, LogId, Member};

use crate::raft::Raft;
use crate::{ChangeError, EntryData, Membership, Output, Payload, Reason, Role};

impl<P: Payload> Raft<P> {
    /// Replaces the configuration whose entry is `replaces` by one of these members. Returns where
    /// the (first) entry of the change lands. The change is finished when [`Status`](crate::Status)
    /// shows these members in a configuration that is not joint and is committed.
    ///
    /// Let a new voter catch up as a learner first: from the moment the change is appended, the
    /// new voters' majority is needed for every commit.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was changed.
    pub fn change_membership(
        &mut self,
        now: Instant,
        voters: Vec<Member>,
        learners: Vec<Member>,
        replaces: LogId,
    ) -> Result<LogId, ChangeError> {
        self.may_lead().map_err(ChangeError::Refused)?;
        if self.is_transferring() {
            return Err(ChangeError::Refused(Reason::Transferring));
        }
        if !self.knows_commit() {
            return Err(ChangeError::NotReady);
        }
        let (current_id, current) = self.log.membership();
        if current_id.index > self.commit || current.is_joint() {
            return Err(ChangeError::InProgress);
        }
        if current_id != replaces {
            return Err(ChangeError::Replaced { current: current_id });
        }
        let mut target = Membership::new(voters, learners);
        if target.voters != current.voters {
            target.outgoing = current.voters.clone();
        }
        if target.voters.is_empty() || !target.is_well_formed() {
            return Err(ChangeError::Malformed);
        }
        self.rouse(now);
        Ok(self.append_membership(now, target))
    }

    /// Leaves a joint configuration that is committed.
    pub(crate) fn leave_joint(&mut self, now: Instant) {
        let (id, membership) = self.log.membership();
        if !membership.is_joint()
            || id.index > self.commit
            || !self.knows_commit()
            || self.is_transferring()
        {
            return;
        }
        let next = Membership { outgoing: Vec::new(), ..Membership::clone(membership) };
        self.append_membership(now, next);
    }

    fn append_membership(&mut self, now: Instant, membership: Membership) -> LogId {
        self.changed = true;
        let id = self.append_own(EntryData::Membership(Arc::new(membership)));
        self.adopt_membership(now);
        id
    }

    /// Whether this leader has committed an entry of its term.
    fn knows_commit(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| self.commit >= lead.term_start)
    }

    /// Looks for a configuration committed after `before`, up to `upto`, that this replica is not
    /// in any more. One that it is not in *yet* is part of the history it catches up with.
    pub(crate) fn notice_removal(&mut self, before: Index, upto: Index) {
        let me = self.config.me;
        let left = self.log.memberships(before, upto).any(|(id, membership)| {
            !membership.contains(me) && self.log.membership_at(id.index.prev()).1.contains(me)
        });
        self.removed |= left;
    }

    /// Leaves the group, having told the others that it may. A leader helps a successor into
    /// office.
    pub(crate) fn retire(&mut self, now: Instant) {
        self.hand_over_in_a_hurry(now);
        self.follow(now, self.term(), None);
        self.fail_forwarded();
        self.role = Role::Removed;
        self.publish();
        self.outbox.push_back(Output::Removed);
    }
}
