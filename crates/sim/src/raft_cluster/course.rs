//! What the scenarios of the course's suites ask of a cluster. Positions count client commands from
//! 1, not entries.

use std::time::Duration;

use kontiki_raft::Role;
use kontiki_types::{LogId, NodeId, Term};

use super::RaftCluster;
use crate::invariants::Violation;

impl RaftCluster {
    /// The one leader among the nodes that are reachable, within 5 s.
    ///
    /// # Errors
    /// There is none.
    pub fn check_one_leader(&mut self) -> Result<NodeId, Violation> {
        for _ in 0..10 {
            let pause = self.random.time(Duration::from_millis(450), Duration::from_millis(550));
            self.run(pause)?;
            if let Some(leader) = self.connected_leader() {
                return Ok(leader);
            }
        }
        Err(Violation::new("A majority elects a leader", "nobody leads after 5 s"))
    }

    /// Who leads the latest term among those that are reachable.
    pub fn connected_leader(&self) -> Option<NodeId> {
        self.nodes
            .ids()
            .filter(|&id| self.is_connected(id))
            .filter_map(|id| Some((id, self.role(id)?)))
            .filter(|(_, (role, _))| *role == Role::Leader)
            .max_by_key(|&(_, (_, term))| term)
            .map(|(id, _)| id)
    }

    /// The term on which all reachable nodes agree.
    ///
    /// # Errors
    /// They do not agree.
    pub fn check_terms(&self) -> Result<Term, Violation> {
        let terms: Vec<_> = self
            .node_ids()
            .into_iter()
            .filter(|&id| self.is_connected(id))
            .filter_map(|id| Some(self.role(id)?.1))
            .collect();
        match terms.as_slice() {
            [first, rest @ ..] if rest.iter().all(|term| term == first) => Ok(*first),
            _ => Err(Violation::new("A quiet cluster is in one term", format!("{terms:?}"))),
        }
    }

    /// How many nodes have applied the command at `position`.
    pub fn committed(&self, position: u64) -> usize {
        self.nodes
            .values()
            .filter(|node| node.machine.state.commands.len() as u64 >= position)
            .count()
    }

    /// The command at `position`, once somebody has applied it.
    pub fn command(&self, position: u64) -> Option<Vec<u8>> {
        let at = usize::try_from(position).ok()?.checked_sub(1)?;
        self.nodes.values().find_map(|node| Some(node.machine.state.commands.get(at)?.to_vec()))
    }

    /// How many commands a node has applied.
    pub fn applied(&self, id: NodeId) -> u64 {
        self.nodes[&id].machine.state.commands.len() as u64
    }

    /// Which command an entry of a node's log is.
    pub fn position(&self, id: NodeId, entry: LogId) -> u64 {
        let node = &self.nodes[&id];
        let state = &node.machine.state;
        state.commands.len() as u64 + node.view.commands(state.index, entry.index)
    }

    /// Proposes a command at a node; the position where it will be if it is committed.
    pub fn start(&mut self, id: NodeId, command: &str) -> Option<(u64, Term)> {
        let entry = self.propose(id, command.as_bytes())?;
        Some((self.position(id, entry), entry.term))
    }

    /// Proposes a command wherever somebody reachable leads, and waits up to 2 s until `expected`
    /// nodes have applied it; tries again for 10 s if `retry`. Its position.
    ///
    /// # Errors
    /// That was in vain.
    pub fn agree(&mut self, command: &str, expected: usize, retry: bool) -> Result<u64, Violation> {
        let end = self.now + Duration::from_secs(10);
        while self.now < end {
            let leaders = self.node_ids().into_iter().filter(|&id| self.is_connected(id));
            let started = leaders
                .collect::<Vec<_>>()
                .into_iter()
                .find_map(|id| self.start(id, command).map(|(position, _)| position));
            let Some(position) = started else {
                self.run(Duration::from_millis(50))?;
                continue;
            };
            let until = self.now + Duration::from_secs(2);
            let agreed = self.run_until(until, |cluster| {
                cluster.committed(position) >= expected
                    && cluster.command(position).as_deref() == Some(command.as_bytes())
            })?;
            if agreed {
                return Ok(position);
            }
            if !retry {
                break;
            }
        }
        let seen = format!("{expected} nodes did not agree on {command}");
        Err(Violation::new("A majority agrees", seen))
    }

    /// Waits until `expected` nodes have applied the command at `position`; `None` if somebody
    /// reached another term than `term` in the meantime.
    ///
    /// # Errors
    /// Neither happened within 5 s.
    pub fn wait(
        &mut self,
        position: u64,
        expected: usize,
        term: Term,
    ) -> Result<Option<Vec<u8>>, Violation> {
        let end = self.now + Duration::from_secs(5);
        let moved_on = |cluster: &Self| {
            cluster
                .node_ids()
                .into_iter()
                .any(|id| cluster.role(id).is_some_and(|(_, of)| of > term))
        };
        self.run_until(end, |cluster| {
            cluster.committed(position) >= expected || moved_on(cluster)
        })?;
        if self.committed(position) >= expected {
            return Ok(self.command(position));
        }
        if moved_on(self) {
            return Ok(None);
        }
        let seen = format!("only {} have command {position}", self.committed(position));
        Err(Violation::new("A majority agrees", seen))
    }
}
