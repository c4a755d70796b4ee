//! Power cuts: what was acknowledged is there, what was not is there whole or not at all.

use super::*;
use crate::disk::Random;

const SEGMENT: u64 = 4 * PAGE;

#[test]
fn two_batches_in_flight_and_only_the_second_whole_is_a_legitimate_tail() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 16)).unwrap();
    log.update(&[(ONE, append(1..=2, 1))]).unwrap();
    let torn = log.current.end;
    log.write(&[(ONE, append(3..=4, 1))]).unwrap();
    log.write(&[(ONE, append(5..=6, 1))]).unwrap();
    let path = log.current.path.clone();
    let disk = disk.crash(Crash::KeepAll);
    disk.rot(&path, torn + 20, |bytes| bytes[..30].fill(0));
    let (_, found) = open(&disk, config_of_life(1 << 16, 2)).unwrap();
    assert_eq!(found[&ONE].last(), 2);
}

#[test]
fn a_frame_from_the_page_cache_is_durable_before_it_is_trusted() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 16)).unwrap();
    log.update(&[(ONE, append(1..=2, 1))]).unwrap();
    log.write(&[(ONE, append(3..=4, 1))]).unwrap();
    // Killed before the sync: the page cache still has the frame.
    let disk = disk.crash(Crash::KeepAll);
    let (_, found) = open(&disk, config_of_life(1 << 16, 2)).unwrap();
    assert_eq!(found[&ONE].last(), 4);
    // The restarted node acknowledges entry 4; then the power fails.
    let disk = disk.crash(Crash::LoseAll);
    let (_, found) = open(&disk, config_of_life(1 << 16, 3)).unwrap();
    assert_eq!(found[&ONE].last(), 4);
}

#[test]
fn a_dropped_tail_does_not_come_back() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 16)).unwrap();
    log.update(&[(ONE, append(1..=2, 1))]).unwrap();
    let torn = log.current.end;
    log.write(&[(ONE, append(3..=4, 1))]).unwrap();
    log.write(&[(ONE, append(5..=6, 1))]).unwrap();
    let path = log.current.path.clone();
    let disk = disk.crash(Crash::KeepAll);
    disk.rot(&path, torn + 20, |bytes| bytes[..30].fill(0));
    let (mut log, found) = open(&disk, config_of_life(1 << 16, 2)).unwrap();
    assert_eq!(found[&ONE].last(), 2);
    log.update(&[(ONE, append(3..=3, 2))]).unwrap();
    let disk = disk.crash(Crash::LoseAll);
    let (_, found) = open(&disk, config_of_life(1 << 16, 3)).unwrap();
    assert_eq!(found[&ONE].entries.last(), Some(&commands(3..=3, 2)[0]));
}

#[test]
fn old_frames_of_a_recycled_segment_are_not_believed() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(SEGMENT)).unwrap();
    let mut index = 0;
    while log.counters.read().segments_recycled < 2 {
        index += 1;
        let compaction = (index > 4).then(|| base(index - 2, 1));
        log.update(&[(ONE, Update { base: compaction, ..append(index..=index, 1) })]).unwrap();
        log.maintain().unwrap();
    }
    // The current segment is a used one; of a batch after this nothing but old bytes arrives.
    log.update(&[(ONE, append(index + 1..=index + 1, 1))]).unwrap();
    log.write(&[(ONE, append(index + 2..=index + 2, 1))]).unwrap();
    let disk = disk.crash(Crash::LoseAll);
    let (_, found) = open(&disk, config_of_life(SEGMENT, 2)).unwrap();
    assert_eq!(found[&ONE].last(), index + 1);
}

#[test]
fn with_the_sync_taken_out_the_loss_is_seen() {
    let disk = SimDisk::new();
    let (mut log, _) = open(&disk, config(1 << 16)).unwrap();
    log.update(&[(ONE, append(1..=2, 1))]).unwrap();
    disk.set_sync_lies(true);
    log.update(&[(ONE, append(3..=4, 1))]).unwrap();
    let disk = disk.crash(Crash::LoseAll);
    let (_, found) = open(&disk, config_of_life(1 << 16, 2)).unwrap();
    assert_eq!(found[&ONE].last(), 2, "the simulated disk does not lose what was not synced");
}

/// A random life of a log, ended by a random crash, again and again.
struct Lives {
    random: Random,
    /// The state after the last acknowledged batch, then after each batch since.
    possible: Vec<Groups>,
}

impl Lives {
    fn now(&self) -> &Groups {
        self.possible.last().unwrap()
    }

