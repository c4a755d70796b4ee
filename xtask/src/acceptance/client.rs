//! A Redis client in a hundred lines: blocking, RESP2, and independent of the code under test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that says nothing for this long is taken for dead. Longer than its own request timeout.
const SILENCE_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// What the server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Reply>),
}

impl Reply {
    pub fn is_ok(&self) -> bool {
        *self == Reply::Status("OK".to_string())
    }
}

/// One connection.
pub struct Client {
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Client { reader: BufReader::with_capacity(1 << 16, stream), out: Vec::new() })
    }

    /// Sends one command and waits for its reply.
    pub fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.add(&words);
        self.send()?;
        self.reply()
    }

    /// Adds a command to what [`Client::send`] sends.
    pub fn add(&mut self, words: &[&[u8]]) {
        encode(words, &mut self.out);
    }

    pub fn send(&mut self) -> io::Result<()> {
        let sent = self.reader.get_mut().write_all(&self.out);
        self.out.clear();
        sent
    }

    /// The next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        let text = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
        let text = text.ok_or_else(|| unexpected(&line))?;
        let rest = text.get(1..).unwrap_or_default();
        let number = || rest.parse::<i64>().map_err(|_| unexpected(&line));
        match text.as_bytes().first() {
            Some(b'+') => Ok(Reply::Status(rest.to_string())),
            Some(b'-') => Ok(Reply::Error(rest.to_string())),
            Some(b':') => Ok(Reply::Integer(number()?)),
            Some(b'$') => self.bulk(number()?),
            Some(b'*') => self.array(number()?),
            _ => Err(unexpected(&line)),
        }
    }

    fn bulk(&mut self, length: i64) -> io::Result<Reply> {
        let Ok(length) = usize::try_from(length) else { return Ok(Reply::Nil) };
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Reply::Bulk(bytes))
    }

    fn array(&mut self, length: i64) -> io::Result<Reply> {
        let Ok(length) = usize::try_from(length) else { return Ok(Reply::Nil) };
        (0..length).map(|_| self.reply()).collect::<io::Result<Vec<Reply>>>().map(Reply::Array)
    }
}

/// One command in RESP.
pub fn encode(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

fn unexpected(line: &[u8]) -> io::Error {
    if line.is_empty() {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection");
    }
    let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    io::Error::new(io::ErrorKind::InvalidData, format!("not a reply: {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn replies_of_every_kind_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream
                .write_all(b"+OK\r\n-ERR no\r\n:7\r\n$2\r\nhi\r\n$-1\r\n*2\r\n:1\r\n$0\r\n\r\n")
                .expect("sent");
        });
        let mut client = Client::connect(address).expect("connected");
        let mut next = || client.reply().expect("a reply");
        assert!(next().is_ok());
        assert_eq!(next(), Reply::Error("ERR no".to_string()));
        assert_eq!(next(), Reply::Integer(7));
        assert_eq!(next(), Reply::Bulk(b"hi".to_vec()));
        assert_eq!(next(), Reply::Nil);
        assert_eq!(next(), Reply::Array(vec![Reply::Integer(1), Reply::Bulk(Vec::new())]));
        server.join().expect("sent");
        assert!(client.reply().is_err());
    }

    #[test]
    fn commands_are_encoded() {
        let mut out = Vec::new();
        encode(&[b"GET", b"k"], &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }
}
