use super::*;

fn runs(seeds: std::ops::RangeInclusive<u64>) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds {
        let report = run(seed, &SwarmConfig::default());
        if let Some(violation) = &report.violation {
            panic!("{violation}\nreplay: kontiki sim --scenario swarm --seed {seed}");
        }
        assert!(report.completed >= OPERATIONS_MIN, "seed {seed}: {} done", report.completed);
        assert!(report.virtual_time >= Duration::from_secs(30), "seed {seed} is short");
        summary.add(&report);
    }
    summary
}

#[test]
fn a_few_seeds_hold() {
    let summary = runs(1..=60);
    assert!(summary.all_faults() >= 60 * 4, "only {} faults", summary.all_faults());
    // A group that rests does not miss its leader until somebody asks.
    assert!(summary.with_election >= 54, "only {} with an election", summary.with_election);
    assert_eq!(summary.no_verdict, 0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 8] {
        let config = SwarmConfig { keep_trace: true, ..SwarmConfig::default() };
        let (one, two) = (run(seed, &config), run(seed, &config));
        assert_eq!(one.trace, two.trace);
        assert_eq!(one.trace_hash, two.trace_hash);
        assert_eq!(one.history, two.history);
        assert_ne!(one.trace_hash, run(seed + 1, &config).trace_hash);
    }
}

#[test]
fn a_trace_that_is_kept_changes_nothing() {
    let config = SwarmConfig { keep_trace: true, ..SwarmConfig::default() };
    assert_eq!(run(5, &config).trace_hash, run(5, &SwarmConfig::default()).trace_hash);
}

#[test]
fn leaving_a_fault_out_leaves_the_others_where_they_are() {
    let config = SwarmConfig { only_faults: Some(vec![0]), ..SwarmConfig::default() };
    let report = run(4, &config);
    assert_eq!(report.violation, None);
    assert!(report.faults.iter().sum::<u64>() <= 1);
}

#[test]
fn a_few_seeds_of_a_sharded_store_hold_while_its_slots_move() {
    let mut moves = 0;
    for seed in 1..=8 {
        let config = SwarmConfig { is_sharded: true, ..SwarmConfig::default() };
        let report = run(seed, &config);
        if let Some(violation) = &report.violation {
            panic!("{violation}\nreplay: kontiki sim --scenario shards --seed {seed}");
        }
        moves += report.moves;
    }
    assert!(moves >= 30, "only {moves} moves");
}
