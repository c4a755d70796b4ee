//! The lock suite of 2025: a lock out of the store's own commands, and never two holders.
//!
//! Acquire: SET NX with a token of the holder's own and a time to live. Release: a transaction that
//! deletes the key if its version is still that of the holder's SET. So whoever lost the lock to its
//! time to live cannot take it from the next holder.

use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::Reply;
use kontiki_kv::command::{Parsed, Read, Write};

use super::store::{Clerk, Done, Event, Service, config};
use super::{Lab, fails, lab};
use crate::invariants::Checked;

/// See the module.
pub(super) const SUITE: &[Lab] = &[
    lab("lab-lock-one-client-reliable", "1 client takes and gives back the lock for 2 s", |seed| {
        run(1, false, seed)
    }),
    lab("lab-lock-many-clients-reliable", "10 clients for 2 s, and never two holders", |seed| {
        run(10, false, seed)
    }),
    lab("lab-lock-one-client-unreliable", "1 client for 2 s, unreliable", |seed| {
        run(1, true, seed)
    }),
    lab("lab-lock-many-clients-unreliable", "10 clients for 2 s, unreliable", |seed| {
        run(10, true, seed)
    }),
];

const LOCK: &str = "lock";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Pauses,
    Acquires,
    LooksAtVersion,
    Holds(u64),
    Releases,
}

fn run(clients: usize, unreliable: bool, seed: u64) -> Checked {
    let mut service = Service::new(config(3), seed);
    service.leader()?;
    if unreliable {
        service.make_unreliable();
    }
    let clerks: Vec<Clerk> = (0..clients).map(|_| service.clerk()).collect();
    let mut states = vec![Client::Pauses; clients];
    let mut holder = None;
    let mut taken = 0;
    let end = service.cluster.now() + Duration::from_secs(2);
    for at in 0..clients {
        service.wake(Duration::ZERO, at as u64);
    }
    loop {
        let is_over = service.cluster.now() >= end;
        if is_over && states.iter().all(|&state| state == Client::Pauses) {
            break;
        }
        let limit = end + Duration::from_secs(30);
        let Some(event) = service.next(limit)? else {
            return fails(format!("{states:?} 30 s after the end"));
        };
        match event {
            Event::Wake(at) => {
                let at = at as usize;
                states[at] = match states[at] {
                    Client::Pauses if is_over => Client::Pauses,
                    Client::Pauses => {
                        let token = format!("client-{at}");
                        let words = ["SET", LOCK, &token, "NX", "PX", "30000"];
                        service.begin(clerks[at], &words.map(str::as_bytes))?;
                        Client::Acquires
                    }
                    Client::Holds(version) => {
                        holder = None;
                        service.begin_command(clerks[at], release(version));
                        Client::Releases
                    }
                    state => return fails(format!("client {at} wakes up as it {state:?}")),
                };
            }
            Event::Done(done) => {
                let at = clerks.iter().position(|&clerk| clerk == done.clerk).unwrap_or(0);
                states[at] = match states[at] {
                    Client::Acquires if done.reply == Reply::Ok => {
                        // It has the lock from the moment of the answer.
                        demand!(holder.is_none(), "{holder:?} and {at} both hold the lock");
                        holder = Some(at);
                        taken += 1;
                        let key = Bytes::from_static(LOCK.as_bytes());
                        let read = Parsed::Read(Read::GetWithVersion { key });
                        service.begin_command(clerks[at], read);
                        Client::LooksAtVersion
                    }
                    Client::Acquires => {
                        pause(&mut service, at);
                        Client::Pauses
                    }
                    Client::LooksAtVersion => {
                        let version = version_of(&done, at)?;
                        pause(&mut service, at);
                        Client::Holds(version)
                    }
                    Client::Releases => {
                        demand!(
                            matches!(done.reply, Reply::Array(_)),
                            "client {at} held the lock, and its release gives {:?}",
                            done.reply
                        );
                        pause(&mut service, at);
                        Client::Pauses
                    }
                    state => return fails(format!("client {at} is answered as it {state:?}")),
                };
            }
        }
    }
    demand!(taken >= 3, "the lock was taken {taken} times only");
    Ok(())
}

fn release(version: u64) -> Parsed {
    let key = Bytes::from_static(LOCK.as_bytes());
    let delete = Parsed::Write(Write::Del { keys: vec![key.clone()] });
    Parsed::Write(Write::Transaction { compare: vec![(key, version)], commands: vec![delete] })
}

/// The version of the lock, which must be the client's own.
fn version_of(done: &Done, at: usize) -> Result<u64, crate::invariants::Violation> {
    if let Reply::Array(items) = &done.reply
        && let [Reply::Bulk(token), Reply::Integer(version)] = items.as_slice()
        && *token == format!("client-{at}").as_bytes()
    {
        return Ok(version.unsigned_abs());
    }
    fails(format!("client {at} holds the lock and reads {:?}", done.reply))
}

fn pause(service: &mut Service, at: usize) {
    let time = service.cluster.random().between(1, 10);
    service.wake(Duration::from_millis(time), at as u64);
}
