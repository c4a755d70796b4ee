//! What commands do that a comparison with Redis does not show: time, versions, limits, SCAN's
//! promise.

use std::collections::BTreeSet;

use bytes::Bytes;
use kontiki_kv::command::{MAX_VALUE_BYTES, Parsed, Read, ScanPosition, Write, parse};
use kontiki_kv::{Access, AccessMut, Reply};
use kontiki_types::{LogTime, Slot};

use crate::model::Model;

const NIL_OR_NONE: Reply = Reply::Integer(-2);

fn parsed(line: &str) -> Parsed {
    let args: Vec<Bytes> = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
    parse(&args, 0).unwrap_or_else(|error| panic!("{line}: {error:?}"))
}

fn run(model: &mut Model, line: &str) -> Reply {
    match parsed(line) {
        Parsed::Read(read) => read.execute(model),
        Parsed::Write(write) => write.execute(model),
    }
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(Bytes::from(text.to_owned()))
}

fn error(text: &str) -> Reply {
    Reply::Error(Bytes::from(text.to_owned()))
}

#[test]
fn relative_times_count_from_the_log_time_at_apply() {
    let mut model = Model::default();
    model.now = LogTime(5_000);
    for line in ["SET k v EX 10", "SETEX k 10 v", "PSETEX k 10000 v", "SET k v PXAT 15000"] {
        run(&mut model, line);
        assert_eq!(run(&mut model, "PEXPIRETIME k"), Reply::Integer(15_000), "{line}");
    }
    run(&mut model, "EXPIRE k 20");
    assert_eq!(run(&mut model, "PEXPIRETIME k"), Reply::Integer(25_000));
    run(&mut model, "GETEX k PX 1");
    assert_eq!(run(&mut model, "PTTL k"), Reply::Integer(1));
}

#[test]
fn a_key_ends_when_the_log_time_reaches_its_expiry() {
    let mut model = Model::default();
    run(&mut model, "SET k v PXAT 1500");
    model.now = LogTime(1_499);
    assert_eq!(run(&mut model, "GET k"), bulk("v"));
    assert_eq!(run(&mut model, "TTL k"), Reply::Integer(0));
    model.now = LogTime(1_500);
    assert_eq!(run(&mut model, "GET k"), Reply::Nil);
    assert_eq!(run(&mut model, "PTTL k"), NIL_OR_NONE);
    assert_eq!(run(&mut model, "EXPIRE k 100"), Reply::Integer(0));
    assert_eq!(run(&mut model, "INCR k"), Reply::Integer(1));
    assert_eq!(run(&mut model, "TTL k"), Reply::Integer(-1));
}

#[test]
fn an_exec_runs_only_if_nothing_watched_has_changed() {
    let mut model = Model::default();
    run(&mut model, "SET a 1");
    let watch = |model: &Model, key: &'static str| {
        let keys = vec![Bytes::from_static(key.as_bytes())];
        let Reply::Array(versions) = (Read::Versions { keys: keys.clone() }).execute(model) else {
            panic!("versions are an array")
        };
        let Reply::Integer(version) = versions[0] else { panic!("a version is a number") };
        (keys[0].clone(), version.cast_unsigned())
    };
    let commands = vec![parsed("INCR a"), parsed("GET a"), parsed("SET b x"), parsed("INCR b")];
    let watched = vec![watch(&model, "a"), watch(&model, "none")];
    let exec = Write::Exec { watched, commands };
    let not_an_integer = error("ERR value is not an integer or out of range");
    assert_eq!(
        exec.execute(&mut model),
        Reply::Array(vec![Reply::Integer(2), bulk("2"), Reply::Ok, not_an_integer])
    );
    assert_eq!(exec.execute(&mut model), Reply::NilArray, "a has changed by the EXEC itself");
    assert_eq!(run(&mut model, "GET a"), bulk("2"));

    // A key that came and went has changed, too.
    let watched = vec![watch(&model, "none")];
    let exec = Write::Exec { watched, commands: vec![parsed("INCR a")] };
    run(&mut model, "SET none x");
    run(&mut model, "DEL none");
    assert_eq!(exec.execute(&mut model), Reply::NilArray);
}

