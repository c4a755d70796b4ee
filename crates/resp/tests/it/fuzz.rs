//! Fuzz targets: noise never panics, and where it is cut changes nothing.

use bytes::{Bytes, BytesMut};
use kontiki_resp::{
    ProtocolError, Reply, ReplyError, ReplyLimits, ReplyParse, ReplyParser, RequestLimits,
    RequestParse, RequestParser,
};

use crate::corpus;

/// Small, so that noise reaches them.
const REQUEST_LIMITS: RequestLimits =
    RequestLimits { args_max: 16, bulk_bytes_max: 64, request_bytes_max: 256, line_bytes_max: 48 };
const REPLY_LIMITS: ReplyLimits = ReplyLimits { depth_max: 4, elements_max: 32, bytes_max: 256 };

type Requests = (Vec<Vec<Bytes>>, Option<ProtocolError>);
type Replies = (Vec<Reply>, Option<ReplyError>);

fn requests(stream: &[u8], piece: usize, authenticated: bool) -> Requests {
    let (mut parser, mut buffer) = (RequestParser::new(REQUEST_LIMITS), BytesMut::new());
    parser.set_authenticated(authenticated);
    let (mut args, mut found) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&mut buffer, &mut args) {
                RequestParse::Incomplete => break,
                RequestParse::Request => {
                    assert!(!args.is_empty(), "a request without a name");
                    found.push(args.clone());
                }
                RequestParse::Invalid(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn replies(stream: &[u8], piece: usize) -> Replies {
    let (mut parser, mut buffer) = (ReplyParser::new(REPLY_LIMITS), BytesMut::new());
    let mut found = Vec::new();
    for piece in stream.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&mut buffer) {
                ReplyParse::Incomplete => break,
                ReplyParse::Reply(reply) => found.push(reply),
                ReplyParse::Invalid(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn check_requests(stream: &[u8]) {
    for authenticated in [true, false] {
        let whole = requests(stream, usize::MAX, authenticated);
        for piece in [1, 3, 17] {
            assert_eq!(requests(stream, piece, authenticated), whole, "in pieces of {piece}");
        }
    }
}

fn check_replies(stream: &[u8]) {
    // NaN is a legal double and not equal to itself, so the comparison is of text.
    let whole = format!("{:?}", replies(stream, usize::MAX));
    for piece in [1, 3, 17] {
        assert_eq!(format!("{:?}", replies(stream, piece)), whole, "in pieces of {piece}");
    }
}

/// Every change of one byte of `stream`, and every end of it, goes through `check`.
fn mutate(stream: &[u8], check: fn(&[u8])) {
    for at in 0..stream.len() {
        check(&stream[..at]);
        for byte in [0, b'\r', b'\n', b'-', b'0', b'9', b'$', b'*', b'"', 0xff, stream[at] ^ 1] {
            let mut mutated = stream.to_vec();
            mutated[at] = byte;
            check(&mutated);
        }
    }
}

#[test]
fn fuzz_requests() {
    bolero::check!().with_iterations(3_000).for_each(|stream: &[u8]| check_requests(stream));
}

#[test]
fn fuzz_replies() {
    bolero::check!().with_iterations(3_000).for_each(|stream: &[u8]| check_replies(stream));
}

/// Noise rarely gets past the first byte; noise made of the protocol's own words gets further.
#[test]
fn fuzz_requests_made_of_tokens() {
    bolero::check!().with_iterations(3_000).for_each(|choices: &[u8]| {
        check_requests(&corpus::from_tokens(corpus::REQUEST_TOKENS, choices));
    });
}

#[test]
fn fuzz_replies_made_of_tokens() {
    bolero::check!().with_iterations(3_000).for_each(|choices: &[u8]| {
        check_replies(&corpus::from_tokens(corpus::REPLY_TOKENS, choices));
    });
}

#[test]
fn committed_request_corpus_and_its_mutations() {
    let inputs = corpus::files("requests");
    assert!(inputs.len() >= 8, "the corpus is gone");
    for input in inputs {
        check_requests(&input);
        mutate(&input, check_requests);
    }
}

#[test]
fn committed_reply_corpus_and_its_mutations() {
    let inputs = corpus::files("replies");
    assert!(inputs.len() >= 8, "the corpus is gone");
    for input in inputs {
        check_replies(&input);
        mutate(&input, check_replies);
    }
}
