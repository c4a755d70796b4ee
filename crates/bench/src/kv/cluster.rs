//! Which node of a Redis Cluster serves a key.

use kontiki_resp::Reply;
use kontiki_types::{SLOTS, Slot};

/// The addresses of the nodes that lead, and for each slot the index of its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SlotMap {
    pub addresses: Vec<String>,
    slots: Vec<usize>,
}

/// Where an operation is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub slot: u16,
    pub address: String,
    /// For this operation only, after `ASKING`.
    pub asks: bool,
}

impl SlotMap {
    /// Everything at one address.
    pub(crate) fn single(address: &str) -> Self {
        Self { addresses: vec![address.to_owned()], slots: vec![0; usize::from(SLOTS)] }
    }

    /// Reads the reply of `CLUSTER SLOTS`; a node without a host name is at `default_host`.
    /// `None` if it is something else, or a slot is served by nobody.
    pub(crate) fn parse(reply: &Reply, default_host: &str) -> Option<Self> {
        let Reply::Array(ranges) = reply else { return None };
        let mut map = Self { addresses: Vec::new(), slots: vec![usize::MAX; usize::from(SLOTS)] };
        for range in ranges {
            let Reply::Array(range) = range else { return None };
            let [Reply::Integer(first), Reply::Integer(last), Reply::Array(leader), ..] =
                range.as_slice()
            else {
                return None;
            };
            let [host, Reply::Integer(port), ..] = leader.as_slice() else { return None };
            let host = match host {
                Reply::Bulk(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
                _ => default_host,
            };
            let node = map.node(&format!("{host}:{port}"));
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            map.slots.get_mut(first..=last)?.fill(node);
        }
        map.slots.iter().all(|node| *node != usize::MAX).then_some(map)
    }

    /// The index of the node that serves `key`.
    pub(crate) fn node_of(&self, key: &[u8]) -> usize {
        match self.addresses.len() {
            1 => 0,
            _ => self.slots[usize::from(Slot::of(key).get())],
        }
    }

    /// The index of the node at `address`, which may be new.
    pub(crate) fn node(&mut self, address: &str) -> usize {
        let found = self.addresses.iter().position(|known| known == address);
        found.unwrap_or_else(|| {
            self.addresses.push(address.to_owned());
            self.addresses.len() - 1
        })
    }

    /// Remembers where a slot has gone; returns the index of its node.
    pub(crate) fn learn(&mut self, redirect: &Redirect) -> usize {
        let node = self.node(&redirect.address);
        if let (false, Some(slot)) = (redirect.asks, self.slots.get_mut(usize::from(redirect.slot)))
        {
            *slot = node;
        }
        node
    }
}

impl Redirect {
    /// Reads the text of an error such as `MOVED 3999 127.0.0.1:6381`.
    pub(crate) fn parse(error: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(error).ok()?.split(' ');
        let asks = match words.next()? {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        let slot = words.next()?.parse().ok()?;
        Some(Self { slot, address: words.next()?.to_owned(), asks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &'static str, port: i64) -> Reply {
        let leader = vec![Reply::Bulk(host.into()), Reply::Integer(port), Reply::Bulk("id".into())];
        Reply::Array(vec![Reply::Integer(first), Reply::Integer(last), Reply::Array(leader)])
    }

    #[test]
    fn the_slot_map_routes_keys_and_follows_moves() {
        let reply = Reply::Array(vec![range(0, 8191, "", 1), range(8192, 16383, "b", 2)]);
        let mut map = SlotMap::parse(&reply, "a").expect("complete");
        assert_eq!(map.addresses, ["a:1", "b:2"]);
        // CRC16 of "123456789" is 12739.
        assert_eq!(map.node_of(b"123456789"), 1);
        let moved = Redirect::parse(b"MOVED 12739 c:3").expect("a redirect");
        assert_eq!(map.learn(&moved), 2);
        assert_eq!(map.node_of(b"123456789"), 2);
        let ask = Redirect::parse(b"ASK 12739 a:1").expect("a redirect");
        assert_eq!((map.learn(&ask), map.node_of(b"123456789")), (0, 2));
    }

    #[test]
    fn a_map_with_holes_is_refused() {
        assert_eq!(SlotMap::parse(&Reply::Array(vec![range(0, 100, "a", 1)]), "a"), None);
        assert_eq!(SlotMap::parse(&Reply::Array(vec![range(0, 20000, "a", 1)]), "a"), None);
        assert_eq!(SlotMap::parse(&Reply::Null, "a"), None);
        assert_eq!(Redirect::parse(b"ERR no"), None);
    }
}