#[test]
fn the_native_api_compares_versions_of_live_keys() {
    let mut model = Model::default();
    let key = Bytes::from_static(b"k");
    let put = |version| Write::PutIfVersion {
        key: key.clone(),
        value: Bytes::from_static(b"v"),
        version,
    };
    let pair = |reply: Reply| match reply {
        Reply::Array(parts) => match parts[..] {
            [Reply::Integer(done), Reply::Integer(version)] => (done, version.cast_unsigned()),
            _ => panic!("{parts:?}"),
        },
        reply => panic!("{reply:?}"),
    };
    run(&mut model, "SET k x");
    run(&mut model, "DEL k");
    // 0 creates, also where there was a key before.
    let (done, version) = pair(put(0).execute(&mut model));
    assert_eq!((done, version), (1, model.version(b"k")));
    assert_eq!(pair(put(0).execute(&mut model)), (0, version));
    assert_eq!(pair(put(version + 1).execute(&mut model)), (0, version));
    let get = Read::GetWithVersion { key: key.clone() };
    let number = |version: u64| Reply::Integer(version.cast_signed());
    assert_eq!(get.execute(&model), Reply::Array(vec![bulk("v"), number(version)]));
    let (done, second) = pair(put(version).execute(&mut model));
    assert!(done == 1 && second > version);

    let absent = Bytes::from_static(b"absent");
    let commands = vec![parsed("DEL k")];
    let compare = vec![(key.clone(), second), (absent.clone(), 0)];
    let transaction = Write::Transaction { compare, commands };
    assert_eq!(transaction.execute(&mut model), Reply::Array(vec![Reply::Integer(1)]));
    assert_eq!(transaction.execute(&mut model), Reply::NilArray);
    assert_eq!(get.execute(&model), Reply::Array(vec![Reply::Nil, number(0)]));
}

#[test]
fn values_grow_up_to_the_limit_and_not_beyond() {
    let too_long = error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    let mut model = Model::default();
    let last = MAX_VALUE_BYTES - 1;
    let length = Reply::Integer(MAX_VALUE_BYTES as i64);
    assert_eq!(run(&mut model, &format!("SETRANGE k {last} x")), length);
    assert_eq!(run(&mut model, &format!("SETRANGE k {last} xy")), too_long);
    assert_eq!(run(&mut model, "APPEND k x"), too_long);
    assert_eq!(
        run(&mut model, &format!("SETBIT bits {} 1", MAX_VALUE_BYTES * 8 - 1)),
        Reply::Integer(0)
    );
    assert_eq!(run(&mut model, "STRLEN bits"), length);
    run(&mut model, &format!("BITFIELD field SET u63 {} 1", MAX_VALUE_BYTES * 8 - 1));
    assert_eq!(run(&mut model, "STRLEN field"), Reply::Integer(MAX_VALUE_BYTES as i64 + 8));
    assert_eq!(
        run(&mut model, "LCS k bits LEN"),
        error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    );
}

#[test]
fn writes_that_change_nothing_keep_the_version() {
    let mut model = Model::default();
    run(&mut model, "MSET k v a b");
    let before = model.version(b"k");
    for line in [
        "SET k x NX",
        "SETNX k x",
        "MSETNX k 1 z 2",
        "GETEX k PERSIST",
        "PERSIST k",
        "RENAMENX a k",
        "COPY a k",
        "EXPIRE k 10 XX",
        "SETRANGE k 0 ",
        "SETBIT k 0 0",
        "INCR k",
        "RENAME k k",
        "BITFIELD k OVERFLOW FAIL SET u8 0 256",
    ] {
        run(&mut model, line);
        assert_eq!(model.version(b"k"), before, "{line}");
    }
}

#[test]
fn object_and_memory_answer_what_is_known() {
    let mut model = Model::default();
    for (value, encoding) in [
        ("0", "int"),
        ("-9223372036854775808", "int"),
        ("9223372036854775808", "embstr"),
        ("", "embstr"),
        (&"x".repeat(44), "embstr"),
        (&"x".repeat(45), "raw"),
    ] {
        run(&mut model, &format!("SET k {value}"));
        assert_eq!(run(&mut model, "OBJECT ENCODING k"), bulk(encoding), "{value}");
    }
    assert_eq!(run(&mut model, "OBJECT REFCOUNT k"), Reply::Integer(1));
    assert_eq!(run(&mut model, "OBJECT IDLETIME k"), Reply::Integer(0));
    let Reply::Integer(bytes) = run(&mut model, "MEMORY USAGE k") else { panic!("not a number") };
    assert!(bytes > 45);
}

#[test]
fn a_random_key_is_the_callers_choice() {
    let mut model = Model::default();
    assert_eq!(run(&mut model, "RANDOMKEY"), Reply::Nil);
    run(&mut model, "MSET a 1 b 2 c 3");
    let chosen = |choice| match parse(&[Bytes::from_static(b"randomkey")], choice) {
        Ok(Parsed::Read(read)) => match read.execute(&model) {
            Reply::Bulk(key) => key,
            reply => panic!("{reply:?}"),
        },
        other => panic!("{other:?}"),
    };
    let keys: BTreeSet<Bytes> = (0..3).map(chosen).collect();
    assert_eq!(keys.len(), 3);
}

