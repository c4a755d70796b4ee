//! Looking at the cluster and changing it.

use kontiki_net::proto::{
    AddReplicaRequest, ClusterStatusRequest, RemoveReplicaRequest, ReshapeRequest, SlotsRequest,
    TransferRequest,
};

use crate::client::Client;
use crate::error::Error;
use crate::nodes::Node;
use crate::retry::Kind;

pub use kontiki_net::proto::{
    AddNode, CancelMoves, DrainNode, EnableSharding, ForgetNode, JoinGroup, LeaveGroup, MovePhase,
    MoveSlots, Rebalance, ReshapeResponse as Reshaped, SlotGroup, SlotMove, SlotRange,
    SlotsResponse as Slots, reshape_request::Change,
};
pub use kontiki_net::proto::{
    ChangeResponse as Members, ClusterStatusResponse as ClusterStatus, GroupStatus, NodeStatus,
    ReplicaStatus,
};

impl Client {
    /// Nodes and groups as the answering node sees them; not linearizable.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        let request = ClusterStatusRequest {};
        let attempt =
            |node: Node, request| async move { node.admin().cluster_status(request).await };
        self.call(Kind::Read, request, attempt).await
    }

    /// Asks the leader of `group` to hand over to node `to`; returns the leader after that.
    ///
    /// # Errors
    /// [`Error::Unknown`] if no answer came: look at [`Client::cluster_status`].
    ///
    /// # Cancel safety
    /// The transfer may go on when the future is dropped.
    pub async fn transfer(&self, group: u32, to: u64) -> Result<u64, Error> {
        let request = TransferRequest { group, to };
        let attempt = |node: Node, request| async move { node.admin().transfer(request).await };
        Ok(self.call(Kind::Unstamped, request, attempt).await?.leader)
    }

    /// Adds a replica of `group` on `node` and returns the members once it votes.
    ///
    /// # Errors
    /// [`Error::Unknown`] if no answer came: the change may go on; look at
    /// [`Client::cluster_status`].
    ///
    /// # Cancel safety
    /// The change may go on when the future is dropped.
    pub async fn add_replica(&self, group: u32, node: u64) -> Result<Members, Error> {
        let request = AddReplicaRequest { group, node };
        let attempt = |node: Node, request| async move { node.admin().add_replica(request).await };
        self.call(Kind::Unstamped, request, attempt).await
    }

    /// Removes the replica of `group` from `node` and returns the members that are left.
    ///
    /// # Errors
    /// As [`Client::add_replica`].
    ///
    /// # Cancel safety
    /// As [`Client::add_replica`].
    pub async fn remove_replica(&self, group: u32, node: u64) -> Result<Members, Error> {
        let request = RemoveReplicaRequest { group, node };
        let attempt =
            |node: Node, request| async move { node.admin().remove_replica(request).await };
        self.call(Kind::Unstamped, request, attempt).await
    }

    /// Configuration number `epoch`, the current one if `None`, with the moves that are under way
    /// now; linearizable.
    ///
    /// # Errors
    /// [`Error::NotApplied`] if the store is not sharded, or there is no such configuration (yet,
    /// or any more).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn slots(&self, epoch: Option<u64>) -> Result<Slots, Error> {
        let request = SlotsRequest { epoch };
        let attempt = |node: Node, request| async move { node.admin().slots(request).await };
        self.call(Kind::Read, request, attempt).await
    }

    /// Changes which groups there are, which slots they have, or where their replicas are. Returns
    /// when the controller has the change in its log; slots and replicas move after that.
    ///
    /// # Errors
    /// [`Error::Unknown`] if no answer came: look at [`Client::slots`].
    ///
    /// # Cancel safety
    /// The change may take effect when the future is dropped.
    pub async fn reshape(&self, change: Change) -> Result<Reshaped, Error> {
        let request = ReshapeRequest { change: Some(change) };
        let attempt = |node: Node, request| async move { node.admin().reshape(request).await };
        self.call(Kind::Unstamped, request, attempt).await
    }
}
