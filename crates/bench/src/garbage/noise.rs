//! Byte strings no sane client sends.

use kontiki_resp::encode_request;

use super::http2;
use crate::random::Random;

/// Longest string of pure noise.
const NOISE_BYTES_MAX: u64 = 4096;

/// A byte string for the RESP port.
pub(super) fn for_resp(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => random_bytes(random),
        1 => claims(random),
        2 => tokens(random),
        3 => {
            let mut bytes = request(random);
            bytes.extend(random_bytes(random));
            bytes
        }
        _ => mutated(request(random), random),
    }
}

/// A byte string for the gRPC port.
pub(super) fn for_grpc(random: &mut Random) -> Vec<u8> {
    let path = http2::PATHS[random.below(http2::PATHS.len() as u64) as usize];
    match random.below(6) {
        0 => random_bytes(random),
        // Well-formed HTTP/2 and gRPC with a message of noise …
        1 => {
            let message = random_bytes(random);
            http2::call(path, &message)
        }
        // … or one that claims to be longer than it is.
        2 => {
            let mut call = http2::call(path, &random_bytes(random));
            let end = call.len() - random.below(call.len() as u64 / 2) as usize;
            call.truncate(end);
            call
        }
        3 => frames(random),
        _ => {
            let message = random_bytes(random);
            mutated(http2::call(path, &message), random)
        }
    }
}

fn random_bytes(random: &mut Random) -> Vec<u8> {
    // Short ones more often: the interesting mistakes are near the beginning.
    let bound = 1 + random.below(NOISE_BYTES_MAX);
    let mut bytes = vec![0; 1 + random.below(bound) as usize];
    random.fill(&mut bytes);
    bytes
}

/// A few requests in a row, of the harmless kind.
fn request(random: &mut Random) -> Vec<u8> {
    const REQUESTS: &[&[&str]] = &[
        &["SET", "garbage:a", "value"],
        &["GET", "garbage:a"],
        &["MSET", "garbage:a", "1", "garbage:b", "2"],
        &["SET", "garbage:a", "1", "EX", "10", "NX"],
        &["INCR", "garbage:n"],
        &["HELLO", "3", "SETNAME", "garbage"],
        &["CLIENT", "INFO"],
        &["COMMAND", "INFO", "get"],
        &["MULTI"],
        &["EXEC"],
        &["SCAN", "0", "MATCH", "garbage:*", "COUNT", "10"],
        &["BITFIELD", "garbage:f", "SET", "u8", "0", "255"],
        &["SETRANGE", "garbage:r", "100", "x"],
    ];
    let mut out = Vec::new();
    for _ in 0..=random.below(4) {
        let request = REQUESTS[random.below(REQUESTS.len() as u64) as usize];
        encode_request(&mut out, request);
    }
    out
}

/// Headers that promise far more than comes.
fn claims(random: &mut Random) -> Vec<u8> {
    const COUNTS: &[&str] = &["1048576", "1000000", "2147483647", "9223372036854775807", "-1", "3"];
    const LENGTHS: &[&str] = &["16777216", "8388608", "536870912", "-1", "0", "1000000"];
    let mut pick = |from: &[&str]| from[random.below(from.len() as u64) as usize].to_owned();
    format!("*{}\r\n${}\r\nabc", pick(COUNTS), pick(LENGTHS)).into_bytes()
}

/// Words of the protocol in no order.
fn tokens(random: &mut Random) -> Vec<u8> {
    const TOKENS: &[&str] = &[
        "*1\r\n", "*2\r\n", "*-1\r\n", "$4\r\n", "$0\r\n", "PING", "GET", "\r\n", "\n", "\"", "'",
        "\\x", " ", "\0", "*", "$", ":1\r\n", "+OK\r\n",
    ];
    let mut out = Vec::new();
    for _ in 0..=random.below(60) {
        out.extend_from_slice(TOKENS[random.below(TOKENS.len() as u64) as usize].as_bytes());
    }
    out
}

/// HTTP/2 frames of any type with any payload, after a proper beginning.
fn frames(random: &mut Random) -> Vec<u8> {
    let mut out = http2::opening();
    for _ in 0..=random.below(8) {
        let mut payload = vec![0; random.below(64) as usize];
        random.fill(&mut payload);
        let [kind, flags, stream, ..] = random.next().to_le_bytes();
        http2::frame(&mut out, kind % 12, flags, u32::from(stream % 8), &payload);
    }
    out
}

/// Changes, drops, doubles or inserts a few bytes.
fn mutated(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(5) {
        if bytes.is_empty() {
            break;
        }
        let at = random.below(bytes.len() as u64) as usize;
        let byte = random.next().to_le_bytes()[0];
        match random.below(5) {
            0 => bytes[at] = byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, byte),
            _ => bytes.truncate(at),
        }
    }
    bytes
}
