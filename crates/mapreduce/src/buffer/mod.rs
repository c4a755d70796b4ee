//! The map side's memory: pairs are gathered in a buffer of bounded size, and spilled as sorted runs.
//!
//! - [`CombineBuffer`]: with a combiner, one value per key in a hash table.
//! - [`SortBuffer`]: without one, every pair.

mod combine;
mod prefix;
mod sort;
mod spill;

pub(crate) use combine::CombineBuffer;
pub(crate) use prefix::sort_prefix;
pub(crate) use sort::SortBuffer;
pub(crate) use spill::{SpillFigures, Spiller};
