//! What a job is, as data: it travels from whoever submits it to the workers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::apps::{Grep, Indexer, Sort, Top, WordCount};
use crate::streaming::{Commands, Streaming};
use crate::task::{Compiled, Program};

/// Reduces of a job unless it says otherwise, as in the course lab.
pub const REDUCES: u32 = 10;

/// Reduces of a job at the most.
pub const REDUCES_MAX: u32 = 100_000;

/// Which program a job runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Application {
    /// How often each word occurs.
    WordCount,
    /// In which files each word occurs.
    Indexer,
    /// The lines that contain a text.
    Grep {
        /// The text, byte by byte.
        pattern: Vec<u8>,
        /// Number of map tasks.
        maps: u32,
    },
    /// All lines in byte order.
    Sort {
        /// The first key of each reduce but the first.
        borders: Vec<Vec<u8>>,
    },
    /// The most frequent words.
    Top {
        /// How many.
        most: u64,
    },
    /// Commands that read and write lines.
    Streaming(Commands),
    /// A job of the program's own. See [`Jobs`](crate::jobs::Jobs).
    Own {
        /// Which.
        name: String,
        /// What it is made of.
        parameters: Vec<u8>,
    },
}

impl Application {
    /// The program that a worker runs, unless it is a program's own.
    pub(crate) fn built_in(&self) -> Option<Arc<dyn Program>> {
        Some(match self {
            Application::WordCount => Arc::new(Compiled(WordCount)),
            Application::Indexer => Arc::new(Compiled(Indexer)),
            Application::Grep { pattern, maps } => Arc::new(Compiled(Grep::new(pattern, *maps))),
            Application::Sort { borders } => Arc::new(Compiled(Sort::new(borders.clone()))),
            Application::Top { most } => {
                let most = usize::try_from(*most).unwrap_or(usize::MAX);
                Arc::new(Compiled(Top::new(most)))
            }
            Application::Streaming(commands) => Arc::new(Streaming::new(commands.clone())),
            Application::Own { .. } => return None,
        })
    }
}
