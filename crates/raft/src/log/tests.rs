//! The log against a plain vector that does the same.

extern crate std;

use std::vec;
use std::vec::Vec;

use kontiki_types::{Incarnation, Member, NodeId, ReplicaId};
use proptest::prelude::*;

use super::*;

/// Everything from index 1, with the number of entries that are compacted.
#[derive(Default)]
struct Model {
    entries: Vec<Entry<Vec<u8>>>,
    base: usize,
    /// The last entry that is not in memory.
    evicted: usize,
    /// The log was cut where it does not know its bytes exactly.
    about: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// Sizes of the entries; the last flag raises the term.
    Append(Vec<u8>, bool),
    Truncate(u8),
    Compact(u8),
    Install(u8),
    /// How far, and how many bytes stay.
    Evict(u8, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (prop::collection::vec(any::<u8>(), 1..6), any::<bool>())
            .prop_map(|(sizes, newer)| Step::Append(sizes, newer)),
        2 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => any::<u8>().prop_map(Step::Install),
        2 => (any::<u8>(), 0..2_000u16).prop_map(|(upto, keep)| Step::Evict(upto, keep)),
    ]
}

fn entry(index: usize, term: u64, size: u8) -> Entry<Vec<u8>> {
    let data = match size {
        0..20 => {
            let node = u64::from(size) + 1;
            let member = Member::new(NodeId(node), Incarnation(node), ReplicaId(1));
            EntryData::Membership(Arc::new(Membership::new(vec![member], vec![])))
        }
        20..40 => EntryData::Noop,
        _ => EntryData::Command(vec![size; usize::from(size)]),
    };
    Entry { id: LogId::new(Term(term), Index(index as u64)), data }
}

