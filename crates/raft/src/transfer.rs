//! Handing leadership to a chosen voter (thesis §3.10).
//!
//! The leader takes no more proposals until the target's log is as long as its own, gives up its
//! lease, and asks the target to campaign at once. If that leads nowhere within an election timeout,
//! it goes on leading.

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Instant, Member, NodeId};

use crate::raft::Raft;
use crate::{Body, Payload, Reason, Role, TransferError};

pub(crate) struct Transferring {
    to: Member,
    pub(crate) until: Instant,
    asked: bool,
}

impl<P: Payload> Raft<P> {
    /// Hands leadership to the voter on the node `to`. Proposals are refused until another leads,
    /// or an election timeout has passed in vain.
    ///
    /// # Errors
    /// [`TransferError`]: nothing was changed.
    pub fn transfer(&mut self, now: Instant, to: NodeId) -> Result<(), TransferError> {
        self.may_lead().map_err(TransferError::Refused)?;
        if self.is_transferring() {
            return Err(TransferError::Refused(Reason::Transferring));
        }
        let target = self.membership().voters.iter().find(|member| member.node == to).copied();
        let Some(to) = target else { return Err(TransferError::NotVoter) };
        if to == self.config.me {
            return Ok(());
        }
        self.changed = true;
        self.rouse(now);
        if let Some(lead) = &mut self.lead {
            let until = now + self.config.election_timeout;
            lead.transfer = Some(Transferring { to, until, asked: false });
        }
        Ok(())
    }

    /// Whether this leader is handing over.
    pub fn is_transferring(&self) -> bool {
        self.lead.as_ref().is_some_and(|lead| lead.transfer.is_some())
    }

    /// Asks the target to campaign, once it has the whole log.
    pub(crate) fn flush_transfer(&mut self) {
        let last = self.log.last().index;
        let Some(lead) = &mut self.lead else { return };
        let Some(transfer) = &lead.transfer else { return };
        let to = transfer.to;
        if transfer.asked || lead.peer(to).is_none_or(|peer| peer.matched < last) {
            return;
        }
        if let Some(transfer) = &mut lead.transfer {
            transfer.asked = true;
        }
        lead.lease_given_up = !planted(Plant::LeaseKeptInTransfer);
        self.send(to, Body::TimeoutNow);
    }

    pub(crate) fn tick_transfer(&mut self, now: Instant) {
        if let Some(lead) = &mut self.lead
            && lead.transfer.as_ref().is_some_and(|transfer| now >= transfer.until)
        {
            lead.transfer = None;
        }
    }

    /// For a leader that has to stop: asks the voter that is furthest to campaign at once, whether
    /// it has everything or not. The election decides.
    pub(crate) fn hand_over_in_a_hurry(&mut self, now: Instant) {
        let patience = self.config.election_timeout;
        let Some(lead) = &mut self.lead else { return };
        lead.lease_given_up = true;
        let best = lead
            .peers
            .iter()
            .filter(|peer| peer.voter && now.since(peer.acked_at) <= patience)
            .max_by_key(|peer| peer.matched)
            .map(|peer| peer.member);
        if let Some(to) = best {
            self.send(to, Body::TimeoutNow);
        }
    }

    pub(crate) fn on_timeout_now(&mut self, now: Instant, from: Member) {
        if self.heard_leader(now, from)
            && self.role == Role::Follower
            && self.may_campaign()
            && !self.disk_is_stalled(now)
        {
            self.campaign(now, true);
        }
    }
}
