//! Item 7: a backup of a store that is written to and whose slots move, restored as a folder and into
//! a running store.

use anyhow::Result;

use crate::acceptance::{Context, Figures, process_test};

pub(super) fn run(context: &Context) -> Result<Figures> {
    process_test::run(context, &["backup::a_backup_under_load"])
}
