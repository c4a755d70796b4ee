//! A log that is opened by its indexes proves what it proves when all of it is read.

use proptest::prelude::*;

use super::reading::{Step, check, step};
use super::*;

const SEGMENT: u64 = 4 * PAGE;

type Applied = BTreeMap<GroupId, LogId>;

fn open_after(disk: &SimDisk, applied: &Applied, life: u64) -> Result<Opened<SimDisk>, OpenError> {
    Log::open_after(disk.clone(), directory(), config_of_life(SEGMENT, life), applied)
}

/// What was found is what was written: entries that are applied are named, the others are there.
fn compare(opened: &Opened<SimDisk>, expected: &Groups, applied: &Applied) {
    for (group, state) in expected {
        let found = opened.groups.get(group).cloned().unwrap_or_default();
        assert_eq!((found.hard_state, &found.base), (state.hard_state, &state.base));
        let fits =
            applied.get(group).filter(|id| state.entries.iter().any(|entry| entry.id == **id));
        let after = fits.map_or(0, |id| id.index.get());
        let is_named = |entry: &&Entry<Bytes>| entry.id.index.get() <= after;
        let named: Vec<_> = state.entries.iter().take_while(is_named).collect();
        assert_eq!(found.entries, state.entries[named.len()..]);
        assert_eq!(found.stored.runs.last().map(|run| run.last), named.last().map(|last| last.id));
        for entry in &state.entries {
            assert_eq!(found.term_at(entry.id.index), Some(entry.id.term));
        }
        let all = opened.log.reload(*group, found).unwrap();
        assert_eq!(all.entries, state.entries);
    }
    check(&opened.log, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_is_applied_is_named_and_the_rest_is_found(
        steps in prop::collection::vec((step(), any::<u8>()), 0..60),
    ) {
        let mut disk = SimDisk::new();
        let (mut log, mut groups) = open(&disk, config(SEGMENT)).unwrap();
        let (mut term, mut life) = (1, 1);
        for (step, place) in steps {
            let group = |second: bool| if second { TWO } else { ONE };
            let entry = |groups: &Groups, second: bool, place: u8| {
                let state = groups.get(&group(second))?;
                let at = usize::from(place) % state.entries.len().max(1);
                Some(state.entries.get(at)?.id)
            };
            let update = match step {
                Step::Append(second, count, newer) => {
                    term += u64::from(newer);
                    let last = groups.get(&group(second)).map_or(0, State::last);
                    Some((group(second), append(last + 1..=last + u64::from(count), term)))
                }
                Step::Truncate(second, place) => entry(&groups, second, place).map(|id| {
                    let update = Update { truncate_from: Some(id.index), ..Update::default() };
                    (group(second), update)
                }),
                Step::Compact(second, place) => entry(&groups, second, place).map(|id| {
                    let base = Some(base(id.index.get(), id.term.get()));
                    (group(second), Update { base, ..Update::default() })
                }),
                Step::Maintain => {
                    while log.maintain().unwrap() {}
                    None
                }
                Step::Reopen(keep) => {
                    drop(log);
                    disk = disk.crash(if keep { Crash::KeepAll } else { Crash::LoseAll });
                    life += 1;
                    let mut applied = Applied::new();
                    for second in [false, true] {
                        applied.extend(entry(&groups, second, place).map(|id| (group(second), id)));
                    }
                    let opened = open_after(&disk, &applied, life).unwrap();
                    compare(&opened, &groups, &applied);
                    log = opened.log;
                    None
                }
            };
            if let Some(update) = update {
                log.update(std::slice::from_ref(&update)).unwrap();
                groups = model(&groups, &[update]);
            }
        }
        check(&log, &groups);
    }
}

/// A log of several segments, of entries 1 to 600, and what it holds.
fn several_segments() -> (SimDisk, Groups) {
    let disk = SimDisk::new();
    let (mut log, mut groups) = open(&disk, config(SEGMENT)).unwrap();
    for index in (1..600).step_by(10) {
        let hard_state = (index == 1).then(|| vote(1, 2)).flatten();
        let updates = [(ONE, Update { hard_state, ..append(index..=index + 9, 1) })];
        log.update(&updates).unwrap();
        groups = model(&groups, &updates);
    }
    assert!(log.current.number > 3, "{} segments", log.current.number);
    (disk.crash(Crash::KeepAll), groups)
}

fn applied(index: u64) -> Applied {
    Applied::from([(ONE, LogId::new(Term(1), Index(index)))])
}

fn path_of(name: impl Fn(u64) -> String, number: u64) -> std::path::PathBuf {
    directory().join(name(number))
}

#[test]
fn a_segment_with_an_index_is_not_read() {
    let (disk, groups) = several_segments();
    let whole = open_after(&disk.fork(), &Applied::new(), 2).unwrap();
    compare(&whole, &groups, &Applied::new());
    let little = open_after(&disk, &applied(600), 2).unwrap();
    compare(&little, &groups, &applied(600));
    assert!(little.bytes_read < whole.bytes_read / 2, "{}", little.bytes_read);
    // The segment that was current when the process ended has got one, too.
    drop(little.log);
    let again = open_after(&disk.crash(Crash::KeepAll), &applied(600), 3).unwrap();
    compare(&again, &groups, &applied(600));
    assert!(again.bytes_read < 2 * SEGMENT, "{}", again.bytes_read);
}

#[test]
fn without_a_sound_index_the_segment_is_read() {
    for index in [1, 2] {
        let (disk, groups) = several_segments();
        let index = path_of(super::index::name, index);
        let whole = disk.contents(&index).unwrap();
        for at in [0, 9, 13, 20, 30, 50, 70, whole.len() - 1] {
            let disk = disk.fork();
            assert!(disk.rot(&index, at as u64, |bytes| bytes[0] ^= 4));
            compare(&open_after(&disk, &applied(600), 2).unwrap(), &groups, &applied(600));
        }
        for length in [0, 40, 64, whole.len() as u64 - 1] {
            let disk = disk.fork();
            assert!(disk.cut(&index, length));
            compare(&open_after(&disk, &applied(600), 2).unwrap(), &groups, &applied(600));
        }
        disk.remove(&index).unwrap();
        compare(&open_after(&disk, &applied(600), 2).unwrap(), &groups, &applied(600));
    }
}

#[test]
fn an_index_of_another_segment_is_not_believed() {
    let (disk, groups) = several_segments();
    let other = disk.contents(&path_of(super::index::name, 1)).unwrap();
    assert!(disk.overwrite(&path_of(super::index::name, 2), other));
    compare(&open_after(&disk, &applied(600), 2).unwrap(), &groups, &applied(600));
}

#[test]
fn damage_in_a_segment_with_an_index_is_found_where_it_matters() {
    let (disk, groups) = several_segments();
    let segment = path_of(segment::name, 2);
    let at = segment::START as u64 + 70;
    assert!(disk.rot(&segment, at, |bytes| bytes[0] ^= 1));
    // What the state lacks stands there: the damage is named as ever.
    let Err(OpenError::Corrupt(corruption)) = open_after(&disk.fork(), &applied(5), 2) else {
        panic!("the damage is not found");
    };
    assert_eq!(corruption.file, segment);
    assert!(!corruption.lost.is_empty());
    // And by a check of everything, whatever the state has.
    let found = verify_log(&disk.fork(), directory(), Incarnation(7));
    assert!(matches!(found, Err(OpenError::Corrupt(_))));
    // The state has all of it: the node starts, and whoever reads the place is told.
    let opened = open_after(&disk, &applied(600), 2).unwrap();
    let recovered = &opened.groups[&ONE];
    assert_eq!(recovered.last(), groups[&ONE].entries[599].id);
    assert_eq!(recovered.hard_state, groups[&ONE].hard_state);
    let read = |from| opened.log.read(ONE, Index(from), 1 << 20);
    assert!((1..=600).any(|from| matches!(read(from), Err(LogError::Corrupt(_)))));
}

#[test]
fn an_index_goes_with_its_segment() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    for index in 1..=200 {
        let compaction = (index > 4).then(|| base(index - 2, 1));
        log.update(&[(ONE, Update { base: compaction, ..append(index..=index, 1) })]).unwrap();
        while log.maintain().unwrap() {}
    }
    let numbers = |number: fn(&str) -> Option<u64>| -> Vec<u64> {
        disk.list(directory()).unwrap().iter().filter_map(|name| number(name)).collect()
    };
    let (mut segments, indexes) = (numbers(segment::number), numbers(super::index::number));
    segments.pop();
    assert_eq!(indexes, segments);
}
