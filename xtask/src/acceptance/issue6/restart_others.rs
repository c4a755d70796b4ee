//! The servers that Kontiki's restart is compared with: three of etcd, and one Redis that syncs each
//! write (`appendfsync always`).

use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use super::restart::{Data, Reader, Servers, ask, await_read, key, value};
use crate::acceptance::Context;
use crate::program::{Group, Program};

/// One write to etcd that holds several keys.
const KEYS_AT_ONCE: u64 = 64;
const CLIENTS: u64 = 8;
const ANSWER_MAX: Duration = Duration::from_secs(20);

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Kills them with -9; dropping a group does, and waits until its program is gone.
fn kill_all(groups: &mut Vec<Group>) {
    groups.clear();
}

pub(super) struct Redis {
    directory: PathBuf,
    address: SocketAddr,
    running: Vec<Group>,
}

impl Redis {
    pub(super) fn new(context: &Context) -> Result<Redis> {
        let directory = context.scratch.join("redis");
        std::fs::create_dir_all(&directory)?;
        Ok(Redis { directory, address: free_address()?, running: Vec::new() })
    }
}

impl Servers for Redis {
    fn start(&mut self) -> Result<()> {
        let started = Program::new("redis-server")
            .args(["--port", &self.address.port().to_string(), "--bind", "127.0.0.1"])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir"])
            .args([&self.directory])
            .spawn_logged(&self.directory.join("server"))?;
        self.running.push(started);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        kill_all(&mut self.running);
        Ok(())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    fn reader(&self) -> Reader {
        ask
    }
}

pub(super) struct Etcd {
    directory: PathBuf,
    clients: [SocketAddr; 3],
    peers: [SocketAddr; 3],
    running: Vec<Group>,
}

impl Etcd {
    pub(super) fn new(context: &Context) -> Result<Etcd> {
        let directory = context.scratch.join("etcd");
        std::fs::create_dir_all(&directory)?;
        let clients = [free_address()?, free_address()?, free_address()?];
        let peers = [free_address()?, free_address()?, free_address()?];
        Ok(Etcd { directory, clients, peers, running: Vec::new() })
    }

    /// Writes all keys, some in each transaction, by the JSON gateway.
    pub(super) fn fill(&mut self, data: Data) -> Result<()> {
        await_read(self, "nothing-yet", None)?;
        let clients = self.clients;
        let writers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let address = clients[client as usize % clients.len()];
                std::thread::spawn(move || fill_part(address, data, client))
            })
            .collect();
        for writer in writers {
            writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
        }
        Ok(())
    }
}

impl Servers for Etcd {
    fn start(&mut self) -> Result<()> {
        let name = |node: usize, peer: &SocketAddr| format!("n{node}=http://{peer}");
        let cluster: Vec<String> =
            self.peers.iter().enumerate().map(|(node, peer)| name(node, peer)).collect();
        for (node, (client, peer)) in self.clients.iter().zip(&self.peers).enumerate() {
            let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
            let directory = self.directory.join(format!("n{node}"));
            let started = Program::new("etcd")
                .args(["--name", &format!("n{node}"), "--data-dir"])
                .args([&directory])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
                .args(["--quota-backend-bytes", "8589934592"])
                .spawn_logged(&directory)?;
            self.running.push(started);
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        kill_all(&mut self.running);
        Ok(())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.clients.to_vec()
    }

    fn reader(&self) -> Reader {
        read_etcd
    }
}

fn fill_part(address: SocketAddr, data: Data, client: u64) -> Result<()> {
    let own: Vec<u64> = (client..data.keys).step_by(CLIENTS as usize).collect();
    let mut stream = connect(address).context("no connection to etcd")?;
    for batch in own.chunks(KEYS_AT_ONCE as usize) {
        let puts = batch.iter().map(|&number| {
            let (key, value) = (key(number), value(number, data.value_bytes));
            serde_json::json!({
                "request_put": { "key": base64(key.as_bytes()), "value": base64(&value) }
            })
        });
        let body = serde_json::json!({ "success": puts.collect::<Vec<_>>() }).to_string();
        let answer = post(&mut stream, "/v3/kv/txn", &body).context("etcd does not answer")?;
        ensure!(answer["succeeded"] == true, "etcd answered {answer}");
    }
    Ok(())
}

/// A linearizable read, which is what etcd does unless told otherwise.
fn read_etcd(address: SocketAddr, key: &str) -> Option<Vec<u8>> {
    let body = serde_json::json!({ "key": base64(key.as_bytes()) }).to_string();
    let answer = post(&mut connect(address)?, "/v3/kv/range", &body)?;
    answer["header"]["revision"].as_str()?;
    let value = answer["kvs"][0]["value"].as_str().unwrap_or_default();
    from_base64(value)
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

/// The JSON that a `POST` with status 200 answers.
fn post(stream: &mut TcpStream, path: &str, body: &str) -> Option<serde_json::Value> {
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut said = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let head = said.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let text = std::str::from_utf8(&said[..head]).ok()?.to_ascii_lowercase();
            if !text.starts_with("http/1.1 200") {
                return None;
            }
            let body = &said[head + 4..];
            let whole = match text.lines().find_map(|line| line.strip_prefix("content-length:")) {
                Some(length) => body.get(..length.trim().parse().ok()?).map(<[u8]>::to_vec),
                // So long answers come in chunks.
                None => unchunked(body)?,
            };
            if let Some(body) = whole {
                return serde_json::from_slice(&body).ok();
            }
        }
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        said.extend_from_slice(&piece[..count]);
    }
}

/// The chunks of a body (RFC 9112, section 7.1), if they are whole: `Some(None)` if more is to come, and
/// `None` if these are no chunks.
fn unchunked(mut body: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut whole = Vec::new();
    loop {
        let Some(end) = body.windows(2).position(|end| end == b"\r\n") else { return Some(None) };
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        let begins = end + 2;
        let Some(chunk) = body.get(begins..begins + length) else { return Some(None) };
        if body.len() < begins + length + 2 {
            return Some(None);
        }
        if length == 0 {
            return Some(Some(whole));
        }
        whole.extend_from_slice(chunk);
        body = &body[begins + length + 2..];
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_there = digit <= chunk.len();
            let at = (group >> (18 - 6 * digit) & 63) as usize;
            text.push(if is_there { DIGITS[at] as char } else { '=' });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let at = DIGITS.iter().position(|known| *known == digit)?;
        bits = bits << 6 | at as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let known =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in known {
            assert_eq!(base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text), Some(bytes.as_bytes().to_vec()));
        }
        assert_eq!(from_base64("Zm9*"), None);
    }

    #[test]
    fn chunks_are_put_together() {
        let whole = b"3\r\nkon\r\n4\r\ntiki\r\n0\r\n\r\n";
        assert_eq!(unchunked(whole), Some(Some(b"kontiki".to_vec())));
        for end in 0..whole.len() {
            assert_eq!(unchunked(&whole[..end]), Some(None), "the first {end} bytes");
        }
        assert_eq!(unchunked(b"no\r\n"), None);
    }
}
