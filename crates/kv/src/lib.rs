//! The deterministic key/value state machine of Kontiki.

mod access;
mod reply;

pub use access::{Access, AccessMut, Record};
pub use reply::Reply;
