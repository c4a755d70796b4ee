//! Commands about the connection and the node, which touch no data and no log.

use bytes::Bytes;
use kontiki_kv::command::wrong_arity;
use kontiki_kv::{Reply, table};

use super::encode::Protocol;
use super::route::Manners;
use super::{Connection, Held, Host, KillFilter, ReplyMode, Step, error};

/// Whether the connection answers the command of this (lower case) name itself.
pub(super) fn is_local(name: &str) -> bool {
    matches!(
        name,
        "asking"
            | "auth"
            | "client"
            | "cluster"
            | "command"
            | "config"
            | "echo"
            | "function"
            | "hello"
            | "info"
            | "latency"
            | "ping"
            | "quit"
            | "readonly"
            | "readwrite"
            | "reset"
            | "select"
            | "slowlog"
            | "time"
            | "wait"
    )
}

impl Connection {
    pub(super) fn local(&mut self, name: &str, args: &[Bytes], host: &dyn Host) -> Step {
        let reply = match name {
            "ping" => match args {
                [_] => Reply::Simple("PONG"),
                [_, text] => Reply::Bulk(text.clone()),
                _ => wrong_arity("ping"),
            },
            "echo" => Reply::Bulk(args[1].clone()),
            "select" => select(&args[1]),
            "auth" => self.auth(args, host),
            "hello" => self.hello(args, host),
            "quit" => {
                self.closing = true;
                Reply::Ok
            }
            "reset" => self.reset(host),
            "client" => return self.client_command(args, host),
            "cluster" => return self.cluster_command(args, host),
            "asking" => {
                self.manners.is_asking = true;
                Reply::Ok
            }
            "readonly" => self.readonly(host),
            "readwrite" => {
                self.manners.is_readonly = false;
                Reply::Ok
            }
            "command" => table::command(&args[1..]),
            "config" => config(args, host),
            "function" => function(args),
            "info" => {
                let sections: Vec<String> = args[1..].iter().map(|arg| lower(arg)).collect();
                Reply::Verbatim(host.info(&sections).into())
            }
            "latency" => latency(args),
            "slowlog" => slowlog(args, host),
            "time" => {
                let now = host.wall_clock();
                let part = |number: u64| Reply::Bulk(number.to_string().into());
                Reply::Array(vec![part(now.as_secs()), part(u64::from(now.subsec_micros()))])
            }
            "wait" => match (integer(&args[1]), integer(&args[2])) {
                (Some(_), Some(0..)) => {
                    let replicas = i64::try_from(self.replicas(host)).unwrap_or(i64::MAX);
                    return Step::Hold(Held::Wait(replicas));
                }
                (Some(_), Some(_)) => error("ERR timeout is negative"),
                (None, _) => error("ERR value is not an integer or out of range"),
                (_, None) => error("ERR timeout is not an integer or out of range"),
            },
            _ => error("ERR unknown command"),
        };
        Step::Reply(reply)
    }

    fn auth(&mut self, args: &[Bytes], host: &dyn Host) -> Reply {
        let (user, password): (&[u8], &[u8]) = match args {
            [_, password] => (b"default", password),
            [_, user, password] => (user, password),
            _ => return error("ERR syntax error"),
        };
        match host.authenticate(user, password) {
            None if args.len() == 2 => error(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ),
            // Without a password the default user accepts any, as Redis' `nopass` does.
            None if user == b"default" => Reply::Ok,
            Some(true) => {
                self.authenticated = true;
                Reply::Ok
            }
            None | Some(false) => wrong_password(),
        }
    }

