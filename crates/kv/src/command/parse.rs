//! From the arguments of a request to a command.
//!
//! Errors come in the order in which Redis finds them. Where Redis looks at the key before it looks
//! at an argument, so that the error depends on the state, the command becomes a
//! [`Read::IfLive`](super::Read::IfLive) with the error ready in it.

pub(crate) mod bits;
pub(crate) mod keys;
pub(crate) mod strings;

use bytes::Bytes;

use super::options::{Deadline, Expiry};
use super::{Parsed, Read, Write, error, number};
use crate::{Reply, table};

/// What the parser of one command answers.
pub(crate) type Outcome = Result<Parsed, Reply>;

/// The data command that `args` ask for, its name first. `choice` is a random number, for
/// RANDOMKEY.
///
/// # Errors
/// The error reply, with the text of Redis 7.0. Commands of the connection or the server are
/// unknown here.
pub fn parse(args: &[Bytes], choice: u64) -> Result<Parsed, Reply> {
    let entry = table::resolve(args)?;
    let parser = entry.parser.ok_or_else(|| error::unknown(args))?;
    match parser(args) {
        Ok(Parsed::Read(Read::RandomKey { .. })) => Ok(Parsed::Read(Read::RandomKey { choice })),
        outcome => outcome,
    }
}

fn read(read: Read) -> Outcome {
    Ok(Parsed::Read(read))
}

fn write(write: Write) -> Outcome {
    Ok(Parsed::Write(write))
}

fn fail(text: &'static str) -> Outcome {
    Err(error::fixed(text))
}

fn key(args: &[Bytes]) -> Bytes {
    args[1].clone()
}

fn is(argument: &Bytes, word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

fn integer(argument: &Bytes) -> Result<i64, Reply> {
    number::parse_i64(argument).ok_or_else(|| error::fixed(error::NOT_AN_INTEGER))
}

/// No log time comes near this: relative times up to `i64::MAX` less this one do not overflow.
const LOG_TIME_MAX: i64 = 1 << 45;

/// The end of a key's life as the options of SET give it: a positive number.
fn deadline(
    argument: &Bytes,
    seconds: bool,
    absolute: bool,
    command: &'static str,
) -> Result<Deadline, Reply> {
    let time = integer(argument)?;
    let millis = if seconds { time.checked_mul(1000) } else { Some(time) };
    match millis {
        Some(at @ 1..) if absolute => Ok(Deadline::At(at)),
        Some(span @ 1..) if span <= i64::MAX - LOG_TIME_MAX => Ok(Deadline::In(span)),
        _ => Err(error::expire_time(command)),
    }
}

/// An option of SET or GETEX that is about the expiry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExpiryOption {
    Keep,
    Persist,
    Time { seconds: bool, absolute: bool },
}

impl ExpiryOption {
    fn named(argument: &Bytes) -> Option<Self> {
        const OPTIONS: [(&str, ExpiryOption); 6] = [
            ("EX", ExpiryOption::Time { seconds: true, absolute: false }),
            ("PX", ExpiryOption::Time { seconds: false, absolute: false }),
            ("EXAT", ExpiryOption::Time { seconds: true, absolute: true }),
            ("PXAT", ExpiryOption::Time { seconds: false, absolute: true }),
            ("KEEPTTL", ExpiryOption::Keep),
            ("PERSIST", ExpiryOption::Persist),
        ];
        OPTIONS.iter().find(|(name, _)| is(argument, name)).map(|&(_, option)| option)
    }
}

/// The expiry options met so far: at most one kind.
#[derive(Default)]
struct ExpiryOptions<'a> {
    option: Option<ExpiryOption>,
    argument: Option<&'a Bytes>,
}

impl<'a> ExpiryOptions<'a> {
    /// Takes `option` and its argument from `rest`; an error if another kind came before.
    fn take(
        &mut self,
        option: ExpiryOption,
        rest: &mut std::slice::Iter<'a, Bytes>,
    ) -> Result<(), Reply> {
        if self.option.is_some_and(|before| before != option) {
            return Err(error::fixed(error::SYNTAX));
        }
        if let ExpiryOption::Time { .. } = option {
            self.argument = Some(rest.next().ok_or_else(|| error::fixed(error::SYNTAX))?);
        }
        self.option = Some(option);
        Ok(())
    }

    fn expiry(&self, command: &'static str) -> Result<Expiry, Reply> {
        match (self.option, self.argument) {
            (Some(ExpiryOption::Keep), _) => Ok(Expiry::Keep),
            (Some(ExpiryOption::Time { seconds, absolute }), Some(argument)) => {
                deadline(argument, seconds, absolute, command).map(Expiry::Until)
            }
            _ => Ok(Expiry::Clear),
        }
    }
}
