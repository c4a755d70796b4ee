//! Item 0: the power fails on all nodes at once, again and again: on whole nodes with simulated
//! disks, and on a replica whose state is in the engine that nodes have, its files altered.

use anyhow::Result;

use crate::acceptance::cargo_test::CargoTest;
use crate::acceptance::{Context, Figures};

/// Power losses of whole nodes in a full run.
const ROUNDS: &str = "500";

pub(super) fn run(context: &Context) -> Result<Figures> {
    let nodes = CargoTest { package: "kontiki-sim", name: "power_loss_loses_nothing_acknowledged" };
    let engine = CargoTest {
        package: "kontiki-storage",
        name: "power_cuts_under_the_real_engine_lose_nothing_acknowledged",
    };
    let nodes = nodes.run_with(context, &[("KONTIKI_ROUNDS", ROUNDS)])?;
    let engine = engine.run(context)?;
    Ok(Figures::from_iter([
        ("whole_nodes".to_string(), nodes.into()),
        ("real_engine".to_string(), engine.into()),
    ]))
}
