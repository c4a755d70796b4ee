//! How a leader brings its log to the others, and when an entry is committed (§5.3, §5.4.2).
//!
//! Appends are pipelined within a window of messages and bytes. What got lost shows in two ways: a
//! later append is rejected, or the answer to a later heartbeat says that less has been received.
//! Neither needs a timer, and a slow disk at the follower is never taken for a loss.

use kontiki_types::plant::{Plant, planted};
use kontiki_types::{Index, Instant, LogId, Member, NodeId};

use crate::progress::{Progress, State};
use crate::raft::Raft;
use crate::{AppendResult, Body, Entries, Message, Output, Payload, Role, Session};

impl<P: Payload> Raft<P> {
    /// Sends every peer what it lacks and its window allows; or, if there is nothing to send, the
    /// commit index where it moved and matters: followers answer clients of their own.
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
                State::Replicate => {
                    peer.next <= last && peer.window_open(&self.config) && !peer.reading
                }
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
        if !self.config.commits_can_wait || peer.commit_sent < peer.awaited {
            self.tell_commit(peer);
        }
    }

    /// Tells a peer what is committed of what it has, if that is news.
    fn tell_commit(&mut self, peer: &mut Progress) {
        let commit = self.commit.min(peer.matched);
        if commit > peer.commit_sent {
            peer.commit_sent = commit;
            self.send(peer.member, Body::Commit { commit });
        }
    }

    /// Tells every peer what is committed.
    pub(crate) fn tell_commits(&mut self) {
        let Some(mut lead) = self.lead.take() else { return };
        for peer in &mut lead.peers {
            self.tell_commit(peer);
        }
        self.lead = Some(lead);
    }

    /// Somebody at `node` waits until its replica has applied the log up to `index`: it is told when
    /// that is committed ([`Config::commits_can_wait`](crate::Config::commits_can_wait)).
    pub fn commit_is_awaited(&mut self, node: NodeId, index: Index) {
        self.changed = true;
        let peers = self.lead.iter_mut().flat_map(|lead| &mut lead.peers);
        for peer in peers.filter(|peer| peer.member.node == node) {
            peer.awaited = peer.awaited.max(index);
        }
    }

    /// Sends one append, or has its entries read first. Returns `false` if the log no longer holds
    /// what would have to be sent.
    fn send_append(&mut self, peer: &mut Progress, round: u64) -> bool {
        let (from, max) = (peer.next, self.config.max_append_bytes);
        let Some(term) = self.log.term_at(from.prev()) else { return false };
        // A probe needs none: it asks where the logs agree.
        if matches!(peer.state, State::Replicate) && from <= self.log.evicted() {
            peer.reading = true;
            self.outbox.push_back(Output::ReadEntries { to: peer.member, from, max });
            return true;
        }
        let (entries, bytes) = self.log.slice(from, max);
        self.send_entries(peer, round, LogId::new(term, from.prev()), entries, bytes);
        true
    }

    fn send_entries(
        &mut self,
        peer: &mut Progress,
        round: u64,
        prev: LogId,
        entries: Entries<P>,
        bytes: usize,
    ) {
        let mut prev = prev;
        let end = entries.last().map_or(prev.index, |entry| entry.id.index);
        if planted(Plant::EmptyAppendMerged) && matches!(peer.state, State::Probe { .. }) {
            prev = self.log.last();
        }
        match &mut peer.state {
            State::Replicate => peer.sent(end, bytes),
            State::Probe { waiting } => *waiting = Some(end),
            State::Snapshot(_) => {}
        }
        peer.sent_round = round;
        peer.commit_sent = peer.commit_sent.max(self.commit.min(end));
        let body = Body::Append { session: peer.session, prev, commit: self.commit, entries };
        let message = Message { from: self.config.me, to: peer.member, term: self.term(), body };
        self.outbox.push_back(Output::Send(message));
    }

    /// Answer to [`Output::ReadEntries`]: entries of this replica's log from `from` on, as they are on
    /// stable storage. None at all: they cannot be read, and the follower gets a snapshot instead
    /// unless the log has been compacted meanwhile.
    pub fn entries_read(&mut self, now: Instant, to: Member, from: Index, entries: Entries<P>) {
        self.changed = true;
        let Some(mut lead) = self.lead.take() else { return };
        let round = lead.round;
        if let Some(peer) = lead.peers.iter_mut().find(|peer| peer.member == to) {
            peer.reading = false;
            // Else it has been found out meanwhile that something else is to be sent.
            if matches!(peer.state, State::Replicate) && peer.next == from {
                let ours = entries.first().is_some_and(|entry| entry.id.index == from)
                    && entries.iter().all(|entry| self.log.contains(entry.id));
                match self.log.term_at(from.prev()) {
                    Some(term) if ours => {
                        let bytes = entries.iter().fold(0usize, |sum, entry| sum + entry.cost());
                        let prev = LogId::new(term, from.prev());
                        self.send_entries(peer, round, prev, entries, bytes);
                    }
                    Some(_) => self.cannot_be_read(now, peer),
                    None => self.begin_snapshot(now, peer),
                }
            }
        }
        self.lead = Some(lead);
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
        let (last, start) = (self.log.last().index, self.readable_after());
        let Some(lead) = self.lead.as_mut() else { return };
        let Some(peer) = lead.peers.iter_mut().find(|peer| peer.member == from) else { return };
        if index > last {
            return self.dropped += 1;
        }
        let resume = match &peer.state {
            State::Probe { waiting } => waiting.is_some() && index.next() >= peer.next,
            State::Replicate => false,
            // If the log has been compacted beyond the snapshot meanwhile, the next append finds out.
            State::Snapshot(Some(transfer)) => index >= start.min(transfer.meta.id.index),
            State::Snapshot(None) => index >= start,
        };
        let news = peer.matched(index);
        if resume {
            peer.replicate();
        }
        // What is committed already is not committed again by one more copy.
        if news && index > self.commit {
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
