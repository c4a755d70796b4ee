//! Bugs planted on purpose: those of `kontiki_types::plant`, which the simulator plants in a whole
//! process. The tests of this crate plant them for one thread, so that the model is seen to find them.
//! In every other build [`planted`] is a constant `false`, and so no code at all.

pub(crate) use kontiki_types::plant::Plant;
#[cfg(not(test))]
pub(crate) use kontiki_types::plant::planted;

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
