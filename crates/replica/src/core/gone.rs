//! Nodes that were removed from the cluster. They are shown no more from the moment on at which the
//! configuration is heard of that says so. As long as such a node is alive it still hears what is
//! said, this above all, so that it can end in peace; when it is silent it is forgotten.

use kontiki_shard::Configuration;
use kontiki_types::{Incarnation, NodeId};

use super::{Core, Effect};

impl Core {
    /// Whether this directory of a node was removed from the cluster.
    pub(super) fn is_gone(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.configuration().is_some_and(|known| known.is_gone(node, incarnation))
    }

    /// A newer configuration was heard of: it may say that this node was removed.
    pub(super) fn look_at_gone(&mut self) {
        if self.is_gone(self.me.id, self.me.incarnation) {
            self.effects.push(Effect::Dismissed);
        }
    }

    /// Forgets the nodes that were removed and are silent.
    pub(super) fn forget_gone(&mut self) {
        if self.configuration().map(Configuration::gone).is_none_or(<[_]>::is_empty) {
            return;
        }
        let silent = |node: NodeId| !self.is_alive(node);
        let infos = self.infos.values().filter(|info| self.is_gone(info.id, info.incarnation));
        let gone: Vec<NodeId> = infos.map(|info| info.id).filter(|node| silent(*node)).collect();
        for node in gone {
            self.infos.remove(&node);
            self.effects.push(Effect::Forget(node));
        }
    }
}
