//! Item 7b: the scheduler alone, with a job of 10,000 by 10,000.

use anyhow::Result;

use crate::acceptance::cargo_test::CargoTest;
use crate::acceptance::{Context, Figures};

pub(super) fn run(context: &Context) -> Result<Figures> {
    CargoTest { package: "kontiki-schedule", name: "ten_thousand_by_ten_thousand" }.run(context)
}
