//! Waiting for something to become true, and no longer than is reasonable.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

use crate::program::POLL;

/// Asks until there is an answer; an error, naming `what`, once `limit` is over.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", limit.as_secs_f32());
        }
        std::thread::sleep(POLL);
    }
}

/// Lets `time` pass: for the length of a load or of a pause, never for something to happen.
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}
