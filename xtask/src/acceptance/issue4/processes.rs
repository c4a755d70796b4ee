//! Items 1 to 5a and 8: tests of real processes.

use anyhow::Result;

use crate::acceptance::{Context, Figures, needs, process_test};

pub(super) fn words(context: &Context) -> Result<Figures> {
    needs(&["python3"])?;
    process_test::run(context, &["mr::words"])
}

pub(super) fn labs(context: &Context) -> Result<Figures> {
    process_test::run(context, &["mr::labs"])
}

pub(super) fn kills(context: &Context) -> Result<Figures> {
    process_test::run(context, &["mr::kills"])
}

pub(super) fn costs(context: &Context) -> Result<Figures> {
    process_test::run(context, &["mr::costs"])
}

pub(super) fn damage(context: &Context) -> Result<Figures> {
    process_test::run(context, &["mr::damage"])
}

pub(super) fn streaming(context: &Context) -> Result<Figures> {
    needs(&["python3", "awk"])?;
    process_test::run(context, &["mr::streaming"])
}

pub(super) fn machines(context: &Context) -> Result<Figures> {
    process_test::run(context, &["mr::machines"])
}
