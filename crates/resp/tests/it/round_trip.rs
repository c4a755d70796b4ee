//! What is encoded is parsed back, however the stream is cut into pieces.

use bytes::{Bytes, BytesMut};
use kontiki_resp::{
    Encoder, Protocol, Reply, ReplyParse, ReplyParser, RequestParse, RequestParser, encode_request,
    format_integer, parse_integer,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), len).prop_map(Bytes::from)
}

/// Text that may stand in a line of its own.
fn line() -> impl Strategy<Value = Bytes> {
    "[ -~]{0,20}".prop_map(|text| Bytes::from(text.into_bytes()))
}

fn reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        line().prop_map(Reply::Simple),
        line().prop_map(Reply::Error),
        any::<i64>().prop_map(Reply::Integer),
        bytes(0..40).prop_map(Reply::Bulk),
        Just(Reply::Null),
        any::<f64>().prop_filter("NaN equals nothing", |x| !x.is_nan()).prop_map(Reply::Double),
        any::<bool>().prop_map(Reply::Boolean),
        bytes(0..40).prop_map(|text| Reply::Verbatim { format: *b"txt", text }),
        "-?[0-9]{1,40}".prop_map(|text| Reply::BigNumber(text.into_bytes().into())),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Reply::Array),
            vec(inner.clone(), 0..6).prop_map(Reply::Set),
            vec(inner.clone(), 0..6).prop_map(Reply::Push),
            vec((inner.clone(), inner), 0..4).prop_map(Reply::Map),
        ]
    })
}

fn encode(reply: &Reply, out: &mut Encoder<'_, Vec<u8>>) {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("a line is text");
    match reply {
        Reply::Simple(line) => out.simple(&text(line)),
        Reply::Error(line) => out.error(line),
        Reply::Integer(value) => out.integer(*value),
        Reply::Bulk(bytes) => out.bulk(bytes),
        Reply::Null => out.null(),
        Reply::Double(value) => out.double(*value),
        Reply::Boolean(value) => out.boolean(*value),
        Reply::Verbatim { format, text } => out.verbatim(*format, text),
        Reply::BigNumber(digits) => out.big_number(digits),
        Reply::Array(items) => {
            out.array(items.len());
            items.iter().for_each(|item| encode(item, out));
        }
        Reply::Set(items) => {
            out.set(items.len());
            items.iter().for_each(|item| encode(item, out));
        }
        Reply::Push(items) => {
            out.push(items.len());
            items.iter().for_each(|item| encode(item, out));
        }
        Reply::Map(pairs) => {
            out.map(pairs.len());
            pairs.iter().for_each(|(key, value)| {
                encode(key, out);
                encode(value, out);
            });
        }
    }
}

/// Cuts `stream` into pieces of the given lengths, over and over.
fn pieces<'a>(stream: &'a [u8], lengths: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = stream;
    let mut lengths = lengths.iter().cycle();
    std::iter::from_fn(move || {
        let len = (*lengths.next()?).min(rest.len());
        let (piece, after) = rest.split_at(len);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn requests(stream: &[u8], lengths: &[usize]) -> Vec<Vec<Bytes>> {
    let (mut parser, mut buffer) = (RequestParser::default(), BytesMut::new());
    let (mut args, mut requests) = (Vec::new(), Vec::new());
    for piece in pieces(stream, lengths) {
        buffer.extend_from_slice(piece);
        while let RequestParse::Request = parser.parse(&mut buffer, &mut args) {
            requests.push(args.clone());
        }
    }
    requests
}

fn replies(stream: &[u8], lengths: &[usize]) -> Vec<Reply> {
    let (mut parser, mut buffer) = (ReplyParser::default(), BytesMut::new());
    let mut replies = Vec::new();
    for piece in pieces(stream, lengths) {
        buffer.extend_from_slice(piece);
        while let ReplyParse::Reply(reply) = parser.parse(&mut buffer) {
            replies.push(reply);
        }
    }
    replies
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_come_back(
        sent in vec(vec(bytes(0..60), 1..6), 0..6),
        lengths in vec(1_usize..40, 1..8),
    ) {
        let mut stream = Vec::new();
        for request in &sent {
            encode_request(&mut stream, request);
        }
        prop_assert_eq!(requests(&stream, &lengths), sent);
    }

    #[test]
    fn replies_come_back(sent in vec(reply(), 0..4), lengths in vec(1_usize..40, 1..8)) {
        let mut stream = Vec::new();
        for reply in &sent {
            encode(reply, &mut Encoder::new(&mut stream, Protocol::Resp3));
        }
        prop_assert_eq!(replies(&stream, &lengths), sent);
    }

    /// For RESP2 other types come back, but as many replies as were sent.
    #[test]
    fn replies_for_resp2_keep_their_shape(sent in vec(reply(), 0..4)) {
        let mut stream = Vec::new();
        for reply in &sent {
            encode(reply, &mut Encoder::new(&mut stream, Protocol::Resp2));
        }
        prop_assert_eq!(replies(&stream, &[7]).len(), sent.len());
    }

    #[test]
    fn integers_come_back(value: i64) {
        prop_assert_eq!(parse_integer(format_integer(value, &mut [0; 20])), Some(value));
    }

    #[test]
    fn only_the_canonical_form_of_an_integer_is_read(text in "[-+0-9 ]{0,21}") {
        let expect = text.parse::<i64>().ok().filter(|value| value.to_string() == text);
        prop_assert_eq!(parse_integer(text.as_bytes()), expect);
    }
}
