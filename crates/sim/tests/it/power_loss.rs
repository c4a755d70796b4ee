//! All three nodes lose power at once, two hundred times, on disks that forget what is not synced.
//!
//! `KONTIKI_ROUNDS` sets how often; 200 in release, 40 in a debug build.

use kontiki_sim::scenarios::{Forgets, LOST, PowerLoss};
use kontiki_sim::seeds::{count, each_seed};

fn rounds() -> u64 {
    count("KONTIKI_ROUNDS", if cfg!(debug_assertions) { 40 } else { 200 })
}

fn scenario() -> PowerLoss {
    PowerLoss {
        rounds: rounds(),
        clients: 16,
        sync_taken_out: false,
        forgets: Forgets::EverythingOrParts,
    }
}

#[test]
fn power_loss_loses_nothing_acknowledged() {
    each_seed("power_loss_loses_nothing_acknowledged", 1, |seed| {
        let survived = scenario().run(seed).unwrap_or_else(|loss| panic!("{loss}"));
        println!("{survived:?}");
        assert!(survived.acknowledged > 50 * survived.rounds, "hardly any load: {survived:?}");
        assert!(survived.unknown > 0, "no call was cut off: {survived:?}");
    });
}

/// The check of the check: on disks whose syncs do nothing the same must find a lost write.
#[test]
fn without_the_sync_power_loss_is_seen() {
    each_seed("without_the_sync_power_loss_is_seen", 5, |seed| {
        let scenario =
            PowerLoss { sync_taken_out: true, forgets: Forgets::Everything, ..scenario() };
        let loss = scenario.run(seed).expect_err("acknowledged writes were kept without a sync");
        println!("{loss}");
        assert_eq!(loss.property, LOST);
    });
}

/// When parts of what was not synced survive, the log notices by itself that something durable is
/// missing, and the node does not start.
#[test]
fn without_the_sync_a_node_refuses_to_start_or_the_loss_is_seen() {
    each_seed("without_the_sync_a_node_refuses_to_start_or_the_loss_is_seen", 5, |seed| {
        let loss = PowerLoss { sync_taken_out: true, ..scenario() }.run(seed);
        println!("{}", loss.expect_err("acknowledged writes were kept without a sync"));
    });
}
