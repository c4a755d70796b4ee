//! Items 2a and 2c: whole nodes on a simulated disk that loses what was not synced.

use anyhow::Result;

use crate::acceptance::cargo_test::CargoTest;
use crate::acceptance::{Context, Figures};

pub(super) fn power_loss(context: &Context) -> Result<Figures> {
    CargoTest { package: "kontiki-sim", name: "power_loss_loses_nothing_acknowledged" }.run(context)
}

pub(super) fn sync_taken_out(context: &Context) -> Result<Figures> {
    CargoTest { package: "kontiki-sim", name: "without_the_sync_power_loss_is_seen" }.run(context)
}
