use super::*;
use crate::disk::{Crash, SimDisk};

const PATH: &str = "/data/n1";

fn path() -> &'static Path {
    Path::new(PATH)
}

fn format() -> Format {
    Format { cluster: 0xc1, node: NodeId(1), incarnation: Incarnation(0xabc) }
}

fn formatted() -> SimDisk {
    let disk = SimDisk::new();
    Directory::format(&disk, path(), format()).unwrap();
    disk
}

fn open(disk: &SimDisk) -> Result<Directory<SimDisk>, DirectoryError> {
    Directory::open(disk.clone(), path(), Expected::default())
}

#[test]
fn a_directory_must_be_formatted_once() {
    let disk = SimDisk::new();
    assert!(matches!(open(&disk), Err(DirectoryError::NotFormatted(_))));
    Directory::format(&disk, path(), format()).unwrap();
    let again = Directory::format(&disk, path(), format());
    assert!(matches!(again, Err(DirectoryError::Formatted(_))));
    assert_eq!(Directory::identify(&disk, path()).unwrap(), format());
    assert_eq!(open(&disk).unwrap().identity(), &format());
}

#[test]
fn every_boot_counts_also_through_a_power_cut() {
    let mut disk = formatted();
    for boot in 1..=5 {
        assert_eq!(open(&disk).unwrap().boots(), boot);
        disk = disk.crash(Crash::LoseAll);
    }
}

#[test]
fn a_power_cut_at_any_point_leaves_the_old_file_or_the_new() {
    for operations in 0..12 {
        let disk = formatted();
        drop(open(&disk));
        disk.cut_power_after(operations);
        let opened = open(&disk);
        let opened = opened.is_ok();
        let disk = disk.crash(Crash::Seed(operations));
        let boots = open(&disk).unwrap().boots();
        assert!(boots == 3 || (boots == 2 && !opened), "{boots} boots");
    }
}

#[test]
fn somebody_elses_directory_is_refused_and_both_are_named() {
    let disk = formatted();
    let node = Expected { node: Some(NodeId(2)), cluster: None };
    let error = Directory::open(disk.clone(), path(), node).err().unwrap();
    let said = error.to_string();
    assert_eq!(said.lines().next(), Some("/data/n1 belongs to node 1, not to node 2"));
    assert!(said.contains("\nhint: "), "{said}");
    let cluster = Expected { cluster: Some(0xc2), node: Some(NodeId(1)) };
    let error = Directory::open(disk, path(), cluster).err().unwrap();
    let text = "/data/n1 belongs to cluster 00000000000000c1, not to cluster 00000000000000c2";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_second_process_is_refused() {
    let disk = formatted();
    let _held = open(&disk).unwrap();
    assert!(matches!(open(&disk), Err(DirectoryError::Locked(_))));
}

#[test]
fn an_unknown_version_is_refused_and_both_are_named() {
    let disk = formatted();
    smallfile::write(&disk, path(), NAME, &["kontiki-directory 2".into()]).unwrap();
    let error = open(&disk).err().unwrap();
    let text = "/data/n1 has directory format version 2; this program reads version 1";
    assert_eq!(error.to_string(), text);
}

#[test]
fn any_flipped_byte_is_noticed() {
    let disk = formatted();
    let file = path().join(NAME);
    let healthy = disk.contents(&file).unwrap();
    for at in 0..healthy.len() {
        let mut bytes = healthy.clone();
        bytes[at] ^= 0x10;
        disk.overwrite(&file, bytes);
        assert!(matches!(open(&disk), Err(DirectoryError::Damaged(_))), "offset {at}");
        disk.overwrite(&file, healthy[..at].to_vec());
        assert!(matches!(open(&disk), Err(DirectoryError::Damaged(_))), "cut at {at}");
    }
}

#[test]
fn an_initial_configuration_is_used_at_most_once() {
    let disk = formatted();
    let members = |replica| vec![Member::new(NodeId(1), Incarnation(0xabc), ReplicaId(replica))];
    let mut directory = open(&disk).unwrap();
    assert!(!directory.use_initial(GroupId(1), ReplicaId(1)).unwrap(), "there is none");
    directory.set_initial(GroupId(1), members(1)).unwrap();
    directory.set_initial(GroupId(1), members(9)).unwrap();
    assert_eq!(directory.initial(GroupId(1)), Some(&members(1)[..]));
    assert!(directory.use_initial(GroupId(1), ReplicaId(1)).unwrap());
    assert!(!directory.use_initial(GroupId(1), ReplicaId(1)).unwrap());
    drop(directory);
    let disk = disk.crash(Crash::LoseAll);
    let mut directory = open(&disk).unwrap();
    assert_eq!(directory.initial(GroupId(1)), Some(&members(1)[..]));
    assert!(!directory.use_initial(GroupId(1), ReplicaId(1)).unwrap());
}

#[test]
fn a_removed_replica_stays_removed() {
    let disk = formatted();
    let mut directory = open(&disk).unwrap();
    directory.set_initial(GroupId(2), Vec::new()).unwrap();
    directory.set_removed(GroupId(2), ReplicaId(4)).unwrap();
    drop(directory);
    let disk = disk.crash(Crash::LoseAll);
    let mut directory = open(&disk).unwrap();
    assert!(directory.is_removed(GroupId(2), ReplicaId(4)));
    assert!(!directory.is_removed(GroupId(2), ReplicaId(5)));
    assert!(!directory.use_initial(GroupId(2), ReplicaId(4)).unwrap());
    assert!(directory.use_initial(GroupId(2), ReplicaId(5)).unwrap());
}

#[test]
fn notes_are_kept() {
    let disk = formatted();
    let mut directory = open(&disk).unwrap();
    directory.set_note("peers", "1=127.0.0.1:7101 2=127.0.0.1:7102").unwrap();
    assert!(matches!(directory.set_note("a b", "x"), Err(DirectoryError::BadNote)));
    assert!(matches!(directory.set_note("a", "x\ny"), Err(DirectoryError::BadNote)));
    drop(directory);
    let directory = open(&disk.crash(Crash::LoseAll)).unwrap();
    assert_eq!(directory.note("peers"), Some("1=127.0.0.1:7101 2=127.0.0.1:7102"));
    assert_eq!(directory.note("other"), None);
}

#[test]
fn unknown_or_broken_lines_are_refused() {
    let good = open(&formatted()).unwrap().state.lines();
    assert!(State::parse(&good[1..]).is_some());
    for line in [
        "",
        "x",
        "boots",
        "boots x",
        "initial 1",
        "initial 1 maybe",
        "initial 1 used 1:2",
        "initial 1 used 1:2:3:4",
        "removed 1",
        "removed 1 x",
        "note a",
        "later 1",
    ] {
        let mut lines = good[1..].to_vec();
        lines.push(line.to_owned());
        assert!(State::parse(&lines).is_none(), "{line:?}");
    }
    assert!(State::parse(&good[2..]).is_none(), "without a cluster");
}
