use super::*;
use crate::disk::{Crash, SimDisk};

const ONE: GroupId = GroupId(1);

fn directory() -> &'static Path {
    Path::new("/snapshots")
}

fn id(index: u64) -> LogId {
    LogId::new(Term(3), Index(index))
}

fn head(index: u64) -> SnapshotHead {
    let member = |node| Member::new(NodeId(node), Incarnation(node * 7), ReplicaId(1));
    let membership = Membership::new([member(1), member(2)], [member(3)]);
    SnapshotHead { id: id(index), membership: Arc::new(membership), membership_id: id(1) }
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

fn build(snapshots: &Snapshots<SimDisk>, index: u64, content: &[u8]) -> SnapshotMeta {
    let mut writer = snapshots.build(ONE, head(index)).unwrap();
    for part in content.chunks(10_000) {
        writer.write(part).unwrap();
    }
    writer.finish().unwrap()
}

fn open(disk: &SimDisk) -> Snapshots<SimDisk> {
    Snapshots::open(disk.clone(), directory()).unwrap()
}

fn send(
    reader: &mut SnapshotReader<SimDisk>,
    receiver: &mut SnapshotReceiver<SimDisk>,
    chunk: usize,
) {
    while !receiver.is_complete() {
        let offset = receiver.offset();
        let data = reader.read_chunk(offset, chunk).unwrap();
        receiver.write_chunk(offset, &data).unwrap();
    }
}

#[test]
fn a_snapshot_is_read_back_in_any_pieces() {
    for length in [0, 1, CONTENT - 1, CONTENT, CONTENT + 1, 3 * CONTENT + 77] {
        let disk = SimDisk::new();
        let snapshots = open(&disk);
        let content = content(length);
        let meta = build(&snapshots, 5, &content);
        assert_eq!(meta.bytes, length as u64);
        let disk = disk.crash(Crash::LoseAll);
        let mut reader = open(&disk).read(ONE, id(5)).unwrap();
        assert_eq!(reader.meta(), &meta);
        reader.verify().unwrap();
        for (offset, max) in [(0, 10), (7, CONTENT), (CONTENT - 3, 9), (length, 5), (0, length)] {
            let chunk = reader.read_chunk(offset as u64, max).unwrap();
            let start = offset.min(length);
            assert_eq!(chunk, content[start..length.min(start + max)]);
        }
    }
}

#[test]
fn what_is_sent_arrives_the_same() {
    let (from, to) = (SimDisk::new(), SimDisk::new());
    let meta = build(&open(&from), 9, &content(200_000));
    let mut reader = open(&from).read(ONE, id(9)).unwrap();
    let snapshots = open(&to);
    let mut receiver = snapshots.receive(ONE, meta.clone()).unwrap();
    // Chunks that come twice, overlap or are ahead of others change nothing.
    receiver.write_chunk(0, &reader.read_chunk(0, 1000).unwrap()).unwrap();
    receiver.write_chunk(0, &reader.read_chunk(0, 1000).unwrap()).unwrap();
    receiver.write_chunk(500, &reader.read_chunk(500, 1000).unwrap()).unwrap();
    assert_eq!(receiver.offset(), 1500);
    let ahead = receiver.write_chunk(9000, b"x");
    assert!(matches!(ahead, Err(SnapshotError::OutOfOrder { expected: 1500, got: 9000 })));
    send(&mut reader, &mut receiver, 70_000);
    assert_eq!(receiver.finish().unwrap(), meta);
    assert_eq!(open(&to.crash(Crash::LoseAll)).list(ONE).unwrap(), [meta]);
}

/// A receiver that has taken in so much, and then was gone with its process.
fn half_received(disk: &SimDisk, reader: &mut SnapshotReader<SimDisk>, bytes: usize) {
    let mut receiver = open(disk).resume(ONE, reader.meta().clone()).unwrap();
    let offset = receiver.offset();
    receiver.write_chunk(offset, &reader.read_chunk(offset, bytes).unwrap()).unwrap();
}

#[test]
fn what_has_arrived_is_taken_up_after_a_kill() {
    let (from, to) = (SimDisk::new(), SimDisk::new());
    let meta = build(&open(&from), 9, &content(5 * CONTENT + 77));
    let mut reader = open(&from).read(ONE, id(9)).unwrap();
    half_received(&to, &mut reader, 2 * CONTENT + 500);
    // Whole blocks count; what was still in memory is lost.
    let resumed = open(&to).resume(ONE, meta.clone()).unwrap();
    assert_eq!(resumed.offset(), 2 * CONTENT as u64);
    drop(resumed);
    half_received(&to, &mut reader, CONTENT);
    let mut receiver = open(&to).resume(ONE, meta.clone()).unwrap();
    assert_eq!(receiver.offset(), 3 * CONTENT as u64);
    // The sender begins again; it is told where to go on.
    receiver.write_chunk(0, &reader.read_chunk(0, 1000).unwrap()).unwrap();
    send(&mut reader, &mut receiver, 70_000);
    assert_eq!(receiver.finish().unwrap(), meta);
    assert_eq!(open(&to.crash(Crash::LoseAll)).list(ONE).unwrap(), [meta]);
    assert!(to.files().iter().all(|file| !file.0.to_string_lossy().ends_with(ARRIVING)));
}

/// Whatever a power cut has left of what arrived, the snapshot is whole in the end.
#[test]
fn what_is_left_after_a_power_cut_is_taken_up_or_not() {
    for seed in 0..40 {
        let (from, to) = (SimDisk::new(), SimDisk::new());
        let meta = build(&open(&from), 9, &content(6 * CONTENT));
        let mut reader = open(&from).read(ONE, id(9)).unwrap();
        half_received(&to, &mut reader, 4 * CONTENT);
        let to = to.crash(Crash::Seed(seed));
        let mut receiver = open(&to).resume(ONE, meta.clone()).unwrap();
        assert!(receiver.offset() <= 4 * CONTENT as u64);
        send(&mut reader, &mut receiver, 100_000);
        assert_eq!(receiver.finish().unwrap(), meta);
        open(&to).read(ONE, id(9)).unwrap().verify().unwrap();
    }
}

#[test]
fn a_damaged_block_is_not_taken_up_nor_what_follows() {
    let (from, to) = (SimDisk::new(), SimDisk::new());
    let meta = build(&open(&from), 9, &content(6 * CONTENT));
    let mut reader = open(&from).read(ONE, id(9)).unwrap();
    half_received(&to, &mut reader, 4 * CONTENT);
    let file = directory().join("snap-1-3-9.arriving");
    let mut bytes = to.contents(&file).unwrap();
    bytes[HEADER + 2 * BLOCK + 100] ^= 1;
    to.overwrite(&file, bytes);
    let mut receiver = open(&to).resume(ONE, meta.clone()).unwrap();
    assert_eq!(receiver.offset(), 2 * CONTENT as u64);
    send(&mut reader, &mut receiver, 100_000);
    assert_eq!(receiver.finish().unwrap(), meta);
    open(&to).read(ONE, id(9)).unwrap().verify().unwrap();
}

#[test]
fn another_snapshot_begins_anew_and_nothing_of_the_first_stays() {
    let (from, to) = (SimDisk::new(), SimDisk::new());
    build(&open(&from), 9, &content(3 * CONTENT));
    let other = build(&open(&from), 12, &content(3 * CONTENT + 5));
    let mut reader = open(&from).read(ONE, id(9)).unwrap();
    half_received(&to, &mut reader, 2 * CONTENT);
    // One with the same place and another content is another one, too.
    let changed = SnapshotMeta { hash: 7, ..reader.meta().clone() };
    assert_eq!(open(&to).resume(ONE, changed.clone()).unwrap().offset(), 0);
    let receiver = open(&to).resume(ONE, other.clone()).unwrap();
    assert_eq!(receiver.offset(), 0);
    drop(receiver);
    let arriving = |disk: &SimDisk| -> Vec<String> {
        let names = disk.list(directory()).unwrap().into_iter();
        names.filter(|name| name.ends_with(ARRIVING)).collect()
    };
    assert_eq!(arriving(&to), ["snap-1-3-12.arriving"]);
    open(&to).retain_arriving(|group, id| group == ONE && id.index > Index(11)).unwrap();
    assert_eq!(arriving(&to).len(), 1);
    open(&to).clean(ONE, id(12)).unwrap();
    assert!(arriving(&to).is_empty());
    open(&to).resume(ONE, other).unwrap().abandon();
    assert!(arriving(&to).is_empty());
    // What is wrong in the end is not taken up again.
    let mut receiver = open(&to).resume(ONE, changed.clone()).unwrap();
    send(&mut reader, &mut receiver, 100_000);
    assert!(matches!(receiver.finish(), Err(SnapshotError::Mismatch { .. })));
    assert_eq!(open(&to).resume(ONE, changed).unwrap().offset(), 0);
}

#[test]
fn another_content_than_announced_is_refused() {
    let disk = SimDisk::new();
    let snapshots = open(&disk);
    let meta = build(&snapshots, 9, &content(5000));
    let mut wrong = content(5000);
    wrong[4000] ^= 1;
    let mut receiver = snapshots.receive(ONE, meta.clone()).unwrap();
    receiver.write_chunk(0, &wrong).unwrap();
    assert!(matches!(receiver.finish(), Err(SnapshotError::Mismatch { .. })));
    let mut receiver = snapshots.receive(ONE, meta.clone()).unwrap();
    let longer = receiver.write_chunk(0, &content(5001));
    assert!(matches!(longer, Err(SnapshotError::Mismatch { .. })));
    drop(receiver);
    let shorter = snapshots.receive(ONE, meta).unwrap().finish();
    assert!(matches!(shorter, Err(SnapshotError::Mismatch { .. })));
    assert!(disk.files().iter().all(|file| !file.0.to_string_lossy().ends_with(".part")));
}

#[test]
fn a_power_cut_while_building_leaves_no_snapshot_or_a_whole_one() {
    let mut finished = 0;
    for operations in 0..20 {
        for seed in 0..6 {
            let disk = SimDisk::new();
            let snapshots = open(&disk);
            let old = build(&snapshots, 5, &content(100));
            disk.cut_power_after(operations);
            let built = (|| {
                let mut writer = snapshots.build(ONE, head(9))?;
                writer.write(&content(3 * CONTENT))?;
                writer.finish()
            })();
            let disk = disk.crash(Crash::Seed(seed * 100 + operations));
            let snapshots = open(&disk);
            let found = snapshots.list(ONE).unwrap();
            assert_eq!(found[0], old);
            if built.is_ok() {
                assert_eq!(found.len(), 2);
            }
            if let Some(new) = found.get(1) {
                finished += 1;
                snapshots.read(ONE, new.id).unwrap().verify().unwrap();
            }
            let parts = disk.files().into_iter().filter(|file| file.0.ends_with(".part"));
            assert_eq!(parts.count(), 0);
        }
    }
    assert!(finished > 0);
}

#[test]
fn damage_is_noticed_wherever_it_is_read() {
    let disk = SimDisk::new();
    let snapshots = open(&disk);
    build(&snapshots, 5, &content(CONTENT + 500));
    let file = directory().join("snap-1-3-5");
    let healthy = disk.contents(&file).unwrap();
    for at in (0..healthy.len()).step_by(97).chain(0..200) {
        let mut bytes = healthy.clone();
        bytes[at] ^= 4;
        disk.overwrite(&file, bytes);
        let read = snapshots.read(ONE, id(5)).and_then(|mut reader| reader.verify());
        assert!(matches!(read, Err(SnapshotError::Damaged { .. })), "offset {at}: {read:?}");
        disk.overwrite(&file, healthy[..at].to_vec());
        let read = snapshots.read(ONE, id(5)).and_then(|mut reader| reader.verify());
        assert!(matches!(read, Err(SnapshotError::Damaged { .. })), "cut at {at}: {read:?}");
    }
}

#[test]
fn an_unknown_version_is_refused_and_both_are_named() {
    let disk = SimDisk::new();
    let snapshots = open(&disk);
    build(&snapshots, 5, b"x");
    disk.rot(&directory().join("snap-1-3-5"), 0, |page| {
        page[8] = 2;
        let crc = header_crc(&page[..HEADER]);
        page[12..16].copy_from_slice(&crc.to_le_bytes());
    });
    let read = snapshots.read(ONE, id(5)).err().unwrap();
    assert!(matches!(read, SnapshotError::Version { found: 2, supported: 1, .. }), "{read}");
}

#[test]
fn older_snapshots_are_cleaned_away() {
    let disk = SimDisk::new();
    let snapshots = open(&disk);
    for index in [5, 7, 9] {
        build(&snapshots, index, b"state");
    }
    let mut other = snapshots.build(GroupId(2), head(3)).unwrap();
    other.write(b"state").unwrap();
    other.finish().unwrap();
    snapshots.clean(ONE, id(9)).unwrap();
    let found: Vec<_> = snapshots.list(ONE).unwrap().into_iter().map(|meta| meta.id).collect();
    assert_eq!(found, [id(9)]);
    assert_eq!(snapshots.list(GroupId(2)).unwrap().len(), 1);
    snapshots.remove_group(ONE).unwrap();
    assert!(snapshots.list(ONE).unwrap().is_empty());
}

#[test]
fn no_header_makes_the_reader_panic() {
    let disk = SimDisk::new();
    let snapshots = open(&disk);
    build(&snapshots, 5, b"x");
    let page = disk.contents(&directory().join("snap-1-3-5")).unwrap();
    for at in 32..400 {
        for byte in [0, 1, 0x80, 0xff] {
            let mut page = page[..HEADER].to_vec();
            page[at] = byte;
            let crc = header_crc(&page);
            page[12..16].copy_from_slice(&crc.to_le_bytes());
            let _ = decode_header(directory(), &page);
        }
    }
}
