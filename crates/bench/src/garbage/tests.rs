use std::net::TcpListener;

use super::*;
use crate::testing::RespServer;

/// A listener that greets every HTTP/2 client with empty settings and reads on.
fn grpc_server() -> SocketAddr {
    use std::io::{Read, Write};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut settings = Vec::new();
                http2::frame(&mut settings, http2::SETTINGS, 0, 0, &[]);
                let _ = (&stream).write_all(&settings);
                while (&stream).read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

fn options(server: &RespServer, count: u64) -> GarbageOptions {
    let mut options = GarbageOptions::new(server.address(), grpc_server().to_string(), count, 1);
    (options.half_open, options.unread, options.seconds_max) = (20, 50, 20.0);
    options
}

#[test]
fn a_server_that_bears_it_has_no_problems() {
    let server = RespServer::start();
    let report = run_garbage(&options(&server, 300)).expect("it serves");
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.sent, report.half_open), (300, 20));
    assert!(report.witness_ops > 0 && report.rss_peak_bytes.is_some());
}

#[test]
fn a_server_that_lies_is_found_out() {
    let server = RespServer::start();
    server.forget_writes();
    let report = run_garbage(&options(&server, 50)).expect("it serves");
    assert!(report.problems.iter().any(|problem| problem.contains("errors")), "{report:?}");
}

#[test]
fn without_a_server_there_is_an_error() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let free = free.expect("a free port").to_string();
    let error = run_garbage(&GarbageOptions::new(&free, &free, 1, 1)).expect_err("nobody is there");
    assert!(error.to_string().starts_with(&format!("cannot use {free}")), "{error}");
}
