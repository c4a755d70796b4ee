//! Stopping moves of slots at a named stage, for tests that kill nodes there.
//!
//! `KONTIKI_MOVE_STOPS` names a folder. When a side of a move that is carried out here comes to a
//! stage, and the folder has a file `SIDE-STAGE` (`source-frozen`, `target-committed`, ...), then the
//! node puts `SIDE-STAGE.NODE` beside it, and carries nothing of any move on until the first file
//! is gone. Whether a stage is held is asked there and then, so that no node has to be started
//! anew for it. Without the variable nothing is looked at.

use std::path::PathBuf;
use std::time::Duration;

use kontiki_shard::{Side, Stage};
use kontiki_types::NodeId;
use tracing::warn;

use crate::metrics::side_name;

/// Between two looks whether the file is gone.
const LOOK: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Stops {
    folder: PathBuf,
    node: NodeId,
}

impl Stops {
    /// `None` where nobody has asked for stops.
    pub(super) fn new(folder: Option<PathBuf>, node: NodeId) -> Option<Self> {
        folder.map(|folder| Self { folder, node })
    }

    /// Returns once the stage is not held.
    pub(super) async fn pass(&self, side: Side, stage: Stage) {
        let name = format!("{}-{stage}", side_name(side));
        let held = self.folder.join(&name);
        if !held.exists() {
            return;
        }
        let note = self.folder.join(format!("{name}.{}", self.node));
        if let Err(error) = std::fs::write(&note, []) {
            warn!(%error, path = %note.display(), "cannot note that a move is stopped");
        }
        while held.exists() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stage_is_held_as_long_as_its_file_is_there() {
        let folder = std::env::temp_dir().join(format!("kontiki-stops-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let stops = Stops::new(Some(folder.clone()), NodeId(3)).unwrap();
        stops.pass(Side::Source, Stage::Frozen).await;
        let file = folder.join("source-frozen");
        std::fs::write(&file, []).unwrap();
        stops.pass(Side::Target, Stage::Committed).await;
        let release = async {
            while !folder.join("source-frozen.3").exists() {
                tokio::task::yield_now().await;
            }
            std::fs::remove_file(&file).unwrap();
        };
        tokio::join!(stops.pass(Side::Source, Stage::Frozen), release);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
