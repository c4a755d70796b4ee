//! The nodes of a cluster by their ids, which are 1, 2, 3 and so on.

use std::ops::Index;

use kontiki_types::NodeId;

/// See the module. A list and not a map, since each step looks a node up several times.
pub(super) struct Nodes<N>(Vec<N>);

impl<N> Nodes<N> {
    /// The first is node 1.
    pub(super) fn new(nodes: impl Iterator<Item = N>) -> Self {
        Self(nodes.collect())
    }

    pub(super) fn get(&self, id: &NodeId) -> Option<&N> {
        self.0.get((id.0 as usize).wrapping_sub(1))
    }

    pub(super) fn get_mut(&mut self, id: &NodeId) -> Option<&mut N> {
        self.0.get_mut((id.0 as usize).wrapping_sub(1))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<N> {
        (1..=self.0.len() as u64).map(NodeId)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &N> {
        self.0.iter()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut N> {
        self.0.iter_mut()
    }
}

impl<N> Index<&NodeId> for Nodes<N> {
    type Output = N;

    fn index(&self, id: &NodeId) -> &N {
        &self.0[id.0 as usize - 1]
    }
}