    /// HELLO [protover [AUTH user password] [SETNAME name]].
    fn hello(&mut self, args: &[Bytes], host: &dyn Host) -> Reply {
        let mut protocol = self.protocol;
        let mut name = None;
        let mut authenticated = self.authenticated;
        if let Some(version) = args.get(1) {
            protocol = match integer(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return error("NOPROTO unsupported protocol version"),
                None => {
                    return error("ERR Protocol version is not an integer or out of range");
                }
            };
            let mut rest = &args[2..];
            while let Some((option, tail)) = rest.split_first() {
                match (lower(option).as_str(), tail) {
                    ("auth", [user, password, tail @ ..]) => {
                        match host.authenticate(user, password) {
                            Some(true) => authenticated = true,
                            None if user.as_ref() == b"default" => {}
                            None | Some(false) => return wrong_password(),
                        }
                        rest = tail;
                    }
                    ("setname", [given, tail @ ..]) => {
                        match attribute(given) {
                            Some(given) => name = Some(given),
                            None => return bad_name(),
                        }
                        rest = tail;
                    }
                    _ => {
                        return error(&format!(
                            "ERR Syntax error in HELLO option '{}'",
                            String::from_utf8_lossy(option)
                        ));
                    }
                }
            }
        }
        if !authenticated {
            return error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
                 HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client \
                 and select the RESP protocol version at the same time",
            );
        }
        self.authenticated = true;
        self.protocol = protocol;
        self.description.protocol = number(protocol);
        if let Some(name) = name {
            self.description.name = name;
        }
        host.describe(self.id, &self.description);
        let bulk = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
        Reply::Map(vec![
            (bulk("server"), bulk("redis")),
            (bulk("version"), bulk(COMPATIBLE_WITH)),
            (bulk("proto"), Reply::Integer(i64::from(number(protocol)))),
            (bulk("id"), Reply::Integer(self.id.cast_signed())),
            (bulk("mode"), bulk(if host.atlas().is_sharded() { "cluster" } else { "standalone" })),
            (bulk("role"), bulk("master")),
            (bulk("modules"), Reply::Array(Vec::new())),
        ])
    }

    fn reset(&mut self, host: &dyn Host) -> Reply {
        self.forget_transaction();
        self.manners = Manners::default();
        self.protocol = Protocol::Resp2;
        self.reply_mode = ReplyMode::On;
        self.authenticated = host.authenticate(b"default", b"").is_none();
        self.description.protocol = 2;
        self.description.name.clear();
        host.describe(self.id, &self.description);
        Reply::Simple("RESET")
    }

    fn client_command(&mut self, args: &[Bytes], host: &dyn Host) -> Step {
        let sub = lower(&args[1]);
        let reply = match (sub.as_str(), &args[2..]) {
            ("id", []) => Reply::Integer(self.id.cast_signed()),
            ("getname", []) => match self.description.name.as_str() {
                "" => Reply::Nil,
                name => Reply::Bulk(name.to_owned().into()),
            },
            ("setname", [name]) => match attribute(name) {
                Some(name) => {
                    self.description.name = name;
                    host.describe(self.id, &self.description);
                    Reply::Ok
                }
                None => bad_name(),
            },
            ("setinfo", [what, value]) => self.set_info(&lower(what), value, host),
            ("info", []) => Reply::Verbatim(host.client_list(&[self.id]).into()),
            ("list", rest) => client_list(rest, host),
            ("kill", rest) => self.client_kill(rest, host),
            ("reply", [mode]) => return self.set_reply_mode(&lower(mode)),
            ("no-evict" | "no-touch", [switch]) => match lower(switch).as_str() {
                "on" | "off" => Reply::Ok,
                _ => error("ERR syntax error"),
            },
            ("tracking", [switch]) if lower(switch) == "off" => Reply::Ok,
            ("tracking", [_, ..]) => {
                error("ERR client-side caching is not supported by this server")
            }
            ("unpause", []) => Reply::Ok,
            ("help", []) => Reply::Array(Vec::new()),
            (
                "id" | "getname" | "setname" | "setinfo" | "info" | "reply" | "no-evict"
                | "no-touch" | "tracking",
                _,
            ) => wrong_arity(&format!("client|{sub}")),
            _ => unknown_subcommand(&args[1], "CLIENT"),
        };
        Step::Reply(reply)
    }

    fn set_info(&mut self, what: &str, value: &[u8], host: &dyn Host) -> Reply {
        let Some(value) = attribute(value) else {
            return error(&format!(
                "ERR {what} cannot contain spaces, newlines or special characters."
            ));
        };
        match what {
            "lib-name" => {
                self.description.library_name = value;
                self.manners.seen_changes = 0;
            }
            "lib-ver" => self.description.library_version = value,
            _ => return error(&format!("ERR Unrecognized option '{what}'")),
        }
        host.describe(self.id, &self.description);
        Reply::Ok
    }

    fn set_reply_mode(&mut self, mode: &str) -> Step {
        match mode {
            "on" => {
                self.reply_mode = ReplyMode::On;
                Step::Reply(Reply::Ok)
            }
            "off" => {
                self.reply_mode = ReplyMode::Off;
                Step::Silent
            }
            "skip" => {
                if self.reply_mode == ReplyMode::On {
                    self.reply_mode = ReplyMode::SkipNext;
                }
                Step::Silent
            }
            _ => Step::Reply(error("ERR syntax error")),
        }
    }

    /// CLIENT KILL addr:port, or its form with filters.
    fn client_kill(&mut self, rest: &[Bytes], host: &dyn Host) -> Reply {
        let mut filter = KillFilter { skip: Some(self.id), ..KillFilter::default() };
        if let [address] = rest {
            filter.address = Some(text(address));
            filter.skip = None;
            return match self.kill(&filter, host) {
                0 => error("ERR No such client"),
                _ => Reply::Ok,
            };
        }
        if rest.is_empty() || !rest.len().is_multiple_of(2) {
            return error("ERR syntax error");
        }
        for pair in rest.chunks_exact(2) {
            let value = text(&pair[1]);
            match lower(&pair[0]).as_str() {
                "id" => match value.parse() {
                    Ok(id) if id > 0 => filter.id = Some(id),
                    _ => return error("ERR client-id should be greater than 0"),
                },
                "addr" => filter.address = Some(value),
                "laddr" => filter.local_address = Some(value),
                "type" => match value.to_ascii_lowercase().as_str() {
                    "normal" | "master" | "slave" | "replica" | "pubsub" => {
                        filter.kind = Some(value.to_ascii_lowercase());
                    }
                    _ => return error(&format!("ERR Unknown client type '{value}'")),
                },
                "user" => filter.user = Some(value),
                "skipme" => match value.to_ascii_lowercase().as_str() {
                    "yes" => filter.skip = Some(self.id),
                    "no" => filter.skip = None,
                    _ => return error("ERR syntax error"),
                },
                _ => return error("ERR syntax error"),
            }
        }
        Reply::Integer(i64::try_from(self.kill(&filter, host)).unwrap_or(i64::MAX))
    }

    fn kill(&mut self, filter: &KillFilter, host: &dyn Host) -> usize {
        host.client_kill(filter)
    }
}

