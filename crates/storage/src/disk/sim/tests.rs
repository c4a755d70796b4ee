use std::path::Path;

use super::*;

const NAME: &str = "/d/f";

fn disk_with_synced(bytes: &[u8]) -> (SimDisk, SimFile) {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/d")).unwrap();
    let file = disk.create(Path::new(NAME)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    (disk, file)
}

fn content(disk: &SimDisk) -> Vec<u8> {
    crate::disk::read_file(&disk.open(Path::new(NAME)).unwrap(), 1 << 20).unwrap()
}

#[test]
fn a_crash_loses_what_was_not_synced_and_nothing_else() {
    let (disk, file) = disk_with_synced(b"old");
    file.write_at(b"newer", 0).unwrap();
    let after = disk.crash(Crash::LoseAll);
    assert_eq!(content(&after), b"old");
    assert!(file.write_at(b"x", 0).is_err(), "a handle of the crashed process still writes");
}

#[test]
fn an_orderly_end_keeps_everything() {
    let (disk, file) = disk_with_synced(b"old");
    file.write_at(b"newer", 0).unwrap();
    assert_eq!(content(&disk.crash(Crash::KeepAll)), b"newer");
}

#[test]
fn a_kill_keeps_what_a_power_loss_then_takes() {
    let (disk, file) = disk_with_synced(b"old");
    file.write_at(b"newer", 0).unwrap();
    let disk = disk.crash(Crash::Kill(1));
    assert!(file.write_at(b"x", 0).is_err(), "a handle of the killed process still writes");
    assert_eq!(content(&disk), b"newer");
    assert_eq!(content(&disk.crash(Crash::LoseAll)), b"old");
}

#[test]
fn a_page_whose_sync_failed_may_be_read_in_its_old_state_after_a_kill() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..32 {
        let (disk, file) = disk_with_synced(b"old");
        file.write_at(b"new", 0).unwrap();
        disk.inject(Fault::Sync);
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        let disk = disk.crash(Crash::Kill(seed));
        seen.insert(content(&disk));
        assert_eq!(content(&disk.crash(Crash::LoseAll)), b"old");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [b"new".to_vec(), b"old".to_vec()]);
}

#[test]
fn a_name_counts_only_after_the_directory_was_synced() {
    let (disk, _file) = disk_with_synced(b"old");
    disk.rename(Path::new(NAME), Path::new("/d/g")).unwrap();
    let after = disk.crash(Crash::LoseAll);
    assert!(after.exists(Path::new(NAME)).unwrap());
    after.rename(Path::new(NAME), Path::new("/d/g")).unwrap();
    after.sync_dir(Path::new("/d")).unwrap();
    let after = after.crash(Crash::LoseAll);
    assert!(after.exists(Path::new("/d/g")).unwrap());
    assert!(!after.exists(Path::new(NAME)).unwrap());
}

#[test]
fn a_seeded_crash_repeats_and_tears() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let run = || {
            let (disk, file) = disk_with_synced(&[1; 10_000]);
            file.write_at(&[2; 12_000], 0).unwrap();
            content(&disk.crash(Crash::Seed(seed)))
        };
        let bytes = run();
        assert_eq!(bytes, run());
        assert!(bytes.len() == 10_000 || bytes.len() == 12_000);
        outcomes.insert(bytes);
    }
    assert!(outcomes.len() > 32);
}

#[test]
fn a_failed_sync_is_not_mended_by_the_next() {
    let (disk, file) = disk_with_synced(b"old");
    disk.inject(Fault::Sync);
    file.write_at(b"new", 0).unwrap();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(content(&disk.crash(Crash::LoseAll)), b"old");
}

#[test]
fn a_lying_sync_keeps_nothing() {
    let (disk, file) = disk_with_synced(b"old");
    disk.set_sync_lies(true);
    file.write_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(content(&disk.crash(Crash::LoseAll)), b"old");
}

#[test]
fn a_full_disk_refuses_growth_only() {
    let (disk, file) = disk_with_synced(b"old");
    disk.set_capacity(4);
    assert_eq!(disk.free_space(Path::new("/d")).unwrap(), 1);
    file.write_at(b"new", 0).unwrap();
    let refused = file.write_at(b"longer", 0).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_stall_is_reported_once() {
    let (disk, file) = disk_with_synced(b"old");
    disk.inject(Fault::Stall(Duration::from_secs(3)));
    file.sync_data().unwrap();
    assert_eq!(disk.take_stall(), Duration::from_secs(3));
    assert_eq!(disk.take_stall(), Duration::ZERO);
}

#[test]
fn a_lock_is_held_once_and_freed_by_a_crash() {
    let disk = SimDisk::new();
    let lock = disk.lock(Path::new("/l")).unwrap();
    assert!(lock.is_some());
    assert!(disk.lock(Path::new("/l")).unwrap().is_none());
    let after = disk.crash(Crash::LoseAll);
    assert!(after.lock(Path::new("/l")).unwrap().is_some());
}
