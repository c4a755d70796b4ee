//! The connections that misbehave.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kontiki_resp::encode_request;

use super::witness::BIG_KEY;
use super::{GarbageOptions, http2, noise};
use crate::random::Random;

/// No single call may hold a bad client up longer than this.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection in so many waits a moment for the answer to its noise.
const LISTEN_EVERY: u64 = 16;
const LISTEN_TIMEOUT: Duration = Duration::from_millis(20);

/// Bytes of requests after which a client that never reads has made its point.
const UNREAD_BYTES_MAX: u64 = 16 << 20;

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CALL_TIMEOUT)?;
    stream.set_write_timeout(Some(CALL_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens connections that stop in the middle of a request, alternately to both ports.
pub(super) fn half_open(resp: SocketAddr, grpc: SocketAddr, count: usize) -> Vec<TcpStream> {
    const RESP_BEGINNINGS: &[&[u8]] = &[
        b"",
        b"*",
        b"*3\r\n$3\r\nSE",
        b"*1048576\r\n$8388608\r\nabc",
        b"PIN",
        b"ECHO \"",
        b"*2\r\n",
    ];
    let grpc_beginnings = [
        Vec::new(),
        http2::PREFACE[..10].to_vec(),
        http2::opening(),
        http2::call("/kontiki.v1.Kv/Get", &[0; 100])[..120].to_vec(),
    ];
    let mut open = Vec::new();
    for nth in 0..count {
        let (address, beginning) = match nth % 2 {
            0 => (resp, RESP_BEGINNINGS[nth / 2 % RESP_BEGINNINGS.len()]),
            _ => (grpc, grpc_beginnings[nth / 2 % grpc_beginnings.len()].as_slice()),
        };
        // A server may refuse or hang up; that is its right.
        let Ok(mut stream) = connect(address) else { continue };
        let _ = stream.write_all(beginning);
        open.push(stream);
    }
    open
}

/// Asks for much on both ports and reads nothing, until `stop`. Returns the bytes sent.
pub(super) fn never_read(
    resp: SocketAddr,
    grpc: SocketAddr,
    unread: usize,
    password: Option<&str>,
    stop: &AtomicBool,
) -> u64 {
    let mut request = Vec::new();
    encode_request(&mut request, &["GET", BIG_KEY]);
    let mut opening = Vec::new();
    if let Some(password) = password {
        encode_request(&mut opening, &["AUTH", password]);
    }
    let mut ping = Vec::new();
    http2::frame(&mut ping, http2::PING, 0, 0, &[7; 8]);
    // Kept open until the end: what was not read must not cost the server more and more.
    let flooded_resp = flood(resp, &opening, &request, unread as u64, stop);
    let flooded_grpc = flood(grpc, &http2::opening(), &ping, u64::MAX, stop);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let sent = |flooded: Option<(TcpStream, u64)>| flooded.map_or(0, |(_, bytes)| bytes);
    sent(flooded_resp) + sent(flooded_grpc)
}

fn flood(
    address: SocketAddr,
    opening: &[u8],
    request: &[u8],
    count: u64,
    stop: &AtomicBool,
) -> Option<(TcpStream, u64)> {
    let mut stream = connect(address).ok()?;
    stream.write_all(opening).ok()?;
    let mut sent = 0;
    for _ in 0..count {
        let over = stop.load(Ordering::Relaxed) || sent >= UNREAD_BYTES_MAX;
        // The server has stopped reading, or hung up: both are right.
        if over || stream.write_all(request).is_err() {
            break;
        }
        sent += request.len() as u64;
    }
    Some((stream, sent))
}

/// Sends the byte strings, one or a few a connection. Returns how many, and failed connections.
pub(super) fn make_noise(
    resp: SocketAddr,
    grpc: SocketAddr,
    options: &GarbageOptions,
    deadline: Instant,
) -> (u64, u64) {
    let mut random = Random::new(options.seed);
    let (mut sent, mut refused) = (0, 0);
    while sent < options.count && Instant::now() < deadline {
        let to_resp = random.below(2) == 0;
        let Ok(mut stream) = connect(if to_resp { resp } else { grpc }) else {
            refused += 1;
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        for _ in 0..=random.below(3) {
            let bytes = match to_resp {
                true => noise::for_resp(&mut random),
                false => noise::for_grpc(&mut random),
            };
            sent += 1;
            // The server may have hung up over the string before.
            if stream.write_all(&bytes).is_err() || sent == options.count {
                break;
            }
        }
        if random.below(LISTEN_EVERY) == 0 {
            let _ = stream.set_read_timeout(Some(LISTEN_TIMEOUT));
            let _ = stream.read(&mut [0; 1024]);
        }
    }
    (sent, refused)
}
