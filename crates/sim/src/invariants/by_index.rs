//! What is remembered of each place in a log. Places are looked at more or less in order, and all
//! of them, so this is a list and not a map.

use kontiki_types::Index;

#[derive(Debug)]
pub(super) struct ByIndex<T>(Vec<Option<T>>);

impl<T> Default for ByIndex<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Copy> ByIndex<T> {
    /// What is known of `index`; `first`, if that is nothing.
    #[inline]
    pub(super) fn get_or_insert(&mut self, index: Index, first: T) -> T {
        let at = index.0 as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        *self.0[at].get_or_insert(first)
    }

    pub(super) fn get(&self, index: Index) -> Option<T> {
        self.0.get(index.0 as usize).copied().flatten()
    }

    /// What is known from `first` on.
    pub(super) fn from(&self, first: Index) -> impl Iterator<Item = (Index, T)> + '_ {
        let known = self.0.iter().enumerate().skip(first.0 as usize);
        known.filter_map(|(at, of)| Some((Index(at as u64), (*of)?)))
    }

    /// The last place of which something is known.
    pub(super) fn last(&self) -> Option<Index> {
        self.0.iter().rposition(Option::is_some).map(|at| Index(at as u64))
    }
}
