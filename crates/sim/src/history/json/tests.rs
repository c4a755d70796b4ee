use bytes::Bytes;
use kontiki_resp::Reply;

use super::super::{History, Operation, Outcome, Request};

fn line(operation: Operation) -> String {
    History { operations: vec![operation] }.to_json_lines()
}

fn known(reply: Reply) -> Outcome {
    Outcome::Known { reply, at: 2500 }
}

#[test]
fn each_outcome_has_its_form() {
    let set = |outcome| line(Operation::command(3, &["SET", "k", "v", "NX"], 1000, outcome));
    let head = r#"{"client":3,"op":"SET","key":"k","value":["v","NX"],"output":"#;
    let expect = |end: &str| format!("{head}{end}\n");
    assert_eq!(
        set(known(Reply::Simple("OK".into()))),
        expect(r#""OK","call":1000,"return":2500}"#)
    );
    assert_eq!(set(known(Reply::Null)), expect(r#"null,"call":1000,"return":2500}"#));
    assert_eq!(set(Outcome::Unknown), expect(r#"null,"call":1000,"return":null}"#));
    let refused = Outcome::Refused { reason: "TRYAGAIN later".into(), at: 2500 };
    assert_eq!(set(refused), expect(r#"{"refused":"TRYAGAIN later"},"call":1000,"return":2500}"#));
    assert_eq!(
        set(known(Reply::Error("WRONGTYPE no".into()))),
        expect(r#"{"error":"WRONGTYPE no"},"call":1000,"return":2500}"#)
    );
}

#[test]
fn a_transaction_is_one_line() {
    let words = |text: &str| text.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
    let request = Request::Transaction(vec![words("INCR {a}n"), words("GET {a}s")]);
    let reply = Reply::Array(vec![Reply::Integer(-7), Reply::Bulk("x".into())]);
    let text = line(Operation { client: 0, request, call: 0, outcome: known(reply) });
    let expect = concat!(
        r#"{"client":0,"op":"EXEC","key":"{a}n","value":[["INCR","{a}n"],["GET","{a}s"]],"#,
        r#""output":[-7,"x"],"call":0,"return":2500}"#,
        "\n"
    );
    assert_eq!(text, expect);
    let history = History::from_json_lines(&text).expect("a history");
    assert_eq!(history.to_json_lines(), expect);
}

#[test]
fn every_byte_comes_back() {
    let all: Vec<u8> = (0..=255).collect();
    let request =
        Request::Command(vec!["SET".into(), Bytes::from(all.clone()), Bytes::from(all.clone())]);
    let outcome = known(Reply::Bulk(all.into()));
    let history =
        History { operations: vec![Operation { client: u64::MAX, request, call: 9, outcome }] };
    let text = history.to_json_lines();
    assert!(text.is_ascii());
    assert_eq!(History::from_json_lines(&text).expect("a history"), history);
}

#[test]
fn other_writers_may_use_spaces_and_other_orders() {
    let text = concat!(
        "\n { \"return\" : 5, \"call\" : 4 , \"output\" : [ ] , \"value\" : [ ], ",
        "\"key\" : \"\u{fc}\\/\\n\", \"op\" : \"get\", \"client\" : 1 } \n\n"
    );
    let history = History::from_json_lines(text).expect("a history");
    let words = history.operations[0].request.commands()[0].clone();
    assert_eq!(words, [&b"get"[..], b"\xfc/\n"]);
}

#[test]
fn what_is_no_operation_names_its_line() {
    let good = line(Operation::command(1, &["GET", "k"], 1, known(Reply::Null)));
    for (bad, what) in [
        ("{", "a string is missing at byte 1"),
        ("[]", "not an object"),
        ("{}", "there is no client"),
        (&good.replace("2500", "0"), "the return is before the call"),
        (&good.replace("2500", "2.5"), "a whole number is missing at byte 76"),
        (&good.replace("null", "{\"value\":1}"), "output is an object without an error"),
        (&good.replace("\"k\"", "\"\u{100}\""), "not a byte at byte 30"),
        (&good.replace("2500}", "2500}}"), "something follows at byte 81"),
        (&"[".repeat(100), "too deep"),
    ] {
        let error = History::from_json_lines(&format!("{good}{bad}")).expect_err(bad);
        assert_eq!((error.line, error.what.as_str()), (2, what), "{bad}");
    }
}
