//! Built-in jobs.

mod grep;
mod indexer;
mod sort;
mod top;
mod word_count;

pub use grep::Grep;
pub use indexer::Indexer;
pub use sort::{RangePartition, SAMPLES_MAX, Sort, sample};
pub use top::Top;
pub use word_count::{Sum, WordCount};
