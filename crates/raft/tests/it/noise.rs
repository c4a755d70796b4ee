//! No message makes a replica panic, however wrong it is; and what cannot be true is not believed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kontiki_raft::{
    AppendResult, Body, Entry, EntryData, Membership, Message, Output, SnapshotMeta,
};
use kontiki_types::{Incarnation, Index, LogId, Member, NodeId, ReplicaId, Term};
use proptest::prelude::*;

use crate::cluster::{Cluster, ms};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..8, 1 => any::<u64>(), 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1)]
}

fn member() -> impl Strategy<Value = Member> {
    (1u64..5, 0u64..10, 1u64..3).prop_map(|(node, odd, replica)| Member {
        node: NodeId(node),
        incarnation: Incarnation(node + if odd == 0 { 7 } else { 100 }),
        replica: ReplicaId(if odd < 9 { 1 } else { replica }),
    })
}

fn log_id() -> impl Strategy<Value = LogId> {
    (number(), number()).prop_map(|(term, index)| LogId::new(Term(term), Index(index)))
}

/// Half of them well-formed.
fn membership() -> impl Strategy<Value = Membership> {
    let members = || prop::collection::vec(member(), 0..5);
    let any = (members(), members(), members())
        .prop_map(|(voters, outgoing, learners)| Membership { voters, outgoing, learners });
    prop_oneof![any, sound_membership()]
}

pub fn sound_membership() -> impl Strategy<Value = Membership> {
    (prop::collection::vec(0u8..6, 5), any::<bool>()).prop_map(|(roles, joint)| {
        let with = |wanted: &[u8]| -> Vec<Member> {
            let nodes = (1u64..).zip(&roles).filter(|(_, role)| wanted.contains(role));
            nodes.map(|(node, _)| crate::cluster::n(node)).collect()
        };
        let mut membership = Membership::new(with(&[0, 1]), with(&[2, 3]));
        if joint && !membership.voters.is_empty() {
            membership.outgoing = with(&[1, 2, 4]);
        }
        membership
    })
}

fn data() -> impl Strategy<Value = EntryData<Vec<u8>>> {
    prop_oneof![
        Just(EntryData::Noop),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(EntryData::Command),
        membership().prop_map(|membership| EntryData::Membership(membership.into())),
    ]
}

pub fn entry() -> impl Strategy<Value = Entry<Vec<u8>>> {
    (log_id(), data()).prop_map(|(id, data)| Entry { id, data })
}

/// Entries that follow `prev`, or nearly.
fn entries(prev: LogId) -> impl Strategy<Value = Vec<Entry<Vec<u8>>>> {
    prop::collection::vec((data(), 0u64..2, 0u64..20), 0..6).prop_map(move |parts| {
        let mut id = prev;
        parts
            .into_iter()
            .map(|(data, term, slip)| {
                id.term.0 = id.term.0.saturating_add(term);
                id.index.0 = id.index.0.saturating_add(u64::from(slip != 0));
                Entry { id, data }
            })
            .collect()
    })
}

pub fn meta() -> impl Strategy<Value = SnapshotMeta> {
    let membership = prop_oneof![1 => membership(), 4 => sound_membership()];
    (log_id(), membership, log_id(), number(), any::<u128>()).prop_map(
        |(id, membership, membership_id, bytes, hash)| SnapshotMeta {
            id,
            membership: membership.into(),
            membership_id,
            bytes,
            hash,
        },
    )
}