#[test]
fn commands_name_their_keys_and_slots() {
    let keys = |line: &str| parsed(line).keys().into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(keys("MSET a 1 b 2"), ["a", "b"]);
    assert_eq!(keys("BITOP AND to a b"), ["to", "a", "b"]);
    assert_eq!(keys("DBSIZE"), [""; 0]);
    assert_eq!(parsed("GET a").slot(), Some(Slot::of(b"a")));
    assert_eq!(parsed("MGET {a}1 {a}2").slot(), Some(Slot::of(b"a")));
    assert_eq!(parsed("MGET a b").slot(), None);
    assert_eq!(parsed("KEYS *").slot(), None);
    let exec = Write::Exec {
        watched: vec![(Bytes::from_static(b"w"), 1)],
        commands: vec![parsed("GET a"), parsed("RENAME b c"), parsed("DBSIZE")],
    };
    assert_eq!(Parsed::Write(exec.clone()).keys(), ["w", "a", "b", "c"]);
    assert_eq!(exec.home_slot(), Slot::of(b"w"));
    assert_eq!(Write::Flush.home_slot(), Slot::default());
}

/// Walks over all keys; `between` runs between two steps.
fn walk(model: &mut Model, count: u64, mut between: impl FnMut(&mut Model)) -> (Vec<Bytes>, usize) {
    let (mut found, mut steps, mut cursor) = (Vec::new(), 0, 0_u64);
    loop {
        let reply = run(model, &format!("SCAN {cursor} COUNT {count}"));
        let Reply::Array(parts) = reply else { panic!("{reply:?}") };
        let [Reply::Bulk(next), Reply::Array(keys)] = &parts[..] else { panic!("{parts:?}") };
        found.extend(keys.iter().map(|key| match key {
            Reply::Bulk(key) => key.clone(),
            other => panic!("{other:?}"),
        }));
        steps += 1;
        cursor = std::str::from_utf8(next).unwrap().parse().unwrap();
        assert!(cursor < 1 << 53, "a double holds it");
        if cursor == 0 {
            return (found, steps);
        }
        between(model);
    }
}

#[test]
fn scan_meets_every_key_that_stays() {
    let mut model = Model::default();
    for key in 0..2000 {
        // Half of them in one slot.
        let tag = if key % 2 == 0 { "{t}" } else { "" };
        model.put(format!("{tag}stays:{key}").as_bytes(), Bytes::new(), None);
        model.put(format!("{tag}goes:{key}").as_bytes(), Bytes::new(), None);
    }
    let mut turn = 0;
    let (found, _) = walk(&mut model, 10, |model| {
        for _ in 0..10 {
            model.delete(format!("{{t}}goes:{turn}").as_bytes());
            model.delete(format!("goes:{turn}").as_bytes());
            model.put(format!("{{t}}new:{turn}").as_bytes(), Bytes::new(), None);
            turn += 1;
        }
    });
    let unique: BTreeSet<&Bytes> = found.iter().collect();
    assert_eq!(unique.len(), found.len(), "no key twice");
    let stays = unique.iter().filter(|key| key.as_ref().windows(6).any(|part| part == b"stays:"));
    assert_eq!(stays.count(), 2000);
}

#[test]
fn scan_makes_even_steps_within_one_slot() {
    let mut model = Model::default();
    for key in 0..5000 {
        model.put(format!("{{one}}:a-long-common-prefix:{key:08}").as_bytes(), Bytes::new(), None);
    }
    let (found, steps) = walk(&mut model, 100, |_| {});
    assert_eq!(found.len(), 5000);
    assert!((45..=50).contains(&steps), "{steps} steps");
    let (found, steps) = walk(&mut model, 1_000_000, |_| {});
    assert_eq!((found.len(), steps), (5000, 1));
}

#[test]
fn any_cursor_is_a_place() {
    let mut model = Model::default();
    run(&mut model, "MSET a 1 b 2");
    for cursor in [1, 5, 1 << 39, (1 << 53) - 1, 1 << 53, u64::MAX] {
        let Reply::Array(parts) = run(&mut model, &format!("SCAN {cursor}")) else {
            panic!("not an array")
        };
        assert_eq!(parts[0], bulk("0"), "{cursor}");
    }
    for key in ["", "a", "{tag}x", "another"] {
        let place = ScanPosition::of(key.as_bytes());
        assert_eq!(ScanPosition::from_cursor(place.cursor()), place);
        assert_eq!(place.slot(), Slot::of(key.as_bytes()));
    }
}
