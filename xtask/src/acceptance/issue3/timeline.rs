//! Item 6: the page that draws a violation, for a stale read made on purpose.

use anyhow::Result;

use crate::acceptance::cargo_test::CargoTest;
use crate::acceptance::{Context, Figures};

pub(super) fn run(context: &Context) -> Result<Figures> {
    CargoTest { package: "kontiki-sim", name: "a_stale_read_looks_as_it_did" }.run(context)
}
