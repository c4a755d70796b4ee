//! Just enough of HTTP/2 and gRPC to be impolite in them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What every client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Calls whose messages a node decodes; none that would change the cluster if one were valid.
pub(super) const PATHS: &[&str] = &[
    "/kontiki.v1.Kv/OpenSession",
    "/kontiki.v1.Kv/Get",
    "/kontiki.v1.Kv/Set",
    "/kontiki.v1.Kv/Batch",
    "/kontiki.v1.Kv/Transaction",
    "/kontiki.v1.Kv/Nothing",
    "/kontiki.v1.Admin/ClusterStatus",
    "/kontiki.v1.Admin/Hello",
    "/kontiki.v1.Peer/Exchange",
];

/// Appends a frame.
pub(super) fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Only the low 24 bits of a length are sent; payloads here are shorter.
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The beginning of a connection: preface and empty settings.
pub(super) fn opening() -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    out
}

/// A whole unary call on stream 1 with this message, whatever it means.
pub(super) fn call(path: &str, message: &[u8]) -> Vec<u8> {
    let mut headers = Vec::new();
    // Entries 3 and 6 of the static table: method POST, scheme http.
    headers.extend_from_slice(&[0x83, 0x86]);
    for (name, value) in [
        (":path", path),
        (":authority", "garbage"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        header(&mut headers, name, value);
    }
    let mut body = vec![0];
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(message);
    let mut out = opening();
    frame(&mut out, HEADERS, END_HEADERS, 1, &headers);
    frame(&mut out, DATA, END_STREAM, 1, &body);
    out
}

/// A literal header field, not indexed; names and values here are shorter than 127 bytes.
fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(0);
    for text in [name, value] {
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
}

/// Whether a server answers a polite beginning with its settings.
pub(super) fn greets(address: SocketAddr) -> io::Result<()> {
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(&opening())?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    match head[3] {
        SETTINGS => Ok(()),
        other => Err(io::Error::other(format!("it began with frame type {other}"))),
    }
}
