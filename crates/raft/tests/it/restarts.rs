//! Figure 2, §5.5: what survives a crash, and what may be started from.

use kontiki_raft::{
    Base, Config, Entry, EntryData, HardState, Raft, Recovered, RestartError, Stored, StoredRun,
};
use kontiki_types::{Index, Instant, Term};

use crate::cluster::{Cluster, log_id, membership, ms, n};

/// §5.5: a replica that crashed and restarted has lost nothing it promised.
#[test]
fn everything_survives_a_crash_of_all() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    for command in 0..5 {
        cluster.propose(1, &command.to_string());
        cluster.deliver_all();
    }
    for node in 1..=3 {
        cluster.crash_node(node);
    }
    for node in 1..=3 {
        cluster.start_node(node);
    }
    cluster.run_all(ms(800));
    assert_eq!(cluster.commands(), [5, 5, 5]);
}

/// The state machine goes on where it was.
#[test]
fn entries_are_applied_once_also_across_a_restart() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.elect(1);
    for command in 0..5 {
        cluster.propose(1, &command.to_string());
        cluster.deliver_all();
    }
    cluster.compact(2);
    cluster.propose(1, "more");
    cluster.deliver_all();
    cluster.crash_node(2);
    cluster.start_node(2);
    // The machine itself checks that nothing is applied twice or left out.
    cluster.run_all(ms(200));
    assert_eq!(cluster.commands(), [6, 6, 6]);
}

fn start(recovered: Recovered<Vec<u8>>) -> Result<(), RestartError> {
    Raft::new(Config::new(n(1)), recovered, 1, Instant(0)).map(drop)
}

fn entry(index: u64, term: u64) -> Entry<Vec<u8>> {
    Entry { id: log_id(index, term), data: EntryData::Noop }
}

/// What contradicts itself is refused by name, without a panic.
#[test]
fn an_unsound_recovery_is_refused() {
    let sound = || Recovered {
        hard_state: HardState { term: Term(3), vote: None },
        base: Some(Base { id: log_id(4, 2), ..Base::default() }),
        entries: vec![entry(5, 2), entry(6, 3)],
        applied: Index(5),
        ..Recovered::default()
    };
    assert_eq!(start(sound()), Ok(()));
    let gap = Recovered { entries: vec![entry(5, 2), entry(7, 3)], ..sound() };
    assert_eq!(start(gap), Err(RestartError::Gap { at: Index(6) }));
    let back = Recovered { entries: vec![entry(5, 3), entry(6, 2)], ..sound() };
    assert_eq!(start(back), Err(RestartError::Gap { at: Index(6) }));
    let ahead = Recovered { entries: vec![entry(5, 4)], ..sound() };
    assert_eq!(start(ahead), Err(RestartError::TermAhead { id: log_id(5, 4) }));
    for applied in [3, 7] {
        let recovered = Recovered { applied: Index(applied), ..sound() };
        assert!(matches!(start(recovered), Err(RestartError::Applied { .. })));
    }
    let mut malformed = membership(&[1, 2], &[]);
    malformed.voters.reverse();
    let entries = vec![Entry { id: log_id(5, 2), data: EntryData::Membership(malformed.into()) }];
    assert!(matches!(
        start(Recovered { entries, ..sound() }),
        Err(RestartError::Membership { .. })
    ));
}

/// Entries that are applied may be named instead of given; what is named must fit, too.
#[test]
fn entries_that_are_only_named_are_part_of_the_log() {
    let run =
        |first, last, term| StoredRun { first: Index(first), last: log_id(last, term), bytes: 9 };
    let recovered = |runs: &[StoredRun], entries: &[Entry<Vec<u8>>], applied| Recovered {
        hard_state: HardState { term: Term(3), vote: None },
        base: Some(Base { id: log_id(4, 1), ..Base::default() }),
        stored: Stored { runs: runs.to_vec(), memberships: Vec::new() },
        entries: entries.to_vec(),
        applied: Index(applied),
    };
    let runs = [run(5, 9, 1), run(10, 12, 2)];
    let sound = recovered(&runs, &[entry(13, 2), entry(14, 3)], 12);
    let terms = [(3, None), (4, Some(1)), (9, Some(1)), (10, Some(2)), (14, Some(3)), (15, None)];
    for (index, term) in terms {
        assert_eq!(sound.term_at(Index(index)), term.map(Term), "{index}");
    }
    assert_eq!(sound.last(), log_id(14, 3));
    let raft = Raft::new(Config::new(n(1)), sound, 1, Instant(0)).expect("it is sound");
    let status = raft.status();
    assert_eq!((status.last, status.first, status.applied), (log_id(14, 3), Index(5), Index(12)));

    let gap = Err(RestartError::Gap { at: Index(5) });
    assert_eq!(start(recovered(&[run(6, 9, 1)], &[], 9)), gap);
    let gap = Err(RestartError::Gap { at: Index(10) });
    assert_eq!(start(recovered(&[run(5, 9, 1), run(11, 12, 1)], &[], 12)), gap);
    assert_eq!(start(recovered(&[run(5, 9, 1)], &[entry(11, 1)], 9)), gap);
    assert_eq!(start(recovered(&[run(5, 9, 2), run(10, 12, 1)], &[], 12)), gap);
    let ahead = recovered(&[run(5, 9, 4)], &[], 9);
    assert_eq!(start(ahead), Err(RestartError::TermAhead { id: log_id(9, 4) }));
    // What is not applied has to be there.
    let early = recovered(&runs, &[], 11);
    assert!(matches!(start(early), Err(RestartError::Applied { .. })));
}

/// Timing and limits that cannot work are refused as well.
#[test]
fn an_unsound_configuration_is_refused() {
    let config = |change: fn(&mut Config)| {
        let mut config = Config::new(n(1));
        change(&mut config);
        let recovered = Recovered::<Vec<u8>>::default();
        Raft::new(config, recovered, 1, Instant(0)).map(drop)
    };
    assert_eq!(config(|_| {}), Ok(()));
    assert_eq!(config(|config| config.heartbeat = ms(51)), Err(RestartError::Config));
    assert_eq!(config(|config| config.heartbeat = ms(0)), Err(RestartError::Config));
    assert_eq!(config(|config| config.max_append_bytes = 0), Err(RestartError::Config));
}

/// A replica that waits to be added does nothing by itself.
#[test]
fn an_empty_replica_waits() {
    let mut cluster = Cluster::with(&[1], &[], |_| {});
    assert_eq!(cluster.next_deadline(), Some(Instant::MAX));
    cluster.now = cluster.now + ms(10_000);
    let now = cluster.now;
    cluster.raft(1).tick(now);
    cluster.drain(0);
    assert!(cluster.net.is_empty());
}