/// The Redis version whose commands and texts these are.
pub const COMPATIBLE_WITH: &str = "7.0.15";

fn select(database: &[u8]) -> Reply {
    match integer(database) {
        Some(0) => Reply::Ok,
        Some(_) => error("ERR DB index is out of range"),
        None => error("ERR value is not an integer or out of range"),
    }
}

fn config(args: &[Bytes], host: &dyn Host) -> Reply {
    let sub = lower(&args[1]);
    match (sub.as_str(), &args[2..]) {
        ("get", [_, ..]) => Reply::Map(
            host.config_get(&args[2..])
                .into_iter()
                .map(|(name, value)| (Reply::Bulk(name.into()), Reply::Bulk(value.into())))
                .collect(),
        ),
        ("set", pairs @ [_, _, ..]) if pairs.len().is_multiple_of(2) => {
            for pair in pairs.chunks_exact(2) {
                if let Err(reason) = host.config_set(&lower(&pair[0]), &pair[1]) {
                    return error(&format!("ERR {reason}"));
                }
            }
            Reply::Ok
        }
        ("resetstat", []) => Reply::Ok,
        ("rewrite", []) => error("ERR The server is running without a config file"),
        ("get" | "set" | "resetstat" | "rewrite", _) => wrong_arity(&format!("config|{sub}")),
        _ => unknown_subcommand(&args[1], "CONFIG"),
    }
}

fn function(args: &[Bytes]) -> Reply {
    match (lower(&args[1]).as_str(), &args[2..]) {
        ("flush", [] | [_]) => Reply::Ok,
        ("list", []) => Reply::Array(Vec::new()),
        ("flush" | "list", _) => wrong_arity(&format!("function|{}", lower(&args[1]))),
        _ => unknown_subcommand(&args[1], "FUNCTION"),
    }
}

fn latency(args: &[Bytes]) -> Reply {
    match (lower(&args[1]).as_str(), &args[2..]) {
        ("latest", []) | ("history", [_]) => Reply::Array(Vec::new()),
        ("reset", _) => Reply::Integer(0),
        ("doctor", []) => Reply::Verbatim(Bytes::from_static(
            b"Latency is measured by this server's /metrics page, not by LATENCY.",
        )),
        _ => unknown_subcommand(&args[1], "LATENCY"),
    }
}

fn slowlog(args: &[Bytes], host: &dyn Host) -> Reply {
    match (lower(&args[1]).as_str(), &args[2..]) {
        ("get", [] | [_]) => Reply::Array(Vec::new()),
        ("len", []) => Reply::Integer(host.slow_commands().cast_signed()),
        ("reset", []) => Reply::Ok,
        _ => unknown_subcommand(&args[1], "SLOWLOG"),
    }
}

fn client_list(rest: &[Bytes], host: &dyn Host) -> Reply {
    let mut ids = Vec::new();
    match rest {
        [] => {}
        [key, kind] if lower(key) == "type" => match lower(kind).as_str() {
            "normal" => {}
            "master" | "replica" | "slave" | "pubsub" => {
                return Reply::Verbatim(Bytes::new());
            }
            _ => return error(&format!("ERR Unknown client type '{}'", text(kind))),
        },
        [key, list @ ..] if lower(key) == "id" && !list.is_empty() => {
            for id in list {
                match integer(id) {
                    Some(id @ 1..) => ids.push(id.cast_unsigned()),
                    _ => return error("ERR Invalid client ID"),
                }
            }
        }
        _ => return error("ERR syntax error"),
    }
    Reply::Verbatim(host.client_list(&ids).into())
}

fn wrong_password() -> Reply {
    error("WRONGPASS invalid username-password pair or user is disabled.")
}

fn bad_name() -> Reply {
    error("ERR Client names cannot contain spaces, newlines or special characters.")
}

pub(super) fn unknown_subcommand(sub: &[u8], command: &str) -> Reply {
    let sub = String::from_utf8_lossy(&sub[..sub.len().min(128)]).into_owned();
    error(&format!("ERR unknown subcommand '{sub}'. Try {command} HELP."))
}

/// A name or version that fits on a line of CLIENT LIST: printable ASCII without blanks.
fn attribute(bytes: &[u8]) -> Option<String> {
    bytes.iter().all(|byte| (b'!'..=b'~').contains(byte)).then(|| text(bytes))
}

pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn lower(bytes: &[u8]) -> String {
    text(bytes).to_ascii_lowercase()
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    }
}
