//! A tiny key/value server by RESP, for the tests of this crate.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::{Bytes, BytesMut};
use kontiki_resp::{Encoder, Protocol, RequestParse, RequestParser};

#[derive(Default)]
struct Store {
    values: Mutex<HashMap<Bytes, Bytes>>,
    forgets: AtomicBool,
    /// Every key is at the server of this address instead.
    moved_to: Mutex<Option<String>>,
}

/// A thread for each connection; they end with the process.
pub(crate) struct RespServer {
    address: SocketAddr,
    store: Arc<Store>,
}

impl RespServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let store = Arc::new(Store::default());
        let shared = store.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let store = shared.clone();
                thread::spawn(move || serve(stream, address.port(), &store));
            }
        });
        Self { address, store }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn len(&self) -> usize {
        self.store.values.lock().expect("no panic holds it").len()
    }

    /// From here on `SET` answers and does nothing.
    pub(crate) fn forget_writes(&self) {
        self.store.forgets.store(true, Ordering::Relaxed);
    }

    /// From here on every `GET` and `SET` is sent on to `other`.
    pub(crate) fn move_to(&self, other: &Self) {
        *self.store.moved_to.lock().expect("no panic holds it") = Some(other.address());
    }
}

fn serve(mut stream: TcpStream, port: u16, store: &Store) {
    let (mut parser, mut input) = (RequestParser::default(), BytesMut::new());
    let (mut args, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => input.extend_from_slice(&piece[..read]),
            _ => return,
        }
        let mut out = Vec::new();
        let closes = loop {
            match parser.parse(&mut input, &mut args) {
                RequestParse::Incomplete => break false,
                RequestParse::Request => answer(&args, port, store, &mut out),
                RequestParse::Invalid(error) => {
                    Encoder::new(&mut out, Protocol::Resp2).error(error.to_string());
                    break true;
                }
            }
        };
        if stream.write_all(&out).is_err() || closes {
            return;
        }
    }
}

fn answer(args: &[Bytes], port: u16, store: &Store, out: &mut Vec<u8>) {
    let mut reply = Encoder::new(out, Protocol::Resp2);
    let moved = store.moved_to.lock().expect("no panic holds it").clone();
    let mut values = store.values.lock().expect("no panic holds it");
    match args {
        [name] if name == "PING" => reply.simple("PONG"),
        [name, what] if name == "CLUSTER" && what == "SLOTS" => {
            reply.array(1);
            reply.array(3);
            reply.integer(0);
            reply.integer(16383);
            reply.array(2);
            reply.bulk(b"");
            reply.integer(i64::from(port));
        }
        [name, ..] if moved.is_some() && (name == "GET" || name == "SET") => {
            reply.error(format!("MOVED 1 {}", moved.unwrap_or_default()));
        }
        [name, key] if name == "GET" => match values.get(key) {
            Some(value) => reply.bulk(value),
            None => reply.null(),
        },
        [name, key, value] if name == "SET" => {
            if !store.forgets.load(Ordering::Relaxed) {
                // Copies, so that a value does not keep a whole read buffer.
                values.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            }
            reply.ok();
        }
        _ => reply.error("ERR unknown command"),
    }
}
