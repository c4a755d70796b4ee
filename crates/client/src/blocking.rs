//! The client for programs without an async runtime.

use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::admin::{Change, ClusterStatus, Members, Reshaped, Slots};
use crate::error::{Error, Reason};
use crate::options::Options;
use crate::types::{Compare, Op, OpResult, Status, Version, Versioned};

/// [`crate::Client`] with calls that wait. Clones are the same client; threads may share it.
///
/// Owns a runtime with one thread, which also keeps the connections alive between calls.
///
/// # Panics
/// All calls panic when made from within an async runtime: use [`crate::Client`] there.
#[derive(Clone, Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// As [`crate::Client::connect`].
    ///
    /// # Errors
    /// As [`crate::Client::connect`].
    pub fn connect<A: AsRef<str>>(
        addresses: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, Error> {
        let runtime = runtime()?;
        let client = runtime.block_on(crate::Client::connect(addresses, options))?;
        Ok(Self { client, runtime: Arc::new(runtime) })
    }

    /// As [`crate::Client::for_operators`].
    ///
    /// # Errors
    /// As [`crate::Client::for_operators`].
    pub fn for_operators<A: AsRef<str>>(
        addresses: impl IntoIterator<Item = A>,
        options: Options,
    ) -> Result<Self, Error> {
        let runtime = runtime()?;
        let client = {
            let _within = runtime.enter();
            crate::Client::for_operators(addresses, options)?
        };
        Ok(Self { client, runtime: Arc::new(runtime) })
    }

    /// As [`crate::Client::get`].
    ///
    /// # Errors
    /// As [`crate::Client::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Versioned>, Error> {
        self.runtime.block_on(self.client.get(key))
    }

    /// As [`crate::Client::set`].
    ///
    /// # Errors
    /// As [`crate::Client::set`].
    pub fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Version, Error> {
        self.runtime.block_on(self.client.set(key, value))
    }

    /// As [`crate::Client::put_if_version`].
    ///
    /// # Errors
    /// As [`crate::Client::put_if_version`].
    pub fn put_if_version(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        version: Version,
    ) -> Result<Version, Error> {
        self.runtime.block_on(self.client.put_if_version(key, value, version))
    }

    /// As [`crate::Client::append`].
    ///
    /// # Errors
    /// As [`crate::Client::append`].
    pub fn append(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<u64, Error> {
        self.runtime.block_on(self.client.append(key, value))
    }

    /// As [`crate::Client::delete`].
    ///
    /// # Errors
    /// As [`crate::Client::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, Error> {
        self.runtime.block_on(self.client.delete(key))
    }

    /// As [`crate::Client::batch`].
    ///
    /// # Errors
    /// As [`crate::Client::batch`].
    pub fn batch(&self, ops: impl IntoIterator<Item = Op>) -> Result<Vec<OpResult>, Error> {
        self.runtime.block_on(self.client.batch(ops))
    }

    /// As [`crate::Client::transaction`].
    ///
    /// # Errors
    /// As [`crate::Client::transaction`].
    pub fn transaction(
        &self,
        compares: impl IntoIterator<Item = Compare>,
        ops: impl IntoIterator<Item = Op>,
    ) -> Result<Option<Vec<OpResult>>, Error> {
        self.runtime.block_on(self.client.transaction(compares, ops))
    }

    /// As [`crate::Client::status`].
    ///
    /// # Errors
    /// As [`crate::Client::status`].
    pub fn status(&self) -> Result<Status, Error> {
        self.runtime.block_on(self.client.status())
    }

    /// As [`crate::Client::cluster_status`].
    ///
    /// # Errors
    /// As [`crate::Client::cluster_status`].
    pub fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        self.runtime.block_on(self.client.cluster_status())
    }

    /// As [`crate::Client::transfer`].
    ///
    /// # Errors
    /// As [`crate::Client::transfer`].
    pub fn transfer(&self, group: u32, to: u64) -> Result<u64, Error> {
        self.runtime.block_on(self.client.transfer(group, to))
    }

    /// As [`crate::Client::add_replica`].
    ///
    /// # Errors
    /// As [`crate::Client::add_replica`].
    pub fn add_replica(&self, group: u32, node: u64) -> Result<Members, Error> {
        self.runtime.block_on(self.client.add_replica(group, node))
    }

    /// As [`crate::Client::remove_replica`].
    ///
    /// # Errors
    /// As [`crate::Client::remove_replica`].
    pub fn remove_replica(&self, group: u32, node: u64) -> Result<Members, Error> {
        self.runtime.block_on(self.client.remove_replica(group, node))
    }

    /// As [`crate::Client::slots`].
    ///
    /// # Errors
    /// As [`crate::Client::slots`].
    pub fn slots(&self, epoch: Option<u64>) -> Result<Slots, Error> {
        self.runtime.block_on(self.client.slots(epoch))
    }

    /// As [`crate::Client::reshape`].
    ///
    /// # Errors
    /// As [`crate::Client::reshape`].
    pub fn reshape(&self, change: Change) -> Result<Reshaped, Error> {
        self.runtime.block_on(self.client.reshape(change))
    }
}

fn runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("kontiki-client")
        .enable_all()
        .build()
        .map_err(|error| Error::not_applied(Reason::Internal, error.to_string()))
}