    fn update(&mut self) -> Vec<(GroupId, Update)> {
        let mut updates = Vec::new();
        for group in [ONE, TWO, SEVEN] {
            let quiet = group == SEVEN && self.random.below(20) > 0;
            if quiet || self.random.below(3) == 0 {
                continue;
            }
            let state = self.now().get(&group).cloned().unwrap_or_default();
            let mut update = Update::default();
            let (last, term) = (state.last(), state.entries.last().map_or(1, |e| e.id.term.get()));
            let start = state.base.as_ref().map_or(0, |base| base.id.index.get());
            if self.random.below(4) == 0 {
                update.hard_state = vote(state.hard_state.term.get() + 1, self.random.below(3));
            }
            match self.random.below(12) {
                0 => {
                    update.base = Some(base(last + 5, term + 1));
                    update.entries = commands(last + 6..=last + 7, term + 1);
                }
                1 | 2 if last > start => {
                    let at = start + 1 + self.random.below(last - start);
                    let id = state.entries[(at - start - 1) as usize].id;
                    update.base = Some(base(id.index.get(), id.term.get()));
                    update.entries = commands(last + 1..=last + 1, term);
                }
                3 if last > start => {
                    let from = start + 1 + self.random.below(last - start);
                    update.truncate_from = Some(Index(from));
                    update.entries = commands(from..=from + self.random.below(3), term + 1);
                }
                4 if group == TWO => update.forget = true,
                _ => update.entries = commands(last + 1..=last + 1 + self.random.below(6), term),
            }
            updates.push((group, update));
        }
        updates
    }

    /// One life. Returns the disk after its end.
    fn live(&mut self, disk: SimDisk, life: u64) -> SimDisk {
        if self.random.below(2) == 0 {
            let long = self.random.below(3) == 0;
            disk.cut_power_after(self.random.below(if long { 900 } else { 100 }));
        }
        let opened = open(&disk, config_of_life(SEGMENT, life));
        if let Err(OpenError::Corrupt(corruption)) = &opened {
            panic!("a legitimate state is refused: {corruption}");
        }
        if let Ok((mut log, found)) = opened {
            let among = self.possible.iter().position(|possible| *possible == found);
            let Some(among) = among else {
                panic!("found {found:#?}\nbut acknowledged was {:#?}", self.possible[0]);
            };
            // All that open returns is durable.
            self.possible = vec![self.possible.swap_remove(among)];
            self.work(&mut log);
        }
        let crash = match self.random.below(4) {
            0 => Crash::LoseAll,
            1 => Crash::KeepAll,
            _ => Crash::Seed(self.random.next()),
        };
        disk.crash(crash)
    }

    fn work(&mut self, log: &mut Log<SimDisk>) {
        let steps = if self.random.below(4) == 0 { 200 } else { 40 };
        for _ in 0..self.random.below(steps) {
            let updates = self.update();
            let next = model(self.now(), &updates);
            self.possible.push(next);
            let done = match self.random.below(10) {
                0 => log.write(&updates),
                _ => log.update(&updates).map(|()| {
                    self.possible.drain(..self.possible.len() - 1);
                }),
            };
            let done = done.and_then(|()| match self.random.below(4) {
                0 => log.seal().map(|_| ()),
                1 | 2 => log.maintain().map(|_| ()),
                _ => Ok(()),
            });
            if done.is_err() {
                return;
            }
        }
    }
}

#[test]
fn crashes_at_any_point_with_any_subset_of_unsynced_bytes() {
    for seed in 0..120 {
        let mut lives = Lives { random: Random::new(seed), possible: vec![Groups::new()] };
        let mut disk = SimDisk::new();
        for life in 1..20 {
            disk = lives.live(disk, life);
        }
    }
}

/// Overwrites with compaction close behind and a quiet group beside, so that segments are freed,
/// copied forward and used again. Returns what was acknowledged, and that with the last batch.
fn churn_until_the_power_fails(disk: &SimDisk) -> (Groups, Groups) {
    let mut acknowledged = Groups::new();
    let Ok((mut log, _)) = open(disk, config(SEGMENT)) else {
        return (acknowledged.clone(), acknowledged);
    };
    let long = "x".repeat(700);
    for index in 1..=90_u64 {
        let compaction = (index > 8).then(|| base(index - 6, 1));
        let entries = vec![command(index, 1, &long)];
        let mut updates = vec![(ONE, Update { base: compaction, entries, ..Update::default() })];
        if index % 40 == 39 {
            let (vote, at) = (vote(index, 2), 1 + index / 40);
            updates.push((SEVEN, Update { hard_state: vote, ..append(at..=at, index) }));
        }
        let next = model(&acknowledged, &updates);
        if log.update(&updates).is_err() {
            return (acknowledged, next);
        }
        acknowledged = next;
        if log.maintain().is_err() {
            break;
        }
    }
    assert!(log.counters.read().segments_recycled > 2 || disk.sync_dir(directory()).is_err());
    (acknowledged.clone(), acknowledged)
}

#[test]
fn a_power_cut_at_every_single_operation() {
    let mut operations = 0;
    loop {
        let mut whole = false;
        for crash in [Crash::LoseAll, Crash::KeepAll, Crash::Seed(operations)] {
            let disk = SimDisk::new();
            disk.cut_power_after(operations);
            let (acknowledged, next) = churn_until_the_power_fails(&disk);
            let disk = disk.crash(crash);
            let (_, found) = match open(&disk, config_of_life(SEGMENT, 2)) {
                Ok(opened) => opened,
                Err(error) => panic!("after {operations} operations, {crash:?}: {error}"),
            };
            assert!(
                found == acknowledged || found == next,
                "after {operations} operations, {crash:?}: {found:#?} for {acknowledged:#?}"
            );
            whole = acknowledged.get(&ONE).map_or(0, State::last) == 90;
        }
        if whole {
            break;
        }
        operations += 1;
    }
    assert!(operations > 250, "the whole run takes only {operations} operations");
}
