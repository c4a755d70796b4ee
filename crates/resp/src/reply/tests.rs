use super::*;

fn parse_in_pieces<'a>(
    limits: ReplyLimits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Reply>, Option<ReplyError>) {
    let mut parser = ReplyParser::new(limits);
    let mut buffer = BytesMut::new();
    let mut replies = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&mut buffer) {
                ReplyParse::Incomplete => break,
                ReplyParse::Reply(reply) => replies.push(reply),
                ReplyParse::Invalid(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

#[track_caller]
fn check(input: &str, expect: &[Reply]) {
    let got = parse_in_pieces(ReplyLimits::default(), [input.as_bytes()]);
    assert_eq!(got, (expect.to_vec(), None), "{input:?}");
}

#[track_caller]
fn check_error(input: &str, expect: ReplyError) {
    let got = parse_in_pieces(ReplyLimits::default(), [input.as_bytes()]);
    assert_eq!(got.1, Some(expect), "{input:?}");
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn every_type_is_read() {
    check("+OK\r\n", &[Reply::Simple("OK".into())]);
    check("-ERR no\r\n", &[Reply::Error("ERR no".into())]);
    check("!6\r\nERR no\r\n", &[Reply::Error("ERR no".into())]);
    check(":-7\r\n:+7\r\n", &[Reply::Integer(-7), Reply::Integer(7)]);
    check("$3\r\na\nb\r\n$0\r\n\r\n", &[bulk("a\nb"), bulk("")]);
    check("$-1\r\n*-1\r\n_\r\n", &[Reply::Null, Reply::Null, Reply::Null]);
    check(",1.5\r\n,-inf\r\n", &[Reply::Double(1.5), Reply::Double(f64::NEG_INFINITY)]);
    check("#t\r\n#f\r\n", &[Reply::Boolean(true), Reply::Boolean(false)]);
    check("(123\r\n", &[Reply::BigNumber("123".into())]);
    check("=6\r\ntxt:hi\r\n", &[Reply::Verbatim { format: *b"txt", text: "hi".into() }]);
    check("~1\r\n:1\r\n", &[Reply::Set(vec![Reply::Integer(1)])]);
    check(">1\r\n$1\r\na\r\n", &[Reply::Push(vec![bulk("a")])]);
    check("%1\r\n$1\r\na\r\n:1\r\n", &[Reply::Map(vec![(bulk("a"), Reply::Integer(1))])]);
}

#[test]
fn aggregates_nest() {
    let inner = Reply::Array(vec![Reply::Integer(1), Reply::Array(vec![])]);
    check(
        "*3\r\n*2\r\n:1\r\n*0\r\n%0\r\n$1\r\nx\r\n:9\r\n",
        &[Reply::Array(vec![inner, Reply::Map(vec![]), bulk("x")]), Reply::Integer(9)],
    );
}

#[test]
fn attributes_are_dropped() {
    check(
        "|1\r\n+ttl\r\n*1\r\n:5\r\n*2\r\n:1\r\n|0\r\n:2\r\n",
        &[Reply::Array(vec![Reply::Integer(1), Reply::Integer(2)])],
    );
}

#[test]
fn malformed_replies_are_refused() {
    check_error("PING\r\n", ReplyError::UnknownType(b'P'));
    check_error(":1x\r\n", ReplyError::Malformed(b':'));
    check_error(":+-1\r\n", ReplyError::Malformed(b':'));
    check_error(":1\n", ReplyError::Malformed(b':'));
    check_error("$-2\r\n", ReplyError::Malformed(b'$'));
    check_error("$1\r\nabc\r\n", ReplyError::Malformed(b'$'));
    check_error("*x\r\n", ReplyError::Malformed(b'*'));
    check_error("#x\r\n", ReplyError::Malformed(b'#'));
    check_error("_x\r\n", ReplyError::Malformed(b'_'));
    check_error(",x\r\n", ReplyError::Malformed(b','));
    check_error("(x\r\n", ReplyError::Malformed(b'('));
    check_error("=2\r\nab\r\n", ReplyError::Malformed(b'='));
}

#[test]
fn replies_have_limits() {
    let limits = ReplyLimits { depth_max: 2, elements_max: 4, bytes_max: 32 };
    let error = |input: &str| parse_in_pieces(limits, [input.as_bytes()]).1;
    assert_eq!(error("*1\r\n*1\r\n:1\r\n"), None);
    assert_eq!(error("*1\r\n*1\r\n*1\r\n"), Some(ReplyError::TooDeep));
    assert_eq!(error("*5\r\n"), Some(ReplyError::TooManyElements));
    assert_eq!(error("*3\r\n*2\r\n"), Some(ReplyError::TooManyElements));
    assert_eq!(error("%9223372036854775807\r\n"), Some(ReplyError::TooManyElements));
    assert_eq!(error("$33\r\n"), Some(ReplyError::TooManyBytes));
    assert_eq!(error(&"+".repeat(33)), Some(ReplyError::TooManyBytes));
    assert_eq!(
        error("*2\r\n$12\r\n123456789012\r\n$12\r\n123456789012\r\n"),
        Some(ReplyError::TooManyBytes)
    );
    // They hold for one reply, not for the stream.
    assert_eq!(error(&"*3\r\n:1\r\n:1\r\n:1\r\n".repeat(100)), None);
}

#[test]
fn an_error_is_final() {
    let mut parser = ReplyParser::default();
    let expect = ReplyParse::Invalid(ReplyError::UnknownType(b'x'));
    assert_eq!(parser.parse(&mut "x".into()), expect);
    assert_eq!(parser.parse(&mut "+OK\r\n".into()), expect);
}

#[test]
fn a_claimed_count_reserves_little() {
    let mut parser = ReplyParser::default();
    assert_eq!(parser.parse(&mut "*16777216\r\n".into()), ReplyParse::Incomplete);
    assert!(parser.open[0].items.capacity() <= ITEMS_RESERVED_MAX);
}

#[test]
fn feeding_byte_by_byte_takes_linear_time() {
    let text = "x".repeat(1_000_000);
    let simple = format!("+{text}\r\n");
    let bulk = format!("$1000000\r\n{text}\r\n");
    let array = format!("*200000\r\n{}", ":1\r\n".repeat(200_000));
    for input in [simple, bulk, array] {
        let got = parse_in_pieces(ReplyLimits::default(), input.as_bytes().chunks(1));
        assert_eq!((got.0.len(), got.1), (1, None));
    }
}
