use super::Extended;

#[track_caller]
fn parsed(text: &str) -> Extended {
    Extended::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text} is a number"))
}

/// The sum as Redis 7.0.15 on x86-64 answers it.
#[track_caller]
fn check(first: &str, second: &str, expected: &str) {
    let sum = parsed(first).checked_add(parsed(second)).expect("finite");
    assert_eq!(String::from_utf8_lossy(&sum.format()), expected, "{first} + {second}");
}

#[test]
fn sums_as_redis_prints_them() {
    check("0", "10.50", "10.5");
    check("10.5", "0.1", "10.6");
    check("10.50", "-10.5", "0");
    check("5.0e3", "200", "5200");
    check("3", "1.1", "4.1");
    check("0", "0.1", "0.1");
    check("-0", "-0", "0");
    check("1", "-0.00000000000000000000001", "1");
    check("0x10", "0x.8p1", "17");
    check("1e19", "1", "10000000000000000001");
    check("1e20", "1", "100000000000000000000");
}

#[test]
fn only_numbers_are_read() {
    for text in
        ["", " 1", "1 ", "1e", "e1", ".", "-", "+-1", "nan", "1e5000", "1e-5000", "0x", "1_0"]
    {
        assert_eq!(Extended::parse(text.as_bytes()), None, "{text}");
    }
    for text in ["+1", "1.", ".5", "1E+2", "0e99999999999", "INF", "-Infinity"] {
        parsed(text);
    }
}

#[test]
fn the_infinite_has_no_sum() {
    assert_eq!(parsed("inf").checked_add(parsed("1")), None);
    let largest = parsed("1.1e4932");
    assert_eq!(largest.checked_add(largest), None);
}

#[test]
fn bytes_bring_back_the_number_and_nothing_else() {
    for text in ["0", "-0", "1", "-1.5", "1e4932", "1e-4940", "inf", "-inf"] {
        let number = parsed(text);
        assert_eq!(Extended::from_bytes(&number.to_bytes()), Some(number), "{text}");
    }
    assert_eq!(Extended::from_bytes(&[0; 11]), None, "not in the one form of zero");
    assert_eq!(Extended::from_bytes(&[2; 11]), None);
}

#[test]
fn round_trips_through_text_where_doubles_do() {
    for number in [0.5_f64, 1.25, 1e15, 123_456.75, -0.0625] {
        let text = number.to_string();
        assert_eq!(parsed(&text).format(), text.as_bytes());
    }
}
