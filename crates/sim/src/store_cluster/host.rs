//! A simulated node as its connections see it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kontiki_replica::{Atlas, Description, Host, KillFilter, Redirect};
use kontiki_types::{LogTime, NodeId};

use crate::random::Random;

/// The clocks of a node at one moment, and nothing to configure.
pub(super) struct SimHost<'a> {
    pub(super) id: NodeId,
    pub(super) log_time: LogTime,
    pub(super) wall: LogTime,
    pub(super) random: RefCell<&'a mut Random>,
    pub(super) atlas: &'a Arc<Atlas>,
}

impl Host for SimHost<'_> {
    fn log_time(&self) -> LogTime {
        self.log_time
    }

    fn atlas(&self) -> Arc<Atlas> {
        Arc::clone(self.atlas)
    }

    fn node_id(&self) -> NodeId {
        self.id
    }

    fn redirect(&self) -> Redirect {
        Redirect::Auto
    }

    fn note_asked(&self, _id: u64, _library: &str) {}

    fn has_asked(&self, _id: u64, _library: &str) -> bool {
        false
    }

    fn asked_changes(&self) -> u64 {
        0
    }

    fn wall_clock(&self) -> Duration {
        Duration::from_millis(self.wall.0)
    }

    fn random(&self) -> u64 {
        self.random.borrow_mut().number()
    }

    fn authenticate(&self, _user: &[u8], _password: &[u8]) -> Option<bool> {
        None
    }

    fn info(&self, _sections: &[String]) -> String {
        String::new()
    }

    fn client_list(&self, _ids: &[u64]) -> String {
        String::new()
    }

    fn describe(&self, _id: u64, _description: &Description) {}

    fn client_kill(&self, _filter: &KillFilter) -> usize {
        0
    }

    fn config_get(&self, _patterns: &[Bytes]) -> Vec<(String, String)> {
        Vec::new()
    }

    fn config_set(&self, name: &str, _value: &[u8]) -> Result<(), String> {
        Err(format!("{name} cannot be set in a simulation"))
    }

    fn replicas_in_quorum(&self) -> usize {
        1
    }

    fn slow_commands(&self) -> u64 {
        0
    }
}
