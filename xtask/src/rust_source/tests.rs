use super::{Kind, Source};

fn words(text: &str) -> Vec<&str> {
    let source = Source::scan(text);
    source.tokens.iter().filter(|token| token.kind == Kind::Word).map(|token| token.text).collect()
}

fn paths(text: &str) -> Vec<String> {
    Source::scan(text).paths().into_iter().map(|(path, _)| path).collect()
}

#[test]
fn strings_and_comments_hold_no_words() {
    let text = r##"let a = "fs \" net"; let b = r#"thread " x"#; // tokio
        /* std /* nested */ net */ let c = b"rand"; let d = 'x'; let e = '\''; let f = '\u{7f}';"##;
    assert_eq!(
        words(text),
        ["let", "a", "let", "b", "let", "c", "let", "d", "let", "e", "let", "f"]
    );
}

#[test]
fn lifetimes_are_not_characters() {
    let source = Source::scan("fn f<'a>(x: &'a str) -> &'static str { 'b' }");
    let lifetimes: Vec<&str> = source
        .tokens
        .iter()
        .filter(|token| token.kind == Kind::Lifetime)
        .map(|token| token.text)
        .collect();
    assert_eq!(lifetimes, ["'a", "'a", "'static"]);
}

#[test]
fn groups_of_a_use_are_written_out() {
    let found = paths("use std::{collections::BTreeMap, fs::{self, File}, io as input};");
    assert_eq!(
        found,
        ["use", "std::collections::BTreeMap", "std::fs::self", "std::fs::File", "std::io"]
    );
}

#[test]
fn paths_in_expressions_are_found() {
    assert!(
        paths("let now = std::time::Instant::now();").contains(&"std::time::Instant::now".into())
    );
}

#[test]
fn items_for_tests_are_left_out() {
    let text =
        "use a::b; #[cfg(test)] mod tests { fn f() { g(); } } #[cfg(test)] use c::d; fn h() {}";
    let kept: Vec<String> =
        Source::scan(text).without_tests().paths().into_iter().map(|(path, _)| path).collect();
    assert_eq!(kept, ["use", "a::b", "fn", "h"]);
}

#[test]
fn an_item_for_tests_or_a_feature_stays() {
    let text = "#[cfg(any(test, feature = \"x\"))] fn kept() {}";
    let source = Source::scan(text).without_tests();
    assert_eq!(source.lines_of(&["fn", "kept"]), [1]);
}

#[test]
fn lines_are_counted_through_literals_and_comments() {
    let text = "let a = \"x\ny\";\n/* 1\n2 */\nfn f() {}";
    assert_eq!(Source::scan(text).lines_of(&["fn", "f"]), [5]);
}
