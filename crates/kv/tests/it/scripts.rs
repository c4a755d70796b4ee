//! Commands with the answers of Redis 7.0, in `tests/commands/*.txt`.
//!
//! A line is a request, words with `"…"` and `\xHH` where needed, ` => ` and its answer. With
//! `KONTIKI_REWRITE=1` the answers are written from the `redis-server` that is installed; without,
//! ours are compared with the ones written, and those with Redis.

use std::path::Path;

use bytes::Bytes;
use kontiki_kv::Reply;
use kontiki_kv::command::{Parsed, parse};
use kontiki_types::LogTime;

use crate::model::Model;
use crate::redis::{Frame, Protocol, Server};

#[test]
fn commands_answer_as_written() {
    for (path, lines) in scripts() {
        // Some moment of 2026.
        let mut model = Model::default();
        model.now = LogTime(1_800_000_000_000);
        for line in lines.iter().filter(|line| !line.starts_with('#')) {
            let (request, expected) = line.split_once(" => ").expect(line);
            let reply = match parse(&words(request), 0) {
                Ok(Parsed::Read(read)) => read.execute(&model),
                Ok(Parsed::Write(write)) => write.execute(&mut model),
                Err(error) => error,
            };
            assert_eq!(shown(&reply), expected, "{path}: {request}");
        }
    }
}

#[test]
fn written_answers_are_those_of_redis() {
    let Some(server) = Server::start() else { return };
    let rewrite = std::env::var_os("KONTIKI_REWRITE").is_some();
    for (path, lines) in scripts() {
        let mut redis = server.connect(Protocol::Resp2);
        redis.call(&["FLUSHALL"]);
        let mut written = Vec::new();
        for line in &lines {
            if line.starts_with('#') {
                written.push(line.clone());
                continue;
            }
            let request = line.split_once(" => ").map_or(line.as_str(), |(request, _)| request);
            let answer = format!("{:?}", redis.call(&words(request)));
            written.push(format!("{request} => {answer}"));
        }
        if rewrite {
            std::fs::write(&path, written.join("\n") + "\n").unwrap();
        } else {
            for (line, written) in lines.iter().zip(&written) {
                assert_eq!(line, written, "{path}");
            }
        }
    }
}

fn shown(reply: &Reply) -> String {
    format!("{:?}", Frame::of(reply, Protocol::Resp2))
}

fn scripts() -> Vec<(String, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let script = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text.lines().map(str::to_owned).collect())
    };
    paths.into_iter().map(script).collect()
}

/// The words of a request.
fn words(line: &str) -> Vec<Bytes> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quoted = false;
    let mut symbols = line.bytes();
    while let Some(symbol) = symbols.next() {
        match symbol {
            b'"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            b' ' if !quoted => words.extend(word.take()),
            b'\\' => {
                let byte = match symbols.next() {
                    Some(b'x') => {
                        let digits = [symbols.next().unwrap(), symbols.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    Some(b'r') => b'\r',
                    Some(b'n') => b'\n',
                    other => panic!("{line}: {other:?} after a backslash"),
                };
                word.get_or_insert_default().push(byte);
            }
            symbol => word.get_or_insert_default().push(symbol),
        }
    }
    words.extend(word);
    words.into_iter().map(Bytes::from).collect()
}