pub fn body() -> impl Strategy<Value = Body<Vec<u8>>> {
    let index = || number().prop_map(Index);
    let append = (number(), log_id(), index()).prop_flat_map(|(session, prev, commit)| {
        entries(prev).prop_map(move |entries| Body::Append {
            session,
            prev,
            commit,
            entries: entries.into(),
        })
    });
    let result = prop_oneof![
        index().prop_map(AppendResult::Matched),
        (index(), log_id()).prop_map(|(prev, hint)| AppendResult::Rejected { prev, hint }),
        Just(AppendResult::Full),
    ];
    let bytes = prop::collection::vec(any::<u8>(), 0..30);
    prop_oneof![
        log_id().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        (log_id(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        append,
        (number(), result).prop_map(|(session, result)| Body::AppendReply { session, result }),
        (number(), index(), number()).prop_map(|(session, commit, round)| Body::Heartbeat {
            session,
            commit,
            round
        }),
        (number(), number(), index(), index()).prop_map(|(session, round, received, matched)| {
            Body::HeartbeatReply { session, round, received, matched }
        }),
        index().prop_map(|commit| Body::Commit { commit }),
        (number(), meta(), number(), bytes).prop_map(|(session, meta, offset, data)| {
            Body::Snapshot { session, meta: Box::new(meta), offset, data }
        }),
        (number(), log_id(), any::<u128>(), number()).prop_map(|(session, id, hash, next)| {
            Body::SnapshotReply { session, snapshot: Box::new((id, hash)), next }
        }),
        Just(Body::TimeoutNow),
        number().prop_map(|id| Body::ReadIndex { id }),
        (number(), prop::option::of(index()))
            .prop_map(|(id, index)| Body::ReadIndexReply { id, index }),
        Just(Body::Stale),
        (number(), log_id(), index(), number()).prop_map(|(session, last, commit, round)| {
            Body::Quiesce { session, last, commit, round }
        }),
        (number(), number()).prop_map(|(session, round)| Body::Quiet { session, round }),
        Just(Body::Wake),
    ]
}

pub fn message() -> impl Strategy<Value = Message<Vec<u8>>> {
    (member(), member(), number(), body()).prop_map(|(from, to, term, body)| Message {
        from,
        to,
        term: Term(term),
        body,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Messages made up at random, to replicas in the middle of their work. The tests' own checks of
    /// what is applied and written are left out: a liar can make a group forget.
    #[test]
    fn no_message_makes_a_replica_panic(
        messages in prop::collection::vec((message(), 0u64..60), 0..60),
        lead in 1u64..4,
        quiesce: bool,
    ) {
        let mut cluster = Cluster::with(&[1, 2, 3], &[1, 2, 3], |config| {
            config.quiesce_after = quiesce.then_some(ms(20));
        });
        cluster.elect(lead);
        cluster.propose(lead, "a");
        cluster.deliver_all();
        for (message, wait) in messages {
            cluster.now = cluster.now + ms(wait);
            let now = cluster.now;
            for node in &mut cluster.nodes {
                let Some(raft) = node.raft.as_mut() else { continue };
                let mut to_it = message.clone();
                to_it.to = if wait == 0 { message.to } else { node.me };
                raft.receive(now, to_it);
                raft.tick(now);
                let _ = raft.propose(now, b"x".to_vec());
                let _ = raft.read(now, 1);
                // A driver that carries out what it can, without looking.
                while let Some(output) = raft.poll(now) {
                    let core = AssertUnwindSafe(|| carry_out(raft, now, output));
                    prop_assert!(catch_unwind(core).is_ok());
                }
                let _ = raft.status();
                prop_assert!(raft.next_deadline() > kontiki_types::Instant(0));
            }
        }
    }
}

fn carry_out(
    raft: &mut crate::cluster::Core,
    now: kontiki_types::Instant,
    output: Output<Vec<u8>>,
) {
    use kontiki_types::GroupId;
    match output {
        Output::Write(batch) => {
            struct Sink;
            impl kontiki_raft::StableStorage<Vec<u8>> for Sink {
                type Error = ();
                fn write_and_sync(
                    &mut self,
                    _: &[(GroupId, kontiki_raft::WriteBatch<Vec<u8>>)],
                ) -> Result<(), ()> {
                    Ok(())
                }
            }
            let (mut batches, mut receipts) = (vec![(GroupId(1), batch)], Vec::new());
            kontiki_raft::persist(&mut Sink, &mut batches, &mut receipts).unwrap();
            for (_, receipt) in receipts {
                raft.persisted(now, receipt);
            }
        }
        Output::Apply(entries) => {
            if let Some(last) = entries.last() {
                raft.applied(now, last.id.index);
                raft.compact(last.id.index);
            }
        }
        Output::ReadEntries { to, from, .. } => raft.entries_read(now, to, from, Vec::new().into()),
        Output::BuildSnapshot => raft.snapshot_built(now, None),
        Output::ReadChunk { to, meta, offset, max } => {
            raft.chunk_read(now, to, &meta, offset, vec![0; max.min(100)]);
        }
        Output::WriteChunk { meta, offset, data } => {
            raft.chunk_written(now, &meta, offset + data.len() as u64);
        }
        Output::InstallSnapshot(meta) => raft.snapshot_installed(now, &meta, true),
        _ => {}
    }
}
