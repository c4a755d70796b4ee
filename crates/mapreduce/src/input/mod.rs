//! Input: which files, cut into which tasks, read as which records.
//!
//! - [`list`] turns the command line's files, directories and globs into files.
//! - [`plan`] cuts files into map tasks by byte range and packs small files.
//! - [`BatchReader`] reads a part of a file as whole lines.
//!
//! A part owns the lines that *start* in it, so that every line is read exactly once wherever the
//! cuts are. Compressed files are not cut.

mod glob;
mod listing;
mod reader;
mod source;
mod split;

pub use listing::{Codec, InputError, InputFile, list, path_of};
pub use reader::BatchReader;
pub(crate) use source::InputSource;
pub use split::{MapTask, Part, SPLIT_BYTES, plan};
