//! From the state machine's replies to the bytes of the connection's protocol.

use bytes::BytesMut;
use kontiki_kv::Reply;
use kontiki_resp::Encoder;

pub(super) use kontiki_resp::Protocol;

/// Appends `reply` to `out`.
pub(super) fn reply(reply: &Reply, protocol: Protocol, out: &mut BytesMut) {
    put(reply, &mut Encoder::new(out, protocol));
}

fn put(reply: &Reply, out: &mut Encoder<'_, BytesMut>) {
    match reply {
        Reply::Ok => out.ok(),
        Reply::Simple(text) => out.simple(text),
        Reply::Status(text) => out.simple(&String::from_utf8_lossy(text)),
        Reply::Nil => out.null(),
        Reply::NilArray => out.null_array(),
        Reply::Integer(number) => out.integer(*number),
        Reply::Bulk(bytes) => out.bulk(bytes),
        Reply::Verbatim(bytes) => out.verbatim(*b"txt", bytes),
        Reply::Array(items) => {
            out.array(items.len());
            for item in items {
                put(item, out);
            }
        }
        Reply::Set(items) => {
            out.set(items.len());
            for item in items {
                put(item, out);
            }
        }
        Reply::Map(pairs) => {
            out.map(pairs.len());
            for (key, value) in pairs {
                put(key, out);
                put(value, out);
            }
        }
        Reply::Error(line) => out.error(line),
    }
}
