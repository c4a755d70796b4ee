//! Entries read back are those that were written, wherever they stand by now.

use proptest::prelude::*;

use super::*;

const SEGMENT: u64 = 4 * PAGE;

/// All entries of all groups, from every index on, in pieces of several sizes.
pub(super) fn check(log: &Log<SimDisk>, expected: &Groups) {
    for (&group, state) in expected {
        for (at, entry) in state.entries.iter().enumerate() {
            for bytes_max in [1, 150, 1 << 20] {
                let read = log.read(group, entry.id.index, bytes_max).unwrap();
                assert!(!read.is_empty());
                assert_eq!(read, state.entries[at..at + read.len()]);
                if bytes_max == 1 << 20 {
                    assert_eq!(read.len(), state.entries.len() - at);
                }
            }
        }
        assert!(log.read(group, Index(state.last() + 1), 100).unwrap().is_empty());
    }
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Entries of one of two groups, and whether of a newer term.
    Append(bool, u8, bool),
    Truncate(bool, u8),
    Compact(bool, u8),
    Maintain,
    /// The power fails; what is not synced may be there.
    Reopen(bool),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 1..12u8, any::<bool>()).prop_map(|(g, n, t)| Step::Append(g, n, t)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(g, place)| Step::Truncate(g, place)),
        2 => (any::<bool>(), any::<u8>()).prop_map(|(g, place)| Step::Compact(g, place)),
        3 => Just(Step::Maintain),
        1 => any::<bool>().prop_map(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_read_is_what_was_written(steps in prop::collection::vec(step(), 0..60)) {
        let mut disk = SimDisk::new();
        let (mut log, mut groups) = open(&disk, config(SEGMENT)).unwrap();
        let (mut term, mut life) = (1, 1);
        for step in steps {
            let group = |second: bool| if second { TWO } else { ONE };
            let update = match step {
                Step::Append(second, count, newer) => {
                    term += u64::from(newer);
                    let last = groups.get(&group(second)).map_or(0, State::last);
                    Some((group(second), append(last + 1..=last + u64::from(count), term)))
                }
                Step::Truncate(second, place) => groups.get(&group(second)).and_then(|state| {
                    let at = usize::from(place) % state.entries.len().max(1);
                    let from = state.entries.get(at)?.id.index;
                    let update = Update { truncate_from: Some(from), ..Update::default() };
                    Some((group(second), update))
                }),
                Step::Compact(second, place) => groups.get(&group(second)).and_then(|state| {
                    let at = usize::from(place) % state.entries.len().max(1);
                    let id = state.entries.get(at)?.id;
                    let base = Some(base(id.index.get(), id.term.get()));
                    Some((group(second), Update { base, ..Update::default() }))
                }),
                Step::Maintain => {
                    while log.maintain().unwrap() {}
                    None
                }
                Step::Reopen(keep) => {
                    drop(log);
                    life += 1;
                    disk = disk.crash(if keep { Crash::KeepAll } else { Crash::LoseAll });
                    let found;
                    (log, found) = open(&disk, config_of_life(SEGMENT, life)).unwrap();
                    prop_assert_eq!(&found, &groups);
                    None
                }
            };
            if let Some(update) = update {
                let updates = [update];
                log.update(&updates).unwrap();
                groups = model(&groups, &updates);
            }
            check(&log, &groups);
        }
    }
}

#[test]
fn frames_that_were_written_again_by_a_recovery_are_found() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    log.update(&[(ONE, append(1..=2, 1))]).unwrap();
    log.write(&[(ONE, append(3..=40, 1)), (TWO, append(1..=3, 1))]).unwrap();
    log.write(&[(ONE, append(41..=42, 1))]).unwrap();
    let disk = disk.crash(Crash::KeepAll);
    let (log, found) = open(&disk, config_of_life(SEGMENT, 2)).unwrap();
    assert_eq!((found[&ONE].last(), found[&TWO].last()), (42, 3));
    check(&log, &found);
}

#[test]
fn what_was_copied_forward_is_found() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    log.update(&[(SEVEN, append(1..=20, 3))]).unwrap();
    let mut index = 0;
    while log.counters.read().segments_freed < 5 {
        index += 1;
        let compaction = (index > 8).then(|| base(index - 6, 1));
        log.update(&[(ONE, Update { base: compaction, ..append(index..=index, 1) })]).unwrap();
        while log.maintain().unwrap() {}
    }
    assert!(log.counters.read().bytes_rewritten > 0);
    assert_eq!(log.read(SEVEN, Index(1), 1 << 20).unwrap(), commands(1..=20, 3));
}

/// A frame larger than what is read at once.
#[test]
fn a_large_entry_is_read_whole() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    let entries = vec![command(1, 1, "small"), command(2, 1, &"x".repeat(700 << 10))];
    log.update(&[(ONE, Update { entries: entries.clone(), ..Update::default() })]).unwrap();
    log.update(&[(ONE, append(3..=3, 1))]).unwrap();
    assert_eq!(log.read(ONE, Index(2), 1).unwrap(), entries[1..]);
    assert_eq!(log.read(ONE, Index(1), 1 << 30).unwrap().len(), 3);
}

#[test]
fn damage_is_named_and_writing_goes_on() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    log.update(&[(ONE, append(1..=6, 1))]).unwrap();
    let (path, second) = (log.current.path.clone(), log.current.end);
    log.update(&[(ONE, append(7..=9, 1))]).unwrap();
    disk.rot(&path, second + 60, |bytes| bytes[0] ^= 1);
    let error = log.read(ONE, Index(3), 1 << 20).unwrap_err();
    let LogError::Corrupt(corruption) = &error else { panic!("{error}") };
    assert_eq!((&corruption.file, corruption.offset), (&path, second));
    assert_eq!(log.read(ONE, Index(3), 1).unwrap(), commands(3..=3, 1));
    log.update(&[(ONE, append(10..=11, 1))]).unwrap();
    assert_eq!(log.read(ONE, Index(10), 1 << 20).unwrap(), commands(10..=11, 1));
}
