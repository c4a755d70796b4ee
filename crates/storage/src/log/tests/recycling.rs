//! Segments are given back, and nothing that is needed goes with them (PROTOCOL 4b).

use std::time::Duration;

use super::*;

const SEGMENT: u64 = 6 * PAGE;

/// Overwrites in group 1, compacted close behind, until `segments` have been freed.
fn churn(log: &mut Log<SimDisk>, index: &mut u64, segments: u64) {
    let until = log.counters.read().segments_freed + segments;
    while log.counters.read().segments_freed < until {
        *index += 1;
        let compaction = (*index > 8).then(|| base(*index - 6, 1));
        let update = Update { base: compaction, ..append(*index..=*index, 1) };
        log.update(&[(ONE, update)]).unwrap();
        while log.maintain().unwrap() {}
    }
}

#[test]
fn a_quiet_groups_vote_and_entries_outlive_their_segment_and_pin_none() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    let quiet = Update { hard_state: vote(5, 2), base: Some(base(10, 4)), ..append(11..=14, 5) };
    log.update(&[(SEVEN, quiet.clone())]).unwrap();
    let expected = model(&Groups::new(), &[(SEVEN, quiet)]);
    let mut index = 0;
    churn(&mut log, &mut index, 30);
    assert!(log.space().segments <= 12 * SEGMENT, "{:?}", log.space());
    assert!(log.counters.read().bytes_rewritten > 0);
    drop(log);
    let disk = disk.crash(Crash::LoseAll);
    let (_, found) = open(&disk, config_of_life(SEGMENT, 2)).unwrap();
    assert_eq!(found[&SEVEN], expected[&SEVEN]);
    assert_eq!(found[&ONE].last(), index);
}

#[test]
fn a_rewritten_record_never_overrides_a_later_one() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    log.update(&[(SEVEN, Update { hard_state: vote(5, 2), ..append(1..=6, 5) })]).unwrap();
    let mut index = 0;
    churn(&mut log, &mut index, 8);
    // The group speaks again, over what was copied forward.
    let later =
        Update { hard_state: vote(6, 3), truncate_from: Some(Index(4)), ..append(4..=4, 6) };
    log.update(&[(SEVEN, later)]).unwrap();
    churn(&mut log, &mut index, 8);
    drop(log);
    let (_, found) = open(&disk, config_of_life(SEGMENT, 2)).unwrap();
    assert_eq!(Some(found[&SEVEN].hard_state), vote(6, 3));
    let expected: Vec<_> = commands(1..=3, 5).into_iter().chain(commands(4..=4, 6)).collect();
    assert_eq!(found[&SEVEN].entries, expected);
}

#[test]
fn one_large_group_is_not_copied_about() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    let long = "x".repeat(200);
    for index in 1..=2000 {
        let entries = vec![command(index, 1, &long)];
        log.update(&[(ONE, Update { entries, ..Update::default() })]).unwrap();
        while log.maintain().unwrap() {}
    }
    assert_eq!(log.counters.read().bytes_rewritten, 0);
    assert!(log.group_bytes(ONE) > 2000 * 200);
}

#[test]
fn spares_are_taken_over_and_used() {
    let disk = SimDisk::new();
    let (log, _) = open(&disk, config(SEGMENT)).unwrap();
    let spares = log.spares();
    assert!(spares.is_wanting());
    spares.fill().unwrap();
    assert_eq!(spares.ready(), 1);
    drop(log);
    let (log, _) = open(&disk, config_of_life(SEGMENT, 2)).unwrap();
    assert_eq!(log.counters.read().segments_recycled, 1);
    assert_eq!(log.spares().ready(), 0);
}

/// Allocating takes as long as writing a segment: the thread that writes must not do it while the
/// reserve is there without a spare.
#[test]
fn the_writer_allocates_no_spare_while_its_segment_has_room() {
    let disk = SimDisk::new();
    let (mut log, _) =
        open(&disk, LogConfig { reserve_bytes: SEGMENT, ..config(SEGMENT) }).unwrap();
    assert!(!log.refresh_space());
    assert_eq!(log.spares().ready(), 0);
    let mut index = 0;
    while log.space().available > SEGMENT / 2 {
        index += 1;
        log.update(&[(ONE, append(index..=index, 1))]).unwrap();
    }
    assert!(!log.refresh_space());
    assert_eq!(log.spares().ready(), 1);
}

#[test]
fn whoever_allocates_spares_is_woken_when_one_is_taken() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    let spares = log.spares();
    spares.fill().unwrap();
    let (sender, woken) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        spares.wait_until_wanting(Duration::from_secs(3600));
        sender.send(spares.ready()).unwrap();
    });
    let mut index = 0;
    while log.spares().ready() > 0 {
        assert!(woken.try_recv().is_err());
        index += 1;
        log.update(&[(ONE, append(index..=index, 1))]).unwrap();
    }
    assert_eq!(woken.recv_timeout(Duration::from_secs(60)), Ok(0));
}

#[test]
fn damage_found_while_copying_forward_stops_the_log() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    log.update(&[(SEVEN, Update { hard_state: vote(5, 2), ..append(1..=6, 5) })]).unwrap();
    let path = directory().join(segment::name(1));
    disk.rot(&path, segment::START as u64 + 100, |bytes| bytes[0] ^= 1);
    let mut index = 0;
    let error = loop {
        index += 1;
        let compaction = (index > 8).then(|| base(index - 6, 1));
        let update = Update { base: compaction, ..append(index..=index, 1) };
        log.update(&[(ONE, update)]).unwrap();
        if let Err(error) = log.maintain() {
            break error;
        }
    };
    assert!(matches!(&error, LogError::Corrupt(corruption) if corruption.file == path), "{error}");
}
