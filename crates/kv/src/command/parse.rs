//! From arguments to commands.
use super::Parsed;
use crate::Reply;
use bytes::Bytes;
/// The data command that `args` (its name first) ask for. `choice` is a random number, for
/// RANDOMKEY.
///
/// # Errors
/// The error reply, with the text of Redis 7.0.
pub fn parse(args: &[Bytes], choice: u64) -> Result<Parsed, Reply> {
    let _ = choice;
    Err(super::unknown(args))
}