fn check(log: &Log<Vec<u8>>, model: &Model) {
    let (base, last) = (model.base, model.entries.len());
    assert_eq!(log.first_index(), Index(base as u64 + 1));
    assert_eq!(log.last().index, Index(last as u64));
    let held = &model.entries[base..];
    let bytes = held.iter().map(|entry| entry.cost() as u64).sum::<u64>();
    assert!(log.bytes() == bytes || model.about, "{} bytes, not {bytes}", log.bytes());
    assert_eq!(log.evicted(), Index(model.evicted.max(base) as u64));
    let cached = &model.entries[model.evicted.max(base)..];
    let cached = cached.iter().map(|entry| entry.cost() as u64).sum::<u64>();
    assert!(log.cached_bytes() == cached || model.about);
    for index in 0..last + 3 {
        let expected = (index >= base && index <= last)
            .then(|| index.checked_sub(1).map_or(Term(0), |at| model.entries[at].id.term));
        assert_eq!(log.term_at(Index(index as u64)), expected, "term at {index}");
        if index >= base && index <= last {
            let cost: u64 =
                model.entries[base..index].iter().map(|entry| entry.cost() as u64).sum();
            let position = log.cost_at(Index(index as u64)) - log.cost_at(Index(base as u64));
            assert!(position == cost || index < model.evicted && position < cost || model.about);
            let membership =
                model.entries[..index].iter().rev().find_map(|entry| match &entry.data {
                    EntryData::Membership(membership) => Some((entry.id, membership.clone())),
                    _ => None,
                });
            let (id, found) = log.membership_at(Index(index as u64));
            assert_eq!((id, found.clone()), membership.unwrap_or_default());
        }
    }
    for bytes in [0, 1, 50, 300, 5000] {
        let at = log.index_before(bytes);
        assert!(at >= Index(base as u64) && at <= Index(last as u64));
        let behind: u64 = model.entries[at.0 as usize..].iter().map(|e| e.cost() as u64).sum();
        assert!(at == Index(base as u64) || behind >= bytes || model.about, "{behind} < {bytes}");
    }
    assert_eq!(log.index_before(u64::MAX), Index(base as u64));
    // Any range comes out whole, in pieces or as one.
    for from in base + 1..=model.evicted.min(last) {
        assert!(log.slice(Index(from as u64), 1).0.is_empty());
    }
    for from in base.max(model.evicted) + 1..=last {
        let pieces: Vec<_> = log
            .ranges(Index(from as u64), Index(last as u64))
            .flat_map(|range| range.to_vec())
            .collect();
        assert_eq!(pieces, model.entries[from - 1..]);
        if let Some(one) = log.one_range(Index(from as u64), Index(last as u64)) {
            assert_eq!(one.as_slice(), pieces);
        }
        for bytes_max in [1, 300, 100_000] {
            let (slice, bytes) = log.slice(Index(from as u64), bytes_max);
            assert!(!slice.is_empty());
            assert_eq!(slice.as_slice(), &model.entries[from - 1..from - 1 + slice.len()]);
            assert_eq!(bytes, slice.iter().map(Entry::cost).sum::<usize>());
            assert!(bytes <= bytes_max || slice.len() == 1);
            if bytes_max == 100_000 {
                assert_eq!(slice.len(), last + 1 - from);
            }
        }
    }
    for term in 0..8 {
        for index in base..last + 2 {
            let expected = model.entries[base..last.min(index)]
                .iter()
                .rev()
                .find(|entry| entry.id.term <= Term(term))
                .map_or(log.base().id, |entry| entry.id);
            assert_eq!(log.last_not_above(Index(index as u64), Term(term)), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_log_does_what_a_vector_does(steps in prop::collection::vec(step(), 0..25)) {
        let mut log = Log::<Vec<u8>>::new(Base::default());
        let mut model = Model::default();
        let mut term = 1;
        for step in steps {
            let (base, last) = (model.base, model.entries.len());
            match step {
                Step::Append(sizes, newer) => {
                    term += u64::from(newer);
                    let entries: Vec<_> = (last + 1..)
                        .zip(sizes)
                        .map(|(index, size)| entry(index, term, size))
                        .collect();
                    model.entries.extend(entries.iter().cloned());
                    log.append(entries.into());
                }
                Step::Truncate(place) if last > base => {
                    let from = base + 1 + usize::from(place) % (last - base);
                    model.entries.truncate(from - 1);
                    model.about |= from <= model.evicted;
                    model.evicted = model.evicted.min(from - 1);
                    log.truncate(Index(from as u64));
                }
                Step::Compact(place) if last > base => {
                    model.base = base + 1 + usize::from(place) % (last - base);
                    model.about |= model.base < model.evicted;
                    log.compact(Index(model.base as u64));
                }
                Step::Install(place) if last > base => {
                    let index = base + 1 + usize::from(place) % (last - base);
                    let id = model.entries[index - 1].id;
                    let (membership_id, membership) = log.membership_at(id.index);
                    let membership = membership.clone();
                    // Every other time the snapshot is of another history.
                    let same = place % 2 == 0;
                    let id = if same { id } else { LogId::new(id.term.next(), id.index) };
                    let kept = log.install(Base { id, membership, membership_id });
                    prop_assert_eq!(kept, same);
                    model.base = index;
                    model.about = same && (model.about || index < model.evicted);
                    model.evicted = if same { model.evicted } else { index };
                    if !same {
                        term = term.max(id.term.0);
                        model.entries.truncate(index);
                        model.entries[index - 1].id = id;
                        if let EntryData::Membership(_) = model.entries[index - 1].data {
                            // The snapshot names the entry that its configuration came from.
                            return Ok(());
                        }
                    }
                }
                Step::Evict(place, keep) if last > base => {
                    let upto = base + 1 + usize::from(place) % (last - base);
                    log.evict(u64::from(keep), Index(upto as u64));
                    let evicted = log.evicted().0 as usize;
                    prop_assert!(evicted <= upto.max(model.evicted));
                    model.evicted = evicted;
                }
                _ => {}
            }
            check(&log, &model);
        }
    }
}
