//! How a leader brings its log to the others, and when an entry is committed (§5.3, §5.4.2).
//!
//! Appends are pipelined within a window of messages and bytes. What got lost shows in two ways: a
//! later append is rejected, or the answer to a later heartbeat says that less has been received.
//! Neither needs a timer, and a slow disk at the follower is never taken for a loss.

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, Member};

use crate::progress::{Progress, State};
use crate::raft::Raft;
use crate::{AppendResult, Body, Message, Output, Payload, Role, Session};

impl<P: Payload> Raft<P> {
    /// Sends every peer what it lacks and its window allows; or, if there is nothing to send, the
    /// commit index where it moved, since followers answer clients of their own.
    pub(crate) fn flush_appends(&mut self, now: Instant) {
        let Some(mut lead) = self.lead.take() else { return };
        let round = lead.round;
        for peer in &mut lead.peers {
            self.flush_peer(now, round, peer);
        }
        self.lead = Some(lead);
    }

    fn flush_peer(&mut self, now: Instant, round: u64, peer: &mut Progress) {
        let last = self.log.last().index;
        loop {
            let due = match peer.state {
                State::Probe { waiting } => waiting.is_none(),
                State::Replicate => peer.next <= last && peer.window_open(&self.config),
                State::Snapshot(_) => false,
            };
            if !due {
                break;
            }
            if !self.send_append(peer, round) {
                self.begin_snapshot(now, peer);
                break;
            }
        }
        let commit = self.commit.min(peer.matched);
        if commit > peer.commit_sent {
            peer.commit_sent = commit;
            self.send(peer.member, Body::Commit { commit });
        }
    }

    /// Sends one append. Returns `false` if the log no longer holds what would have to be sent.
    fn send_append(&mut self, peer: &mut Progress, round: u64) -> bool {
        let prev = peer.next.prev();
        let Some(term) = self.log.term_at(prev) else { return false };
        let mut prev = kontiki_types::LogId::new(term, prev);
        let entries = self.log.slice(peer.next, self.config.max_append_bytes);
        let end = entries.last().map_or(prev.index, |entry| entry.id.index);
        if planted(Plant::EmptyAppendMerged) && matches!(peer.state, State::Probe { .. }) {
            prev = self.log.last();
        }
        match &mut peer.state {
            State::Replicate => {
                let bytes = entries.iter().fold(0usize, |sum, entry| sum + entry.cost());
                peer.sent(end, bytes);
            }
            State::Probe { waiting } => *waiting = Some(end),
            State::Snapshot(_) => {}
        }
        peer.sent_round = round;
        peer.commit_sent = peer.commit_sent.max(self.commit.min(end));
        let body = Body::Append { session: peer.session, prev, commit: self.commit, entries };
        let message = Message { from: self.config.me, to: peer.member, term: self.term(), body };
        self.outbox.push_back(Output::Send(message));
        true
    }

    pub(crate) fn on_append_reply(
        &mut self,
        now: Instant,
        from: Member,
        session: Session,
        result: AppendResult,
    ) {
        let Some(peer) = self.lead.as_mut().and_then(|lead| lead.answering(from, session)) else {
            return;
        };
        peer.acked_at = now;
        match result {
            AppendResult::Matched(index) => self.on_matched(from, index),
            AppendResult::Rejected { prev, hint } => {
                let stale = prev <= peer.matched
                    || match peer.state {
                        State::Probe { .. } => prev != peer.next.prev(),
                        State::Replicate => false,
                        State::Snapshot(_) => true,
                    };
                if !stale {
                    // The logs can only agree where ours has a term at or below the hint's, too.
                    let agree = self.log.last_not_above(hint.index, hint.term).index;
                    peer.probe(agree.next().min(prev));
                }
            }
            AppendResult::Full => {
                if !peer.is_in_snapshot() {
                    peer.pause();
                }
            }
        }
    }

    pub(crate) fn on_heartbeat_reply(
        &mut self,
        now: Instant,
        from: Member,
        session: Session,
        round: u64,
        received: Index,
        matched: Index,
    ) {
        let Some(lead) = self.lead.as_mut() else { return };
        let latest = lead.round;
        let Some(peer) = lead.answering(from, session) else { return };
        if round > latest {
            return self.dropped += 1;
        }
        peer.acked_at = now;
        peer.acked_round = peer.acked_round.max(round);
        // An answer to a round that was sent after the last append tells whether that arrived.
        let lost = round > peer.sent_round
            && !planted(Plant::LostAppendForgotten)
            && match peer.state {
                State::Probe { waiting } => waiting.is_some_and(|end| received < end),
                State::Replicate => received.next() < peer.next,
                State::Snapshot(_) => false,
            };
        if lost {
            peer.probe(received.min(self.log.last().index).next());
        }
        self.on_matched(from, matched);
        self.confirm_reads();
    }

    /// The log of `from` is ours up to `index`, durably.
    fn on_matched(&mut self, from: Member, index: Index) {
        let (last, base) = (self.log.last().index, self.log.base().id.index);
        let Some(lead) = self.lead.as_mut() else { return };
        let Some(peer) = lead.peers.iter_mut().find(|peer| peer.member == from) else { return };
        if index > last {
            return self.dropped += 1;
        }
        let resume = match &peer.state {
            State::Probe { waiting } => waiting.is_some() && index.next() >= peer.next,
            State::Replicate => false,
            // If the log has been compacted beyond the snapshot meanwhile, the next append finds out.
            State::Snapshot(Some(transfer)) => index >= base.min(transfer.meta.id.index),
            State::Snapshot(None) => index >= base,
        };
        let news = peer.matched(index);
        if resume {
            peer.replicate();
        }
        if news {
            self.advance_commit();
        }
    }

    /// Commits what a majority has, the leader's own disk counted like any other (thesis §10.2.1).
    pub(crate) fn advance_commit(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        let Some(lead) = &self.lead else { return };
        let mut mine = self.durability.durable();
        if planted(Plant::LeaderCountsUnsynced) {
            mine = self.log.last().index;
        }
        let agreed = lead.agreed(mine, self.commit, |peer| peer.matched);
        // Only entries of the current term count towards commitment; an older entry on a majority
        // can still be overwritten (§5.4.2, Figure 8).
        let own = agreed >= lead.term_start || planted(Plant::CommitOlderTerm);
        if agreed > self.commit && own {
            self.commit_to(agreed);
        }
    }
}
