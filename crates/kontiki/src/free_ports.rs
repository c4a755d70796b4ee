//! Ports for processes that are started next.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below what Linux, macOS and Windows give to connections that go out: between the choice of a
/// port and the start of the process that listens on it, nothing takes it by chance.
const PORTS: Range<u16> = 10_240..32_768;
const TRIES: u64 = 200;

/// Chooses free ports of the loopback interface, none twice.
#[derive(Default)]
pub(crate) struct FreePorts {
    random: RandomState,
    tries: u64,
    /// Listened on until all are chosen.
    held: Vec<TcpListener>,
}

impl FreePorts {
    /// A port that nobody listens on and that is `suitable`.
    ///
    /// # Errors
    /// What the last of many attempts gave.
    pub(crate) fn choose(&mut self, suitable: impl Fn(u16) -> bool) -> io::Result<u16> {
        let mut failure = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            self.tries += 1;
            let random = self.random.hash_one(self.tries) % PORTS.len() as u64;
            let port = PORTS.start + random as u16;
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(probe) => {
                    self.held.push(probe);
                    if suitable(port) {
                        return Ok(port);
                    }
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_port_is_free_suitable_and_chosen_once() {
        let mut ports = FreePorts::default();
        let chosen: Vec<u16> =
            (0..50).map(|_| ports.choose(|port| port % 3 == 0).expect("a free port")).collect();
        assert_eq!(BTreeSet::from_iter(&chosen).len(), chosen.len());
        assert!(chosen.iter().all(|port| PORTS.contains(port) && port % 3 == 0), "{chosen:?}");
        drop(ports);
        for port in chosen {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free again");
        }
    }

    #[test]
    fn that_no_port_suits_is_said() {
        assert!(FreePorts::default().choose(|_| false).is_err());
    }
}
