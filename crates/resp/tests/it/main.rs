//! The codec against itself and against noise.
//!
//! `round_trip` checks that what is encoded is parsed back, however it is cut; `fuzz` holds the
//! fuzz targets, which run here on a few thousand random inputs and the committed corpus, and for
//! as long as wanted under `cargo bolero test`.

mod corpus;
mod fuzz;
mod round_trip;
