//! Views of a whole store: one of each group, which together have each key once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::client::Client;
use crate::error::{Error, Reason};
use crate::options::Options;
use crate::view::Opened;

/// How long a node has to say that it is there: the others have replicas, too.
const REACH_WITHIN: Duration = Duration::from_secs(2);

/// Between two attempts to find all groups in one configuration.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two signs that views are wanted, as a part of the time after which they are dropped.
const KEEP_EVERY: u64 = 4;

/// Views of all groups, in their order. As long as this lives the views do, too, unless their node
/// ends.
pub struct Views {
    /// One of each group.
    pub groups: Vec<GroupView>,
    keeping: JoinHandle<()>,
}

impl Views {
    fn new(groups: Vec<GroupView>) -> Self {
        let idle = groups.iter().map(|view| view.opened.idle_ms).min().unwrap_or_default();
        let every = Duration::from_millis((idle / KEEP_EVERY).max(1));
        let kept = groups.clone();
        let keeping = tokio::spawn(async move {
            loop {
                sleep(every).await;
                for view in &kept {
                    // Whoever reads it is told that it is gone.
                    let _ = view.node.keep_view(view.opened.view).await;
                }
            }
        });
        Self { groups, keeping }
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// A view of one group.
#[derive(Clone)]
pub struct GroupView {
    /// The group.
    pub group: u32,
    /// The address of the node with the view.
    pub address: String,
    /// A client of just that node.
    pub node: Client,
    /// What the node says of it.
    pub opened: Opened,
}

impl Client {
    /// Opens a view of each group, all in the same configuration of slots, so that together they
    /// have each key once, also while slots move. Each is as of an index of its group that was
    /// reached after the call began; there is no one moment for all of them.
    ///
    /// Where slots move between two of them, they are opened again, for
    /// [`Options::timeout`](crate::Options::timeout).
    ///
    /// # Errors
    /// See [`Error`]: a group of which no node can give a view, or slots that never stood still.
    ///
    /// # Cancel safety
    /// As [`Client::open_view`].
    pub async fn open_views(&self) -> Result<Views, Error> {
        let end = Instant::now() + self.options().timeout;
        let nodes = self.each_node().await?;
        let mut problem = None;
        loop {
            match open_once(&nodes).await {
                Ok(Some(views)) => return Ok(Views::new(views)),
                Ok(None) => {}
                // Slots that are on their way, a group without a leader.
                Err(error @ Error::MayRetry { .. }) => problem = Some(error),
                Err(error) => return Err(error),
            }
            if Instant::now() >= end {
                let message = "slots move all the time: groups were not found in one configuration";
                return Err(problem.unwrap_or_else(|| Error::MayRetry {
                    reason: Reason::Conflict,
                    message: message.to_owned(),
                }));
            }
            sleep(PAUSE).await;
        }
    }

    /// A client of each node that can be reached, those first that were given.
    async fn each_node(&self) -> Result<Vec<(String, Client)>, Error> {
        let timeout = self.options().timeout;
        let mut calls = JoinSet::new();
        for (place, address) in self.addresses().into_iter().enumerate() {
            let options =
                Options { discover: false, timeout: timeout.min(REACH_WITHIN), ..self.options() };
            calls
                .spawn(async move { (Client::connect([&address], options).await, place, address) });
        }
        let (mut nodes, mut problem) = (Vec::new(), None);
        while let Some(connected) = calls.join_next().await {
            match connected {
                Ok((Ok(client), place, address)) => nodes.push((place, address, client)),
                Ok((Err(error), ..)) => problem = Some(error),
                Err(error) => problem = Some(internal(&error)),
            }
        }
        nodes.sort_by_key(|(place, ..)| *place);
        match problem {
            Some(error) if nodes.is_empty() => Err(error),
            _ => Ok(nodes.into_iter().map(|(_, address, client)| (address, client)).collect()),
        }
    }
}

fn internal(error: &tokio::task::JoinError) -> Error {
    Error::Unknown { reason: Reason::Internal, message: error.to_string() }
}

/// One attempt; `None` if slots moved between two views.
async fn open_once(nodes: &[(String, Client)]) -> Result<Option<Vec<GroupView>>, Error> {
    let first = open(nodes.to_vec(), 0).await?;
    // Which group it is of: the one that 0 stands for.
    let groups: BTreeSet<u32> = first.opened.groups.iter().copied().collect();
    let number = first.opened.groups.first().copied().unwrap_or(first.group);
    let mut views = vec![GroupView { group: number, ..first }];
    let mut calls = JoinSet::new();
    for group in groups.iter().copied().filter(|group| *group != number) {
        // Each begins with another node, so that none has all of the work.
        let mut nodes = nodes.to_vec();
        let first = group as usize % nodes.len().max(1);
        nodes.rotate_left(first);
        calls.spawn(open(nodes, group));
    }
    let mut failed = None;
    while let Some(opened) = calls.join_next().await {
        match opened.map_err(|error| internal(&error)).flatten() {
            Ok(view) => views.push(view),
            Err(error) => failed = Some(error),
        }
    }
    views.sort_by_key(|view| view.group);
    let epochs: BTreeSet<u64> = views.iter().map(|view| view.opened.epoch).collect();
    if failed.is_none() && epochs.len() == 1 {
        return Ok(Some(views));
    }
    for view in views {
        // A kindness: it would be dropped by itself.
        let _ = view.node.close_view(view.opened.view).await;
    }
    failed.map_or(Ok(None), Err)
}

/// Opens a view of a group at the first of some nodes that can.
async fn open(nodes: Vec<(String, Client)>, group: u32) -> Result<GroupView, Error> {
    let mut problem = Error::not_applied(Reason::Unreachable, "no node could be reached");
    for (address, node) in nodes {
        match node.open_view(group).await {
            Ok(opened) => return Ok(GroupView { group, address, node, opened }),
            // Another node may do.
            Err(error) => problem = error,
        }
    }
    Err(problem)
}
