//! Views: many keys as they were at one moment.

use bytes::Bytes;
use kontiki_net::proto::{
    CloseViewRequest, CutViewRequest, KeepViewRequest, KeyAndValue, OpenViewRequest,
    ReadViewRequest,
};

use crate::client::Client;
use crate::error::Error;
use crate::nodes::Node;
use crate::retry::Kind;

/// What a node says of a view that it has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The view.
    pub view: ViewId,
    /// It is the state as of this index of the group's log.
    pub applied_index: u64,
    /// Number of keys, about.
    pub keys: u64,
    /// Unused for so many milliseconds it is dropped.
    pub idle_ms: u64,
    /// All groups of the store: together they have all keys.
    pub groups: Vec<u32>,
    /// The configuration in which the group owns just what is in the view: views of all groups in
    /// the same one have each key once. 0 for a store that is not sharded.
    pub epoch: u64,
}

/// The number of a view on its node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ViewId(pub u64);

/// A key of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The log time in milliseconds from which on the key is gone; `None`: it stays.
    pub expires_at_ms: Option<u64>,
}

/// Some keys of a view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys with their values, in the order of their positions.
    pub rows: Vec<Row>,
    /// Keys that were looked at, with and without the prefix.
    pub looked_at: u64,
    /// What to read on behind; `None` at the end.
    pub last: Option<Bytes>,
}

/// Views are of one node, and so must the client be: connected to one address, without
/// [`discover`](crate::Options::discover).
impl Client {
    /// Opens a view of the keys of a group (0: of the first one) as of an index that is reached after
    /// the call began: it has every write that was acknowledged before.
    ///
    /// # Errors
    /// See [`Error`]; that too many views are open is one.
    ///
    /// # Cancel safety
    /// A view may have been opened, and is dropped when it was not used for a while.
    pub async fn open_view(&self, group: u32) -> Result<Opened, Error> {
        let attempt = |node: Node, request| async move { node.kv().open_view(request).await };
        let opened = self.call(Kind::Read, OpenViewRequest { group }, attempt).await?;
        Ok(Opened {
            view: ViewId(opened.view),
            applied_index: opened.applied_index,
            keys: opened.keys,
            idle_ms: opened.idle_ms,
            groups: opened.groups,
            epoch: opened.epoch,
        })
    }

    /// Keys that begin with `prefix`, at positions from `range.0` on and before `range.1`, behind the
    /// key `after` if there is one, until they come to about `bytes_max` (at most 1 MiB).
    ///
    /// # Errors
    /// [`Error::NotApplied`] if the view is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn read_view(
        &self,
        view: ViewId,
        prefix: &Bytes,
        range: (u64, u64),
        after: Option<Bytes>,
        bytes_max: u32,
    ) -> Result<Page, Error> {
        let (from, to) = range;
        let request =
            ReadViewRequest { view: view.0, prefix: prefix.clone(), from, to, after, bytes_max };
        let attempt = |node: Node, request| async move { node.kv().read_view(request).await };
        let page = self.call(Kind::Read, request, attempt).await?;
        let row = |pair: KeyAndValue| {
            let expires_at_ms = Some(pair.expires_at_ms).filter(|at| *at > 0);
            Row { key: pair.key, value: pair.value, expires_at_ms }
        };
        Ok(Page {
            rows: page.pairs.into_iter().map(row).collect(),
            looked_at: page.looked_at,
            last: page.last,
        })
    }

    /// Positions that cut the keys with `prefix` into at most so many parts: where the first one
    /// begins, the second one, and so on; at last where the last one ends.
    ///
    /// # Errors
    /// As [`Client::read_view`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cut_view(
        &self,
        view: ViewId,
        prefix: &Bytes,
        parts: u32,
    ) -> Result<Vec<u64>, Error> {
        let request = CutViewRequest { view: view.0, prefix: prefix.clone(), parts };
        let attempt = |node: Node, request| async move { node.kv().cut_view(request).await };
        Ok(self.call(Kind::Read, request, attempt).await?.positions)
    }

    /// Says that the view is still wanted.
    ///
    /// # Errors
    /// As [`Client::read_view`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn keep_view(&self, view: ViewId) -> Result<(), Error> {
        let attempt = |node: Node, request| async move { node.kv().keep_view(request).await };
        self.call(Kind::Read, KeepViewRequest { view: view.0 }, attempt).await.map(drop)
    }

    /// Says that the view is not wanted any more.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn close_view(&self, view: ViewId) -> Result<(), Error> {
        let attempt = |node: Node, request| async move { node.kv().close_view(request).await };
        self.call(Kind::Read, CloseViewRequest { view: view.0 }, attempt).await.map(drop)
    }
}
