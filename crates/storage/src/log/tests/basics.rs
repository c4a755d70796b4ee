use super::*;

#[test]
fn what_was_written_is_there_after_a_restart() {
    let disk = SimDisk::new();
    let (mut log, found) = open(&disk, config(1 << 16)).unwrap();
    assert!(found.is_empty());
    let configuration = EntryData::Membership(membership());
    let noop = Entry { id: LogId::new(Term(3), Index(4)), data: EntryData::Noop };
    let change = Entry { id: LogId::new(Term(3), Index(5)), data: configuration };
    let steps = [
        vec![
            (ONE, Update { base: Some(base(0, 0)), hard_state: vote(3, 2), ..append(1..=3, 2) }),
            (TWO, Update { hard_state: vote(9, 1), ..Update::default() }),
        ],
        vec![(ONE, Update { entries: vec![noop, change], ..Update::default() })],
        vec![(TWO, Update { base: Some(base(40, 8)), ..append(41..=45, 9) })],
        vec![(TWO, Update { truncate_from: Some(Index(43)), ..Update::default() })],
        vec![(TWO, Update { base: Some(base(41, 9)), ..append(43..=44, 10) })],
    ];
    let mut expected = Groups::new();
    for step in &steps {
        log.update(step).unwrap();
        expected = model(&expected, step);
    }
    assert!(log.group_bytes(TWO) > 0);
    drop(log);
    let disk = disk.crash(Crash::LoseAll);
    let (log, found) = open(&disk, config(1 << 16)).unwrap();
    assert_eq!(found, expected);
    assert_eq!(log.groups(), [ONE, TWO]);
}

#[test]
fn a_batch_costs_one_sync_however_many_groups() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 16)).unwrap();
    let before = (disk.syncs(), log.counters().read().syncs);
    let updates: Vec<_> = (1..=50).map(|group| (GroupId(group), append(1..=3, 1))).collect();
    log.update(&updates).unwrap();
    assert_eq!(disk.syncs(), before.0 + 1);
    assert_eq!(log.counters().read().syncs, before.1 + 1);
}

#[test]
fn a_forgotten_group_stays_forgotten() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 16)).unwrap();
    log.create_group(ONE, base(0, 0)).unwrap();
    log.create_group(TWO, base(0, 0)).unwrap();
    log.update(&[(ONE, append(1..=5, 1)), (TWO, append(1..=2, 1))]).unwrap();
    log.forget_group(ONE).unwrap();
    assert_eq!(log.group_bytes(ONE), 0);
    drop(log);
    let (_, found) = open(&disk, config(1 << 16)).unwrap();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [TWO]);
}

#[test]
fn a_frame_larger_than_a_segment_gets_a_larger_file() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 14)).unwrap();
    let long = "x".repeat(100_000);
    let update = Update { entries: vec![command(1, 1, &long)], ..Update::default() };
    log.update(&[(ONE, update)]).unwrap();
    log.update(&[(ONE, append(2..=3, 1))]).unwrap();
    drop(log);
    let (mut log, found) = open(&disk, config(1 << 14)).unwrap();
    assert_eq!(found[&ONE].entries.len(), 3);
    log.update(&[(ONE, Update { base: Some(base(3, 1)), ..Update::default() })]).unwrap();
    log.update(&[(ONE, append(4..=4, 1))]).unwrap();
    while log.maintain().unwrap() {}
    assert!(log.space().segments <= 1 << 14, "the large file is given back: {:?}", log.space());
}

#[test]
fn a_second_process_is_refused() {
    let disk = SimDisk::new();
    let (_log, _) = open(&disk, config(1 << 14)).unwrap();
    assert!(matches!(open(&disk, config(1 << 14)), Err(OpenError::Locked(_))));
}

#[test]
fn another_directorys_log_is_refused_and_both_are_named() {
    let disk = SimDisk::new();
    drop(open(&disk, config(1 << 14)).unwrap());
    let other = LogConfig { incarnation: Incarnation(8), ..config(1 << 14) };
    let Err(error) = open(&disk, other) else { panic!("a swapped disk was accepted") };
    assert!(matches!(error, OpenError::Foreign { found: 7, expected: 8, .. }), "{error}");
}

