//! What makes an operator's request take effect once: PROTOCOL 1, with one request at a time.

use std::collections::BTreeMap;

use kontiki_types::{ClientId, LogTime, Seq};

use super::command::{Reply, Session};
use crate::wire::wire;

/// The longest time in milliseconds that a request's deadline may lie ahead, in log time.
pub const DEADLINE_MAX_MS: u64 = 600_000;

/// Clients whose last request is remembered. Operators are few.
pub const SESSIONS_MAX: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Answered {
    seq: Seq,
    deadline: LogTime,
    reply: Reply,
}

/// The last request of each client that may still be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Sessions {
    clients: BTreeMap<ClientId, Answered>,
}

wire!(struct Answered { seq, deadline, reply });
wire!(struct Sessions { clients });

/// What to do with a request.
pub(crate) enum Judged {
    Execute,
    Answer(Reply),
}

impl Sessions {
    /// Whether a request is new. Its reply is kept until no copy of it can be executed any more: a
    /// record goes only when log time has passed the deadline, which refuses every copy.
    pub(crate) fn judge(&mut self, session: &Session, now: LogTime) -> Judged {
        self.clients.retain(|_, answered| answered.deadline >= now);
        let known = self.clients.get(&session.client);
        match known {
            Some(known) if known.seq == session.seq => Judged::Answer(known.reply.clone()),
            Some(known) if known.seq > session.seq => Judged::Answer(Reply::Unknown),
            _ if now > session.deadline
                || session.deadline.0 > now.0.saturating_add(DEADLINE_MAX_MS) =>
            {
                Judged::Answer(Reply::Unknown)
            }
            None if self.clients.len() >= SESSIONS_MAX => Judged::Answer(Reply::Busy),
            // Requests before this one cannot come alive again once its record goes: they must
            // have been sent with deadlines that are no later.
            Some(known) if known.deadline > session.deadline => Judged::Answer(Reply::Unknown),
            _ => Judged::Execute,
        }
    }

    pub(crate) fn keep(&mut self, session: &Session, reply: &Reply) {
        let Session { client, seq, deadline } = *session;
        self.clients.insert(client, Answered { seq, deadline, reply: reply.clone() });
    }
}
