use super::*;

/// Everything a stream of bytes is parsed to: requests, then the error that ended it, if any.
#[derive(Debug, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Bytes>>,
    error: Option<ProtocolError>,
}

fn parse_in_pieces<'a>(
    parser: &mut RequestParser,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let mut outcome = Outcome { requests: Vec::new(), error: None };
    let mut buffer = BytesMut::new();
    let mut args = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&mut buffer, &mut args) {
                RequestParse::Incomplete => break,
                RequestParse::Request => outcome.requests.push(args.clone()),
                RequestParse::Invalid(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome
}

fn parse(input: &[u8]) -> Outcome {
    parse_in_pieces(&mut RequestParser::default(), [input])
}

#[track_caller]
fn check(input: &str, expect: &[&[&str]]) {
    let expect: Vec<Vec<Bytes>> = expect
        .iter()
        .map(|request| request.iter().map(|arg| Bytes::copy_from_slice(arg.as_bytes())).collect())
        .collect();
    assert_eq!(parse(input.as_bytes()), Outcome { requests: expect, error: None }, "{input:?}");
}

#[track_caller]
fn check_error(input: impl AsRef<[u8]>, expect: &str) {
    let error = parse(input.as_ref()).error.expect("an error");
    assert_eq!(error.to_string(), format!("ERR Protocol error: {expect}"));
}

#[test]
fn arrays_of_bulk_strings_are_requests() {
    check("*1\r\n$4\r\nPING\r\n", &[&["PING"]]);
    check("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n", &[&["SET", "k", ""]]);
    check("*2\r\n$4\r\nECHO\r\n$4\r\na\r\nb\r\n", &[&["ECHO", "a\r\nb"]]);
    check("*1\r\n$0\r\n\r\n", &[&[""]]);
}

#[test]
fn requests_can_be_pipelined_and_mixed_with_inline_ones() {
    check("PING\r\n*1\r\n$4\r\nQUIT\r\nECHO a\n", &[&["PING"], &["QUIT"], &["ECHO", "a"]]);
}

#[test]
fn empty_requests_are_passed_over() {
    for empty in ["*0\r\n", "*-1\r\n", "*-5\r\n", "\r\n", "\n", "  \r\n", "\n\r\n\n"] {
        check(&format!("{empty}PING\r\n"), &[&["PING"]]);
        check(&format!("{empty}*1\r\n$4\r\nPING\r\n"), &[&["PING"]]);
    }
}

// A Redis 7.0.15 answers every input of the next four tests the same way.
#[test]
fn a_wrong_number_of_arguments_is_refused() {
    for count in ["", "abc", "+1", "01", " 1", "-0", "2147483648", "9223372036854775808", "1\nx"] {
        check_error(format!("*{count}\r\n"), "invalid multibulk length");
    }
}

#[test]
fn a_wrong_length_is_refused() {
    for length in ["", "-1", "-0", "abc", "+4", "04", "536870913", "9223372036854775808"] {
        check_error(format!("*1\r\n${length}\r\nPING\r\n"), "invalid bulk length");
    }
}

#[test]
fn an_argument_must_be_a_bulk_string() {
    check_error("*1\r\n:1\r\n", "expected '$', got ':'");
    check_error("*1\r\n\r\n", "expected '$', got ' '");
    check_error("*2\r\n$4\r\nECHO\r\n+a\r\n", "expected '$', got '+'");
}

#[test]
fn line_ends_are_not_looked_at_closely() {
    check("*1\r\n$4\r\nPINGxxPING\r\n", &[&["PING"], &["PING"]]);
    check("*1\rX$4\rXPING\r\n", &[&["PING"]]);
    check("PING\r\r\n", &[&["PING"]]);
}

#[test]
fn lines_have_a_limit() {
    let long = |start: &str, byte: &str, count| format!("{start}{}", byte.repeat(count));
    check_error(long("", "x", 65_537), "too big inline request");
    check_error(long("*", "1", 65_536), "too big mbulk count string");
    check_error(long("*1\r\n$", "1", 65_536), "too big bulk count string");
    for input in [long("", "x", 65_536), long("*", "1", 65_535), long("*1\r\n$", "1", 65_535)] {
        assert_eq!(parse(input.as_bytes()).error, None);
    }
    check_error(long("", "x", 65_537) + "\r\n", "too big inline request");
}

#[test]
fn unbalanced_quotes_are_refused_and_what_came_before_is_kept() {
    let outcome = parse(b"PING\r\nECHO \"a\r\n");
    assert_eq!(outcome.requests.len(), 1);
    assert_eq!(outcome.error, Some(ProtocolError::UnbalancedQuotes));
}

#[test]
fn a_client_without_password_gets_little_room() {
    let outcome = |input: &str| {
        let mut parser = RequestParser::default();
        parser.set_authenticated(false);
        parse_in_pieces(&mut parser, [input.as_bytes()]).error
    };
    assert_eq!(outcome("*10\r\n$16384\r\n"), None);
    assert_eq!(outcome("*11\r\n"), Some(ProtocolError::UnauthenticatedMultibulkLength));
    assert_eq!(outcome("*1\r\n$16385\r\n"), Some(ProtocolError::UnauthenticatedBulkLength));
    assert_eq!(outcome("*1\r\n$-1\r\n"), Some(ProtocolError::InvalidBulkLength));
}

#[test]
fn limits_can_be_set() {
    let limits =
        RequestLimits { args_max: 3, bulk_bytes_max: 8, request_bytes_max: 40, line_bytes_max: 10 };
    let error =
        |input: &str| parse_in_pieces(&mut RequestParser::new(limits), [input.as_bytes()]).error;
    assert_eq!(error("*3\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n"), None);
    assert_eq!(error("*4\r\n"), Some(ProtocolError::InvalidMultibulkLength));
    assert_eq!(error("*1\r\n$9\r\n"), Some(ProtocolError::InvalidBulkLength));
    assert_eq!(error("01234567890"), Some(ProtocolError::InlineTooBig));
    let long = "*3\r\n$8\r\n12345678\r\n$8\r\n12345678\r\n$8\r\n";
    assert_eq!(error(long), Some(ProtocolError::RequestTooBig));
}

#[test]
fn an_error_is_final() {
    let mut parser = RequestParser::default();
    let mut args = Vec::new();
    let expect = RequestParse::Invalid(ProtocolError::InvalidMultibulkLength);
    assert_eq!(parser.parse(&mut "*x\r\n".into(), &mut args), expect);
    assert_eq!(parser.parse(&mut "PING\r\n".into(), &mut args), expect);
    assert!(args.is_empty());
}

#[test]
fn what_is_missing_of_an_argument_is_known() {
    let mut parser = RequestParser::default();
    let mut buffer = BytesMut::from("*1\r\n$100\r\nabc");
    assert_eq!(parser.bytes_missing(&buffer), 0);
    assert_eq!(parser.parse(&mut buffer, &mut Vec::new()), RequestParse::Incomplete);
    assert_eq!(parser.bytes_missing(&buffer), 99);
}

#[test]
fn a_claimed_count_or_length_reserves_nothing() {
    let mut parser = RequestParser::default();
    let mut buffer = BytesMut::from("*1048576\r\n$16777216\r\n");
    let (capacity, mut args) = (buffer.capacity(), Vec::new());
    assert_eq!(parser.parse(&mut buffer, &mut args), RequestParse::Incomplete);
    assert_eq!((buffer.capacity(), args.capacity(), parser.found.capacity()), (capacity, 0, 0));
}

#[test]
fn arguments_are_slices_of_one_buffer() {
    let mut buffer = BytesMut::from("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    let place = buffer.as_ptr() as usize;
    let mut args = Vec::new();
    assert_eq!(RequestParser::default().parse(&mut buffer, &mut args), RequestParse::Request);
    let offsets: Vec<_> = args.iter().map(|arg| arg.as_ptr() as usize - place).collect();
    assert_eq!(offsets, [8, 17]);
}

/// A parser that began anew at every call would need hours for the first of these.
#[test]
fn feeding_byte_by_byte_takes_linear_time() {
    let mut bulk = b"*2\r\n$4\r\nECHO\r\n$2000000\r\n".to_vec();
    bulk.resize(bulk.len() + 2_000_000, b'\n');
    bulk.extend_from_slice(b"\r\n");
    let many = "$1\r\na\r\n".repeat(200_000);
    let many = format!("*200000\r\n{many}").into_bytes();
    let inline = vec![b'x'; 65_000];
    for (input, requests) in [(bulk, 1), (many, 1), (inline, 0)] {
        let outcome = parse_in_pieces(&mut RequestParser::default(), input.chunks(1));
        assert_eq!((outcome.requests.len(), outcome.error), (requests, None));
    }
}

#[test]
fn cutting_the_stream_anywhere_changes_nothing() {
    let streams: &[&[u8]] = &[
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na\rb\r\nPING\r\n*0\r\n*-1\r\n\r\n*1\r\n$4\r\nQUIT\r\n",
        b"ECHO \"a b\\x41\" 'c'\r\n*2\r\n$3\r\nGET\r\n:1\r\n",
        b"*1\r\n$4\r\nPINGxx*1\r\n$05\r\n",
        b"PING\n\n  \nECHO \"a\r\n",
    ];
    for stream in streams {
        let whole = parse(stream);
        for cut in 0..=stream.len() {
            let (a, b) = stream.split_at(cut);
            assert_eq!(parse_in_pieces(&mut RequestParser::default(), [a, b]), whole, "cut {cut}");
        }
        let bytewise = parse_in_pieces(&mut RequestParser::default(), stream.chunks(1));
        assert_eq!(bytewise, whole);
    }
}
