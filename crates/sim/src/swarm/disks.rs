//! Bits that flip in the files of a node.

use std::path::{Path, PathBuf};

use kontiki_storage::disk::SimDisk;

use super::FaultKind;
use crate::random::Random;

/// Flips one bit in a file of the kind; `false` if there is no such place.
pub(super) fn flip(disk: &SimDisk, kind: FaultKind, random: &mut Random) -> bool {
    let files: Vec<PathBuf> = disk.files().into_iter().map(|(path, _)| path).collect();
    let of = |prefix: &str| -> Vec<PathBuf> {
        let is_one = |path: &&PathBuf| name(path).starts_with(prefix) && !is_part(path);
        files.iter().filter(is_one).cloned().collect()
    };
    let place = match kind {
        FaultKind::FlipInHardState => {
            let newest = of("segment-").into_iter().rev();
            newest.filter_map(|path| Some((hard_state(disk, &path, random)?, path))).next()
        }
        _ => {
            let prefix = if kind == FaultKind::FlipInSnapshot { "snap-" } else { "segment-" };
            let paths = of(prefix);
            random.pick(&paths).and_then(|path| Some((used(disk, path, random)?, path.clone())))
        }
    };
    let Some((offset, path)) = place else { return false };
    let bit = random.below(8);
    disk.rot(&path, offset as u64, |bytes| bytes[0] ^= 1 << bit)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_part(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "part")
}

/// A byte of a file that is not among zeros.
fn used(disk: &SimDisk, path: &Path, random: &mut Random) -> Option<usize> {
    let bytes = disk.contents(path)?;
    (0..64).map(|_| random.below(bytes.len() as u64) as usize).find(|&at| {
        let end = bytes.len().min(at + 16);
        bytes[at..end].iter().any(|&byte| byte != 0)
    })
}

/// A byte of the last hard state in a segment (docs/log-format.md): kind, group, length, then the
/// term and the vote.
fn hard_state(disk: &SimDisk, path: &Path, random: &mut Random) -> Option<usize> {
    const HEADER: usize = 9;
    const BODY_MIN: u8 = 9;
    const BODY_MAX: u8 = 33;
    let bytes = disk.contents(path)?;
    let is_one =
        |window: &&[u8]| matches!(window, [0x01 | 0x81, 1, 0, 0, 0, BODY_MIN | BODY_MAX, 0, 0, 0]);
    let found = bytes.windows(HEADER).enumerate().rfind(|(_, window)| is_one(window));
    let (at, window) = found?;
    Some(at + HEADER + random.below(u64::from(window[5])) as usize)
}
