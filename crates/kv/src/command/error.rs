//! Error replies with the texts of Redis 7.0.

use bytes::Bytes;

use crate::Reply;

pub(crate) const SYNTAX: &str = "ERR syntax error";
pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
pub(crate) const NOT_A_SMALL_INTEGER: &str =
    "ERR value is out of range, value must between -2147483648 and 2147483647";
pub(crate) const NOT_A_FLOAT: &str = "ERR value is not a valid float";
pub(crate) const NOT_FINITE: &str = "ERR increment would produce NaN or Infinity";
pub(crate) const OVERFLOW: &str = "ERR increment or decrement would overflow";
pub(crate) const DECREMENT_OVERFLOW: &str = "ERR decrement would overflow";
pub(crate) const OFFSET_RANGE: &str = "ERR offset is out of range";
pub(crate) const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
pub(crate) const BIT_OFFSET: &str = "ERR bit offset is not an integer or out of range";
pub(crate) const BIT_VALUE: &str = "ERR bit is not an integer or out of range";
pub(crate) const NO_SUCH_KEY: &str = "ERR no such key";
pub(crate) const BIT_ARGUMENT: &str = "ERR The bit argument must be 1 or 0.";
pub(crate) const BITOP_NOT: &str = "ERR BITOP NOT must be called with a single source key.";
pub(crate) const BITFIELD_TYPE: &str = "ERR Invalid bitfield type. Use something like i16 u8. \
     Note that u64 is not supported but i64 is.";
pub(crate) const BITFIELD_READ_ONLY: &str = "ERR BITFIELD_RO only supports the GET subcommand";
pub(crate) const OVERFLOW_RULE: &str = "ERR Invalid OVERFLOW type specified";
pub(crate) const DATABASE: &str = "ERR DB index is out of range";
pub(crate) const SAME_OBJECT: &str = "ERR source and destination objects are the same";
pub(crate) const EXPIRE_NX: &str =
    "ERR NX and XX, GT or LT options at the same time are not compatible";
pub(crate) const EXPIRE_GT_LT: &str = "ERR GT and LT options at the same time are not compatible";
pub(crate) const LCS_LENGTH_AND_INDEXES: &str =
    "ERR If you want both the length and indexes, please just use IDX.";
pub(crate) const LCS_TOO_LARGE: &str =
    "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
pub(crate) const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access \
     frequency not tracked. Please note that when switching between policies at runtime LRU and \
     LFU data will take some time to adjust.";
pub(crate) const INVALID_CURSOR: &str = "ERR invalid cursor";

/// An error with a fixed text.
pub(crate) fn fixed(text: &'static str) -> Reply {
    Reply::Error(Bytes::from_static(text.as_bytes()))
}

/// An error with a text made of parts.
pub(crate) fn made(parts: &[&[u8]]) -> Reply {
    let mut text = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        // An error is one line, whatever the client sent.
        text.extend(
            part.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }),
        );
    }
    Reply::Error(text.into())
}

/// The error for a request with too few or too many arguments; `command` as in the
/// [table](crate::table), a subcommand as `object|encoding`.
pub fn wrong_arity(command: &str) -> Reply {
    made(&[b"ERR wrong number of arguments for '", command.as_bytes(), b"' command"])
}

/// The time to live is not positive or too large.
pub(crate) fn expire_time(command: &str) -> Reply {
    made(&[b"ERR invalid expire time in '", command.as_bytes(), b"' command"])
}

/// An option that EXPIRE and its kin do not have.
pub(crate) fn unsupported_option(option: &[u8]) -> Reply {
    made(&[b"ERR Unsupported option ", shown(option, usize::MAX)])
}

/// The error for a subcommand that is not in the table.
pub(crate) fn unknown_subcommand(command: &str, name: &[u8]) -> Reply {
    let container = command.to_ascii_uppercase();
    let name = shown(name, SHOWN_MAX);
    made(&[b"ERR unknown subcommand '", name, b"'. Try ", container.as_bytes(), b" HELP."])
}

/// The error for a request whose command is not in the [table](crate::table). It repeats the first
/// arguments, about 128 bytes of them.
pub fn unknown(args: &[Bytes]) -> Reply {
    let name = args.first().map_or(&[][..], |name| shown(name, SHOWN_MAX));
    let mut rest = Vec::new();
    for arg in args.iter().skip(1) {
        if rest.len() >= SHOWN_MAX {
            break;
        }
        let room = SHOWN_MAX - rest.len();
        rest.push(b'\'');
        rest.extend_from_slice(shown(arg, room));
        rest.extend_from_slice(b"' ");
    }
    made(&[b"ERR unknown command '", name, b"', with args beginning with: ", &rest])
}

/// Bytes of a client's own words that an error repeats.
const SHOWN_MAX: usize = 128;

/// The front of `text`, `room` bytes at most, as C prints it: up to the first zero byte.
fn shown(text: &[u8], room: usize) -> &[u8] {
    let front = &text[..text.len().min(room)];
    &front[..front.iter().position(|&byte| byte == 0).unwrap_or(front.len())]
}
