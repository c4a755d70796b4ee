//! What the machine asks of the engine that holds one group's state.

use bytes::Bytes;
use kontiki_types::LogId;

/// Row changes of one commit: key and the row's bytes, `None` deletes. A key occurs at most once.
pub type WriteSet = Vec<(Bytes, Option<Bytes>)>;

/// One group's keyspace in a state engine: an ordered map from bytes to bytes that changes by
/// atomic commits.
pub trait Store {
    /// A view that later commits do not change.
    type View: StoreView;

    /// The row under `key`.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Up to `limit` rows with `from <= key < to`, in byte order of their keys.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Makes all changes of `batch` and `applied` visible as one, and drains `batch`. Nothing is
    /// durable on return; but whatever part of the past the engine keeps through a crash, it is
    /// whole commits, and [`Store::applied`] belongs to it.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn commit(&mut self, batch: &mut WriteSet, applied: LogId) -> Result<(), StoreError>;

    /// The log id given to the last commit, [`LogId::ZERO`] before the first.
    fn applied(&self) -> LogId;

    /// A view of the state as of the last commit.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn view(&self) -> Result<Self::View, StoreError>;
}

/// A consistent state of a [`Store`], readable from another thread while commits go on.
pub trait StoreView: Send {
    /// The row under `key`.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Up to `limit` rows with `from <= key < to`, in byte order of their keys.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn range(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError>;
}

/// The engine failed. What a failed commit left is unknown: the replica must stop and reopen.
#[derive(Debug, thiserror::Error)]
#[error("state engine: {source}")]
pub struct StoreError {
    source: Box<dyn std::error::Error + Send + Sync>,
    is_damage: bool,
}

impl StoreError {
    /// An engine's own error.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into(), is_damage: false }
    }

    /// What is stored cannot be read back.
    pub fn damage(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into(), is_damage: true }
    }

    /// Whether what is stored cannot be read back: the state must be made anew from elsewhere.
    pub fn is_damage(&self) -> bool {
        self.is_damage
    }
}
