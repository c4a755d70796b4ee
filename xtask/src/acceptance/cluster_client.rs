//! A client of Redis Cluster, as stock ones are: it asks for the map of slots, goes where `MOVED`
//! sends it, and waits a little at `TRYAGAIN`. Independent of the code under test.

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::client::{Client, Reply};
use super::wait;

/// A stock client gives up after so many; redis-py after 16.
const REDIRECTIONS_MAX: u32 = 16;
/// As redis-py waits.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Connections to the nodes of a cluster, for keys of one slot.
pub struct ClusterClient {
    slot: u16,
    /// Who has the slot, as last heard.
    at: SocketAddr,
    connections: BTreeMap<SocketAddr, Client>,
    /// How often it was sent elsewhere, and told to try again.
    pub moved: u64,
    pub told_to_wait: u64,
}

/// What a refusal asks for.
#[derive(PartialEq, Eq, Debug)]
enum Advice {
    Elsewhere(SocketAddr),
    Later,
}

impl ClusterClient {
    /// Asks the node at `seed` for the map.
    pub fn connect(seed: SocketAddr, slot: u16) -> Result<ClusterClient> {
        let mut client = connection(seed)?;
        let map = client.call(&["CLUSTER", "SLOTS"])?;
        let at = master(&map, slot).with_context(|| format!("nobody has slot {slot}: {map:?}"))?;
        let connections = BTreeMap::from([(seed, client)]);
        Ok(ClusterClient { slot, at, connections, moved: 0, told_to_wait: 0 })
    }

    /// Sends one command about a key of the slot.
    pub fn call(&mut self, words: &[&str]) -> Result<Reply> {
        let replies = self.try_until_served(&[words], |replies| advice(replies.first()?))?;
        replies.into_iter().next().context("a reply")
    }

    /// Commands in one transaction, again from its beginning if it was not executed.
    pub fn transaction(&mut self, commands: &[&[&str]]) -> Result<Reply> {
        let multi: &[&[&str]] = &[&["MULTI"]];
        let exec: &[&[&str]] = &[&["EXEC"]];
        let all = [multi, commands, exec].concat();
        // Redirected while it is queued, EXEC aborts it; both mean that nothing was executed.
        let mut replies = self.try_until_served(&all, |replies| replies.iter().find_map(advice))?;
        replies.pop().context("a reply to EXEC")
    }

    fn try_until_served(
        &mut self,
        commands: &[&[&str]],
        refused: impl Fn(&[Reply]) -> Option<Advice>,
    ) -> Result<Vec<Reply>> {
        for _ in 0..REDIRECTIONS_MAX {
            let client = match self.connections.entry(self.at) {
                std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
                std::collections::btree_map::Entry::Vacant(none) => {
                    none.insert(connection(self.at)?)
                }
            };
            for command in commands {
                let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
                client.add(&words);
            }
            client.send()?;
            let replies = commands.iter().map(|_| client.reply());
            let replies = replies.collect::<std::io::Result<Vec<Reply>>>()?;
            match refused(&replies) {
                None => return Ok(replies),
                Some(Advice::Elsewhere(at)) => {
                    self.moved += 1;
                    self.at = at;
                }
                Some(Advice::Later) => {
                    self.told_to_wait += 1;
                    wait::let_pass(TRY_AGAIN_AFTER);
                }
            }
        }
        bail!("slot {}: sent elsewhere {REDIRECTIONS_MAX} times", self.slot)
    }
}

fn connection(at: SocketAddr) -> Result<Client> {
    let mut client = Client::connect(at).with_context(|| format!("cannot connect to {at}"))?;
    // What stock clients say of themselves; by it a node knows who follows MOVED.
    client.call(&["CLIENT", "SETINFO", "LIB-NAME", "xtask-cluster"])?;
    Ok(client)
}

fn advice(reply: &Reply) -> Option<Advice> {
    let Reply::Error(line) = reply else { return None };
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["MOVED", _, at] => Some(Advice::Elsewhere(at.parse().ok()?)),
        ["TRYAGAIN", ..] => Some(Advice::Later),
        _ => None,
    }
}

/// The first node of the range that has the slot, in an answer to CLUSTER SLOTS.
fn master(map: &Reply, slot: u16) -> Option<SocketAddr> {
    let Reply::Array(ranges) = map else { return None };
    ranges.iter().find_map(|range| {
        let Reply::Array(parts) = range else { return None };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(node), ..] = &parts[..]
        else {
            return None;
        };
        if !(*first..=*last).contains(&i64::from(slot)) {
            return None;
        }
        let [Reply::Bulk(host), Reply::Integer(port), ..] = &node[..] else { return None };
        format!("{}:{port}", String::from_utf8_lossy(host)).parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_maps_are_understood() {
        let error = |line: &str| Reply::Error(line.to_string());
        let elsewhere = "127.0.0.1:7003".parse().map(Advice::Elsewhere).ok();
        assert_eq!(advice(&error("MOVED 3 127.0.0.1:7003")), elsewhere);
        assert_eq!(advice(&error("TRYAGAIN slot 3 is on its way")), Some(Advice::Later));
        assert_eq!(advice(&error("EXECABORT it was refused")), None);
        assert_eq!(advice(&Reply::Integer(1)), None);
        let node = Reply::Array(vec![Reply::Bulk(b"127.0.0.1".to_vec()), Reply::Integer(7001)]);
        let range = Reply::Array(vec![Reply::Integer(5), Reply::Integer(9), node]);
        let map = Reply::Array(vec![range]);
        assert_eq!(master(&map, 7), "127.0.0.1:7001".parse().ok());
        assert_eq!(master(&map, 10), None);
    }
}
