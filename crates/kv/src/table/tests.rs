use bytes::Bytes;

use super::*;

fn args(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

#[test]
fn every_command_is_found_in_any_case() {
    for entry in all() {
        assert_eq!(lookup(entry.name.as_bytes()).unwrap().name, entry.name);
        assert!(lookup(entry.name.to_uppercase().as_bytes()).is_some());
        for sub in entry.subcommands {
            assert_eq!(lookup_full(sub.name.as_bytes()).unwrap().name, sub.name);
        }
    }
    for unknown in ["", "ge", "gett", "get ", "object|nosuch", "get|x", "lpush", &"x".repeat(1000)]
    {
        assert!(lookup_full(unknown.as_bytes()).is_none(), "{unknown}");
    }
}

#[test]
fn every_entry_is_documented() {
    for entry in all().flat_map(|entry| std::iter::once(entry).chain(entry.subcommands)) {
        assert!(!entry.summary.is_empty() && !entry.complexity.is_empty(), "{}", entry.name);
        let names = 1 + entry.name.matches('|').count();
        let takes_some = entry.arity.unsigned_abs() as usize > names;
        if entry.subcommands.is_empty() && takes_some {
            assert!(!entry.syntax.is_empty(), "{}", entry.name);
        }
    }
}

#[test]
fn names_and_arity_are_checked_as_when_queueing() {
    let error = |line: &str| match resolve(&args(line)) {
        Err(Reply::Error(text)) => String::from_utf8(text.to_vec()).unwrap(),
        other => panic!("{line}: {other:?}"),
    };
    assert_eq!(error("get"), "ERR wrong number of arguments for 'get' command");
    assert_eq!(
        error("Object Encoding"),
        "ERR wrong number of arguments for 'object|encoding' command"
    );
    assert_eq!(error("object"), "ERR wrong number of arguments for 'object' command");
    assert_eq!(error("object foo"), "ERR unknown subcommand 'foo'. Try OBJECT HELP.");
    assert_eq!(
        error("nosuch a b"),
        "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' "
    );
    assert_eq!(resolve(&args("GET k")).unwrap().name, "get");
}

#[test]
fn keys_are_found_in_their_places() {
    let keys = |line: &str| {
        let args = args(line);
        let keys = keys_of(&args).map(|keys| keys.into_iter().cloned().collect::<Vec<_>>());
        keys.map_err(|error| match error {
            Reply::Error(text) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(keys("mset a 1 b 2"), Ok(args("a b")));
    assert_eq!(keys("bitop and to x y"), Ok(args("to x y")));
    assert_eq!(keys("object encoding k"), Ok(args("k")));
    assert_eq!(keys("copy a b replace"), Ok(args("a b")));
    assert_eq!(keys("lcs a b idx"), Ok(args("a b")));
    assert_eq!(keys("ping a"), Err("ERR The command has no key arguments".to_owned()));
    assert_eq!(keys("nosuch a"), Err("ERR Invalid command specified".to_owned()));
    assert_eq!(keys("object nosuch a"), Err("ERR Invalid command specified".to_owned()));
    let text = "ERR Invalid number of arguments specified for command";
    assert_eq!(keys("get a b"), Err(text.to_owned()));
}

#[test]
fn help_shows_syntax_and_summary() {
    let Reply::Array(lines) = help(lookup(b"memory").unwrap()) else { panic!("not an array") };
    assert!(lines.contains(&Reply::Status("USAGE key [SAMPLES count]".into())), "{lines:?}");
}

#[test]
fn syntax_becomes_arguments() {
    let bulk = |text: &str| Reply::Bulk(Bytes::copy_from_slice(text.as_bytes()));
    let field = |name: &str, value: Reply| (bulk(name), value);
    let name = |name: &str, kind: &str| vec![field("name", bulk(name)), field("type", bulk(kind))];
    let token = |word: &str| {
        let mut fields = name(&word.to_lowercase(), "pure-token");
        fields.push(field("token", bulk(word)));
        Reply::Map(fields)
    };
    let mut key = name("key", "key");
    key.push(field("key_spec_index", Reply::Integer(0)));
    let mut seconds = name("seconds", "integer");
    seconds.push(field("token", bulk("EX")));
    let mut choice = name("expiration", "oneof");
    choice.push(field("flags", Reply::Set(vec![Reply::Simple("optional")])));
    let parts = vec![Reply::Map(seconds), token("KEEPTTL")];
    choice.push(field("arguments", Reply::Array(parts)));
    assert_eq!(
        syntax::arguments("key [expiration:EX seconds|KEEPTTL]"),
        vec![Reply::Map(key.clone()), Reply::Map(choice)]
    );
    let mut pair = name("key_value", "block");
    pair.push(field("flags", Reply::Set(vec![Reply::Simple("multiple")])));
    let parts = vec![Reply::Map(key), Reply::Map(name("value", "string"))];
    pair.push(field("arguments", Reply::Array(parts)));
    assert_eq!(syntax::arguments("(key_value:key value)..."), vec![Reply::Map(pair)]);
}
