//! What clerks asked and were answered, for the checker of linearizability.

use kontiki_kv::Reply;
use kontiki_kv::command::{Condition, Parsed, Read, Write};

use super::store::Done;
use crate::history::{History, Operation, Outcome, Request};
use crate::invariants::{Checked, Violation};
use crate::linearizability::{Budget, Verdict, check};

/// The calls of one run.
#[derive(Default)]
pub(super) struct Book(History);

impl Book {
    /// Takes down a call. What the checker has no words for is judged elsewhere.
    pub(super) fn note(&mut self, done: &Done) {
        let Some(request) = request(&done.command) else { return };
        let nanos = |at: kontiki_types::Instant| at.0 * 1000;
        self.0.push(Operation {
            client: done.clerk.number(),
            request: Request::Command(request),
            call: nanos(done.asked),
            outcome: Outcome::Known { reply: reply(&done.reply), at: nanos(done.at) },
        });
    }

    /// Whether there is an order that explains all of it.
    ///
    /// # Errors
    /// There is none, or it was not found.
    pub(super) fn judge(&self) -> Checked {
        match check(&self.0, &Budget::default()) {
            Verdict::Linearizable(_) => Ok(()),
            Verdict::Violation(violation) => {
                Err(Violation::new("Linearizability", violation.to_string()))
            }
            Verdict::NoVerdict(no_verdict) => {
                Err(Violation::new("Linearizability is decided", no_verdict.to_string()))
            }
        }
    }
}

fn request(command: &Parsed) -> Option<Vec<bytes::Bytes>> {
    let word = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
    Some(match command {
        Parsed::Read(Read::Get { key }) => vec![word("GET"), key.clone()],
        Parsed::Write(Write::Append { key, value }) => {
            vec![word("APPEND"), key.clone(), value.clone()]
        }
        Parsed::Write(Write::IncrBy { key, by }) => {
            vec![word("INCRBY"), key.clone(), by.to_string().into()]
        }
        Parsed::Write(Write::Set {
            key, value, condition: Condition::Always, get: false, ..
        }) => {
            vec![word("SET"), key.clone(), value.clone()]
        }
        _ => return None,
    })
}

fn reply(reply: &Reply) -> kontiki_resp::Reply {
    use kontiki_resp::Reply as Redis;
    match reply {
        Reply::Ok => Redis::Simple("OK".into()),
        Reply::Simple(text) => Redis::Simple((*text).into()),
        Reply::Status(text) => Redis::Simple(text.clone()),
        Reply::Nil | Reply::NilArray => Redis::Null,
        Reply::Integer(number) => Redis::Integer(*number),
        Reply::Bulk(value) | Reply::Verbatim(value) => Redis::Bulk(value.clone()),
        Reply::Error(line) => Redis::Error(line.clone()),
        Reply::Array(items) | Reply::Set(items) => {
            Redis::Array(items.iter().map(self::reply).collect())
        }
        Reply::Map(pairs) => Redis::Map(
            pairs.iter().map(|(key, value)| (self::reply(key), self::reply(value))).collect(),
        ),
    }
}
