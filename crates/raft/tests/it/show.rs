//! Outputs as short lines.

use kontiki_raft::{AppendResult, Body, Entry, EntryData, Membership, Message, Role, WriteBatch};
use kontiki_types::Member;

pub fn message(message: &Message<Vec<u8>>) -> String {
    let Message { from, to, term, body } = message;
    format!("{} -> {} t{} {}", member(*from), member(*to), term, body_text(body))
}

pub fn member(member: Member) -> String {
    if member.replica.0 == 1 { format!("n{}", member.node) } else { format!("{member}") }
}

fn body_text(body: &Body<Vec<u8>>) -> String {
    match body {
        Body::PreVote { last } => format!("PreVote last={last}"),
        Body::PreVoteReply { granted } => format!("PreVoteReply {}", yes_no(*granted)),
        Body::Vote { last, transfer } => {
            format!("Vote last={last}{}", if *transfer { " transfer" } else { "" })
        }
        Body::VoteReply { granted } => format!("VoteReply {}", yes_no(*granted)),
        Body::Append { prev, commit, entries: list, .. } => {
            format!("Append prev={prev} commit={commit} {}", entries(list))
        }
        Body::AppendReply { result, .. } => match result {
            AppendResult::Matched(index) => format!("Appended up to {index}"),
            AppendResult::Rejected { prev, hint } => format!("Rejected prev={prev} hint={hint}"),
            AppendResult::Full => "Full".into(),
        },
        Body::Heartbeat { commit, round, .. } => format!("Heartbeat {round} commit={commit}"),
        Body::HeartbeatReply { round, received, matched, .. } => {
            format!("HeartbeatReply {round} received={received} matched={matched}")
        }
        Body::Commit { commit } => format!("Commit {commit}"),
        Body::Snapshot { meta, offset, data, .. } => {
            let end = offset + data.len() as u64;
            format!("Snapshot {} bytes {offset}..{end} of {}", meta.id, meta.bytes)
        }
        Body::SnapshotReply { snapshot, next, .. } => {
            format!("SnapshotReply {} next={next}", snapshot.0)
        }
        Body::Quiesce { last, commit, round, .. } => {
            format!("Quiesce {round} last={last} commit={commit}")
        }
        Body::Quiet { round, .. } => format!("Quiet {round}"),
        Body::Wake => "Wake".into(),
        Body::TimeoutNow => "TimeoutNow".into(),
        Body::ReadIndex { .. } => "ReadIndex".into(),
        Body::ReadIndexReply { index: Some(index), .. } => format!("ReadIndexReply {index}"),
        Body::ReadIndexReply { index: None, .. } => "ReadIndexReply none".into(),
        Body::Stale => "Stale".into(),
    }
}

fn yes_no(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

pub fn entries<'a>(entries: impl IntoIterator<Item = &'a Entry<Vec<u8>>>) -> String {
    let list: Vec<_> = entries.into_iter().map(entry).collect();
    format!("[{}]", list.join(", "))
}

fn entry(entry: &Entry<Vec<u8>>) -> String {
    match &entry.data {
        EntryData::Noop => format!("{} noop", entry.id),
        EntryData::Command(command) => {
            format!("{} {}", entry.id, String::from_utf8_lossy(command))
        }
        EntryData::Membership(members) => format!("{} {}", entry.id, membership(members)),
    }
}

pub fn membership(membership: &Membership) -> String {
    let list =
        |members: &[Member]| members.iter().map(|&one| member(one)).collect::<Vec<_>>().join(" ");
    let mut text = format!("voters({})", list(&membership.voters));
    if membership.is_joint() {
        text += &format!(" outgoing({})", list(&membership.outgoing));
    }
    if !membership.learners.is_empty() {
        text += &format!(" learners({})", list(&membership.learners));
    }
    text
}

pub fn batch(batch: &WriteBatch<Vec<u8>>) -> String {
    let mut parts = Vec::new();
    if let Some(state) = batch.hard_state() {
        let vote = state.vote.map_or("nobody".into(), member);
        parts.push(format!("term {} vote {vote}", state.term));
    }
    if let Some(base) = batch.base() {
        parts.push(format!("base {} {}", base.id, membership(&base.membership)));
    }
    if let Some(from) = batch.truncate_from() {
        parts.push(format!("truncate from {from}"));
    }
    if batch.entry_count() > 0 {
        parts.push(entries(batch.entries()));
    }
    parts.join(", ")
}

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Removed => "removed",
        Role::Faulted => "faulted",
    }
}
