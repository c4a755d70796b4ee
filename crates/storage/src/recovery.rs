//! What a start makes of log, state and snapshots that a crash has left at different points.
//!
//! A snapshot is installed in two steps (PROTOCOL 4c): the state first, durably, then the log record
//! that names it. A crash in between leaves a state that the log knows nothing of, and the snapshot
//! file, which is removed only by a later one. The installation is then carried to its end: what the
//! state holds is committed, so the log may begin after it.

use bytes::Bytes;
use kontiki_raft::{Base, HardState, Recovered};
use kontiki_types::plant::{Plant, planted};
use kontiki_types::{GroupId, LogId};

use crate::disk::Disk;
use crate::log::{Log, LogError, Update};
use crate::snapshot::Snapshots;

/// Carries an installation to its end that a crash has interrupted: if the log does not hold the
/// entry `applied` that the state of `group` ends with, and there is the snapshot of just that
/// state, the log begins after it from here on. Otherwise `recovered` is returned as it was. Durable
/// on return.
///
/// # Errors
/// The log cannot be written.
pub fn finish_install<D: Disk>(
    log: &mut Log<D>,
    snapshots: &Snapshots<D>,
    group: GroupId,
    applied: LogId,
    recovered: Recovered<Bytes>,
) -> Result<Recovered<Bytes>, LogError> {
    let begins_after = recovered.base.as_ref().map_or(LogId::ZERO, |base| base.id);
    let known = recovered.term_at(applied.index);
    if applied.index < begins_after.index || known == Some(applied.term) {
        return Ok(recovered);
    }
    if planted(Plant::SnapshotApart) {
        return Ok(recovered);
    }
    // A damaged file is as good as none: the caller finds that state and log do not fit.
    let Ok(snapshot) = snapshots.read(group, applied) else { return Ok(recovered) };
    let meta = snapshot.meta();
    let base = Base {
        id: meta.id,
        membership: meta.membership.clone(),
        membership_id: meta.membership_id,
    };
    // The leader's term may not have become durable here before its snapshot did. No vote was given
    // in a term that is not on disk.
    let mut hard_state = recovered.hard_state;
    if hard_state.term < meta.id.term {
        hard_state = HardState { term: meta.id.term, vote: None };
    }
    let update = Update {
        hard_state: Some(hard_state),
        base: Some(base.clone()),
        truncate_from: Some(meta.id.index.next()),
        ..Update::default()
    };
    log.update(&[(group, update)])?;
    let applied = meta.id.index;
    Ok(Recovered { hard_state, base: Some(base), applied, ..Recovered::default() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use kontiki_raft::{Entry, EntryData, Membership};
    use kontiki_types::{Incarnation, Index, Term};

    use super::*;
    use crate::disk::{Crash, SimDisk};
    use crate::log::LogConfig;
    use crate::snapshot::SnapshotHead;

    const GROUP: GroupId = GroupId(1);

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term(term), Index(index))
    }

    fn open(disk: &SimDisk) -> (Log<SimDisk>, Recovered<Bytes>) {
        let config = LogConfig {
            segment_bytes: 64 << 10,
            random: Arc::new(|| 7),
            ..LogConfig::new(Incarnation(1))
        };
        let opened = Log::open(disk.clone(), Path::new("log"), config);
        let (log, mut groups) = opened.expect("a sound log");
        (log, groups.remove(&GROUP).unwrap_or_default())
    }

    fn snapshot(disk: &SimDisk, at: LogId) -> Snapshots<SimDisk> {
        let snapshots =
            Snapshots::open(disk.clone(), Path::new("snapshots")).expect("an empty disk");
        let membership = Arc::new(Membership::default());
        let head = SnapshotHead { id: at, membership, membership_id: LogId::ZERO };
        let mut writer = snapshots.build(GROUP, head).expect("room");
        writer.write(b"state").expect("room");
        writer.finish().expect("room");
        snapshots
    }

    /// A log of entries 3 to 5 of term 2, after a base at 2.
    fn log() -> (SimDisk, Log<SimDisk>, Recovered<Bytes>) {
        let disk = SimDisk::new();
        let (mut log, _) = open(&disk);
        let entry = |index| Entry { id: id(2, index), data: EntryData::Noop };
        let update = Update {
            hard_state: Some(HardState { term: Term(2), vote: None }),
            base: Some(Base { id: id(1, 2), ..Base::default() }),
            entries: (3..=5).map(entry).collect(),
            ..Update::default()
        };
        log.update(&[(GROUP, update)]).expect("room");
        drop(log);
        let disk = disk.crash(Crash::LoseAll);
        let (log, recovered) = open(&disk);
        (disk, log, recovered)
    }

    fn finish(applied: LogId, snapshot_at: LogId) -> (LogId, usize, Term) {
        let (disk, mut log, recovered) = log();
        let snapshots = snapshot(&disk, snapshot_at);
        let finished = finish_install(&mut log, &snapshots, GROUP, applied, recovered);
        let finished = finished.expect("room");
        drop(log);
        // The next start finds the same.
        let (_log, again) = open(&disk.crash(Crash::LoseAll));
        assert_eq!((&again.base, again.entries.len()), (&finished.base, finished.entries.len()));
        let base = finished.base.map_or(LogId::ZERO, |base| base.id);
        (base, finished.entries.len(), again.hard_state.term)
    }

    #[test]
    fn a_state_beyond_the_log_is_begun_after() {
        assert_eq!(finish(id(3, 9), id(3, 9)), (id(3, 9), 0, Term(3)));
    }

    #[test]
    fn a_state_that_the_log_contradicts_is_begun_after() {
        assert_eq!(finish(id(3, 4), id(3, 4)), (id(3, 4), 0, Term(3)));
    }

    #[test]
    fn a_state_within_the_log_changes_nothing() {
        assert_eq!(finish(id(2, 4), id(2, 4)), (id(1, 2), 3, Term(2)));
        assert_eq!(finish(id(1, 2), id(1, 2)), (id(1, 2), 3, Term(2)));
    }

    #[test]
    fn without_the_snapshot_of_just_that_state_nothing_is_done() {
        assert_eq!(finish(id(3, 9), id(3, 8)), (id(1, 2), 3, Term(2)));
    }
}