#[test]
fn an_unknown_version_is_refused_and_both_are_named() {
    let disk = SimDisk::new();
    drop(open(&disk, config(1 << 14)).unwrap());
    let path = directory().join(segment::name(1));
    disk.rot(&path, segment::HEADER as u64, |header| {
        header[8..12].copy_from_slice(&2_u32.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..88]);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    let Err(error) = open(&disk, config(1 << 14)) else { panic!("an unknown version was read") };
    assert!(matches!(error, OpenError::Version { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn an_idle_log_is_sealed_once() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 14)).unwrap();
    assert!(!log.is_unsealed());
    log.update(&[(ONE, append(1..=1, 1))]).unwrap();
    assert!(log.is_unsealed());
    assert!(log.seal().unwrap());
    assert!(!log.is_unsealed());
    assert!(!log.seal().unwrap());
}

#[test]
fn after_a_failed_sync_the_log_takes_nothing_more() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 14)).unwrap();
    disk.inject(Fault::Sync);
    assert!(matches!(log.update(&[(ONE, append(1..=1, 1))]), Err(LogError::Io { .. })));
    assert!(matches!(log.update(&[(ONE, append(1..=1, 1))]), Err(LogError::Failed)));
    assert!(matches!(log.seal(), Err(LogError::Failed)));
}

#[test]
fn a_full_disk_is_found_before_a_write_fails_and_heals() {
    let disk = SimDisk::new();
    let config = LogConfig { reserve_bytes: 4096, ..config(1 << 16) };
    let (mut log, _) = open(&disk, config.clone()).unwrap();
    assert!(!log.refresh_space());
    let used: u64 = disk.files().iter().map(|file| file.1).sum();
    disk.set_capacity(used + 100);
    let mut index = 0;
    while !log.refresh_space() {
        index += 1;
        log.update(&[(ONE, append(index..=index, 1))]).unwrap();
    }
    // What is left still takes votes.
    let vote = Update { hard_state: vote(2, 1), ..Update::default() };
    log.update(&[(ONE, vote.clone())]).unwrap();
    let refused = loop {
        if let Err(refused) = log.update(&[(ONE, vote.clone())]) {
            break refused;
        }
    };
    assert!(matches!(refused, LogError::NoSpace { .. }), "{refused}");
    // Nothing has changed, and when there is space again it goes on.
    disk.set_capacity(u64::MAX / 2);
    assert!(!log.refresh_space());
    log.update(&[(ONE, append(index + 1..=index + 1, 1))]).unwrap();
    drop(log);
    let (_, found) = open(&disk, config).unwrap();
    assert_eq!(found[&ONE].last(), index + 1);
}

#[test]
fn verify_reports_without_changing_anything() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 14)).unwrap();
    log.update(&[(ONE, append(1..=3, 1)), (TWO, append(1..=1, 1))]).unwrap();
    drop(log);
    let files = disk.files();
    let report = verify_log(&disk, directory(), Incarnation(7)).unwrap();
    assert_eq!((report.groups, report.entries, report.tail), (2, 4, 1));
    assert_eq!(disk.files(), files);
}

#[test]
fn the_same_on_a_real_disk() {
    use crate::disk::RealDisk;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let mut expected = Groups::new();
    for life in 0..3 {
        let (mut log, found) = Log::open(RealDisk, &path, config_of_life(1 << 14, life)).unwrap();
        let found: Groups = found.into_iter().map(|(group, state)| (group, state.into())).collect();
        assert_eq!(found, expected);
        let again = Log::open(RealDisk, &path, config(1 << 14));
        assert!(matches!(again, Err(OpenError::Locked(_))));
        for _ in 0..60 {
            let last = expected.get(&ONE).map_or(0, State::last);
            let compaction = (last > 20).then(|| base(last - 10, 1));
            let update = Update { base: compaction, ..append(last + 1..=last + 3, 1) };
            expected = model(&expected, &[(ONE, update.clone())]);
            log.update(&[(ONE, update)]).unwrap();
            log.maintain().unwrap();
        }
        log.refresh_space();
        assert!(log.counters.read().segments_recycled > 0);
    }
}
