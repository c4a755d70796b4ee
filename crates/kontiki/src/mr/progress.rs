//! How far a job is, on stderr: a bar on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use kontiki_mapreduce::local::Progress;

/// Between two looks, on a terminal and elsewhere.
const LOOK: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Characters of the bar.
const BAR: u64 = 30;

/// Tells how far a job is.
pub(super) struct Reporter<'a> {
    progress: &'a Progress,
    maps: u64,
    reduces: u32,
    input_bytes: u64,
    ended: Mutex<bool>,
    changed: Condvar,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(
        progress: &'a Progress,
        maps: u64,
        reduces: u32,
        input_bytes: u64,
    ) -> Reporter<'a> {
        let (ended, changed) = (Mutex::new(false), Condvar::new());
        Reporter { progress, maps, reduces, input_bytes, ended, changed }
    }

    /// Reports until [`Reporter::end`]; for a thread of its own.
    pub(super) fn report(&self) {
        let terminal = stderr().is_terminal();
        let look = if terminal { LOOK[0] } else { LOOK[1] };
        let mut shown = false;
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended {
            let waited = self.changed.wait_timeout(ended, look);
            let (next, result) = waited.unwrap_or_else(PoisonError::into_inner);
            ended = next;
            if !*ended && result.timed_out() {
                shown = true;
                let line = self.line();
                // Nobody to tell is no reason to fail.
                let _ = if terminal {
                    write!(stderr(), "\r\x1b[K{} {line}", self.bar())
                } else {
                    writeln!(stderr(), "{line}")
                };
            }
        }
        if shown && terminal {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }

    /// Ends the report.
    pub(super) fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn line(&self) -> String {
        let percent = self.input_percent();
        format!(
            "map {}/{} ({percent} % of the input), reduce {}/{}",
            self.progress.maps_done.load(Relaxed),
            self.maps,
            self.progress.reduces_done.load(Relaxed),
            self.reduces
        )
    }

    fn input_percent(&self) -> u64 {
        // A map that is tried again reads again.
        (self.progress.input_bytes.load(Relaxed) * 100 / self.input_bytes.max(1)).min(100)
    }

    /// Maps are the first half of the bar, reduces the second.
    fn bar(&self) -> String {
        let reduced =
            self.progress.reduces_done.load(Relaxed) * 100 / u64::from(self.reduces.max(1));
        let filled = (self.input_percent() + reduced) * BAR / 200;
        let cells = (0..BAR).map(|cell| if cell < filled { '#' } else { '.' });
        format!("[{}]", cells.collect::<String>())
    }
}
