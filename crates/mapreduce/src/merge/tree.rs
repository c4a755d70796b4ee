//! A tournament between runs: each record costs one comparison per level.

use super::scratch::Scratch;
use crate::buffer::sort_prefix;
use crate::error::TaskError;
use crate::shuffle::{RunReader, ShuffleError};

/// What a comparison looks at first.
#[derive(Clone, Copy)]
struct Head {
    ended: bool,
    prefix: u64,
}

/// A tree of losers: `losers[n]` lost the match at node n, `winner` lost none.
pub(super) struct Tree<'a> {
    readers: Vec<(RunReader<'a>, bool)>,
    heads: Vec<Head>,
    losers: Vec<u32>,
    winner: usize,
    scratch: &'a Scratch,
}

impl<'a> Tree<'a> {
    /// Reads the first record of each run. A run that is marked is in a scratch file.
    pub(super) fn new(
        readers: Vec<(RunReader<'a>, bool)>,
        scratch: &'a Scratch,
    ) -> Result<Tree<'a>, TaskError> {
        let count = readers.len();
        let heads = vec![Head { ended: true, prefix: 0 }; count];
        let mut tree = Tree { readers, heads, losers: vec![0; count.max(1)], winner: 0, scratch };
        for run in 0..count {
            tree.load(run)?;
        }
        // Leaf n is node `count + n`; the winners of all nodes are needed only here.
        let mut winners: Vec<u32> = vec![0; count];
        winners.extend(0..count as u32);
        for node in (1..count).rev() {
            let of = |node: usize| winners.get(node).copied().unwrap_or_default();
            let (left, right) = (of(2 * node), of(2 * node + 1));
            let left_wins = tree.precedes(left as usize, right as usize);
            let (winner, loser) = if left_wins { (left, right) } else { (right, left) };
            if let (Some(won), Some(lost)) = (winners.get_mut(node), tree.losers.get_mut(node)) {
                (*won, *lost) = (winner, loser);
            }
        }
        tree.winner =
            if count > 1 { winners.get(1).copied().unwrap_or_default() as usize } else { 0 };
        Ok(tree)
    }

    #[inline]
    pub(super) fn current(&self) -> Option<(&[u8], &[u8])> {
        let (reader, _) = self.readers.get(self.winner)?;
        let head = self.heads.get(self.winner)?;
        (!head.ended).then(|| (reader.key(), reader.value()))
    }

    #[inline]
    pub(super) fn advance(&mut self) -> Result<(), TaskError> {
        let mut winner = self.winner;
        self.load(winner)?;
        let mut node = (winner + self.readers.len()) / 2;
        while node > 0 {
            let Some(loser) = self.losers.get(node).copied() else { break };
            if self.precedes(loser as usize, winner) {
                if let Some(place) = self.losers.get_mut(node) {
                    *place = winner as u32;
                }
                winner = loser as usize;
            }
            node /= 2;
        }
        self.winner = winner;
        Ok(())
    }

    /// Goes to the next record of a run.
    #[inline]
    fn load(&mut self, run: usize) -> Result<(), TaskError> {
        let (Some((reader, in_scratch)), Some(head)) =
            (self.readers.get_mut(run), self.heads.get_mut(run))
        else {
            return Ok(());
        };
        match reader.advance() {
            Ok(true) => *head = Head { ended: false, prefix: sort_prefix(reader.key()) },
            Ok(false) => head.ended = true,
            Err(error) => return Err(blamed(error, *in_scratch, self.scratch)),
        }
        Ok(())
    }

    #[inline]
    fn precedes(&self, one: usize, two: usize) -> bool {
        let (Some(first), Some(second)) = (self.heads.get(one), self.heads.get(two)) else {
            return false;
        };
        if first.ended || second.ended {
            return !first.ended;
        }
        if first.prefix != second.prefix {
            return first.prefix < second.prefix;
        }
        let key = |run: usize| self.readers.get(run).map(|(reader, _)| reader.key());
        (key(one), one) < (key(two), two)
    }
}

/// A damaged scratch file is no map's fault.
#[cold]
fn blamed(error: ShuffleError, in_scratch: bool, scratch: &Scratch) -> TaskError {
    if in_scratch { scratch.error(&error) } else { TaskError::Shuffle(error) }
}
