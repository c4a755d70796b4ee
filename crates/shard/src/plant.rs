//! Bugs that the model test plants, so that it is seen to find them.
//!
//! As `kontiki_types::plant`, where the bugs stand that the simulator finds; these are planted for
//! one thread, in the tests of this crate alone. In every other build [`planted`] is a constant
//! `false`, and so no code at all.

/// A mistake in the handoff of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// Completion records stay behind when a slot moves (PROTOCOL 1).
    RecordsLeftBehind,
    /// A group does not ask whether it has heard of a later move of the slot (PROTOCOL 9).
    TagsForgotten,
    /// The deletion of a slot's rows does not ask of which incarnation they are (PROTOCOL 9).
    DeleterWithoutIncarnation,
    /// A commit counts for the move, whichever attempt it names (PROTOCOL 10).
    CommitOfOldAttempt,
    /// A source that has waited for long serves its slots again by itself (PROTOCOL 10).
    UnfreezeByTimer,
    /// Which keys have changed is known to the source's leader only (PROTOCOL 11).
    DeltaInMemory,
    /// Chunks are taken in whatever order they come, from whichever leader (PROTOCOL 11).
    ChunksOutOfOrder,
    /// The target serves when everything has arrived, without the controller's commit.
    OwnershipByReply,
    /// Whether the slot is frozen is asked when a write is proposed, not when it is applied.
    CheckAtProposeOnly,
    /// The source lets go when the target has everything, before the commit.
    DroppedBeforeCommit,
}

/// Whether this bug is planted.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn planted(_: Plant) -> bool {
    false
}

#[cfg(test)]
pub(crate) use on::{Planted, planted};

#[cfg(test)]
mod on {
    use std::cell::Cell;

    use super::Plant;

    thread_local! {
        static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
    }

    /// Whether this bug is planted.
    pub(crate) fn planted(plant: Plant) -> bool {
        PLANTED.get() == Some(plant)
    }

    /// The bug is there, in this thread, as long as this value.
    pub(crate) struct Planted(());

    impl Planted {
        pub(crate) fn new(plant: Plant) -> Self {
            PLANTED.set(Some(plant));
            Self(())
        }
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
}
