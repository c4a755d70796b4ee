//! MULTI, EXEC, DISCARD and WATCH: what a connection keeps between them.
//!
//! An EXEC is one log entry with its read set: the versions that WATCH saw are compared at apply
//! (PROTOCOL 14).

use bytes::Bytes;
use kontiki_kv::Reply;
use kontiki_kv::command::{Parsed, Read};

use super::{Connection, Held, Host, Step, error, local, map, parse_bounded};

/// One command of a transaction.
#[derive(Clone, Debug)]
enum Queued {
    /// Executed by the state machine.
    Data(Parsed),
    /// Executed by the connection, at EXEC.
    Local(&'static str, Vec<Bytes>),
}

/// The commands between MULTI and EXEC.
#[derive(Clone, Debug, Default)]
pub(super) struct Transaction {
    queued: Vec<Queued>,
    spoiled: bool,
}

impl Transaction {
    /// A command was refused while queueing: EXEC will refuse the whole.
    pub(super) fn spoil(&mut self) {
        self.spoiled = true;
    }
}

impl Connection {
    /// A command between MULTI and EXEC.
    pub(super) fn in_transaction(
        &mut self,
        name: &'static str,
        args: &[Bytes],
        host: &dyn Host,
    ) -> Step {
        match name {
            "exec" => self.exec(host),
            "discard" => {
                self.forget_transaction();
                Step::Reply(Reply::Ok)
            }
            "multi" => Step::Reply(error("ERR MULTI calls can not be nested")),
            "watch" => Step::Reply(error("ERR WATCH inside MULTI is not allowed")),
            // These act at once, also in Redis: they concern the connection, not the data.
            "quit" | "reset" => self.local(name, args, host),
            _ => {
                // Redis checks only name and arity when it queues a command; a wrong argument is
                // found when it executes, and fails alone.
                let queued = if name == "unwatch" || local::is_local(name) {
                    Queued::Local(name, args.to_vec())
                } else {
                    let command = match parse_bounded(args, host) {
                        Ok(command) => command,
                        Err(reply) => Parsed::Read(Read::Answer(reply)),
                    };
                    let slot = command.slot().filter(|_| !self.manners.is_asking);
                    let elsewhere =
                        slot.and_then(|slot| self.redirection(slot, false, &host.atlas(), host));
                    if let Some(elsewhere) = elsewhere {
                        return self.reject(elsewhere);
                    }
                    Queued::Data(command)
                };
                if let Some(transaction) = &mut self.transaction {
                    transaction.queued.push(queued);
                    self.description.queued += 1;
                }
                Step::Reply(Reply::Simple("QUEUED"))
            }
        }
    }

    fn exec(&mut self, host: &dyn Host) -> Step {
        let Some(transaction) = self.transaction.take() else { return Step::Reply(Reply::Nil) };
        self.description.queued = -1;
        if transaction.spoiled {
            self.watched.clear();
            let line = "EXECABORT Transaction discarded because of previous errors.";
            return Step::Reply(error(line));
        }
        if transaction.queued.is_empty() && self.watched.is_empty() {
            return Step::Reply(Reply::Array(Vec::new()));
        }
        let commands = transaction.queued.into_iter().map(|queued| match queued {
            Queued::Data(command) => command,
            Queued::Local(name, args) => {
                Parsed::Read(Read::Answer(match self.local(name, &args, host) {
                    Step::Reply(reply) => reply,
                    Step::Map(map) => map::reply(map, &host.atlas(), host.node_id()),
                    Step::Hold(Held::Wait(replicas)) => Reply::Integer(replicas),
                    Step::Hold(Held::Parts(_)) => {
                        error("ERR Command not allowed inside a transaction")
                    }
                    Step::Hold(_) | Step::Silent => Reply::Ok,
                }))
            }
        });
        let commands = commands.collect();
        self.route_exec(commands, host)
    }

    pub(super) fn forget_transaction(&mut self) {
        self.transaction = None;
        self.description.queued = -1;
        self.watched.clear();
    }

    /// Keeps the versions that a WATCH read.
    pub(super) fn watch_answered(&mut self, keys: Vec<Bytes>, reply: Reply) -> Reply {
        let Reply::Array(versions) = reply else { return reply };
        for (key, version) in keys.into_iter().zip(versions) {
            let Reply::Integer(version) = version else { continue };
            // The version of the first WATCH counts: it is the older one.
            if self.watched.iter().all(|(watched, _)| *watched != key) {
                self.watched.push((key, version.cast_unsigned()));
            }
        }
        self.description.watched = self.watched.len();
        Reply::Ok
    }
}
