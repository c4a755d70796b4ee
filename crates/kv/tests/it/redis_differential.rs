//! The same random commands to Redis 7.0 and to ours: the same answers, byte by byte.
//!
//! What cannot be the same is compared as far as it goes: times of the clock within a margin, lists
//! of keys without their order, walks by SCAN as a whole. Commands that look into Redis' memory
//! (OBJECT, MEMORY USAGE) are compared for errors and missing keys only.

use bytes::Bytes;
use kontiki_kv::command::{Parsed, Read, Write, parse};
use kontiki_kv::{Reply, table};
use kontiki_types::LogTime;

use crate::model::Model;
use crate::redis::{Client, Frame, Protocol, Server};

/// Commands per seed.
const COMMANDS: usize = 6000;

/// How far apart the two clocks may be: ours is read from Redis just before each command.
const CLOCK_MARGIN_MILLIS: i64 = 1000;

type Request = Vec<Bytes>;

#[test]
fn random_commands_answer_as_redis_does() {
    let Some(server) = Server::start() else { return };
    for (seed, protocol) in [
        (1, Protocol::Resp2),
        (2, Protocol::Resp3),
        (3, Protocol::Resp2),
        (4, Protocol::Resp3),
        (5, Protocol::Resp2),
        (6, Protocol::Resp3),
    ] {
        println!("seed {seed}");
        let mut pair = Pair::new(&server, protocol);
        let mut random = Random(seed);
        for _ in 0..COMMANDS {
            if random.below(20) == 0 {
                let count = random.below(5);
                let requests: Vec<Request> = (0..count).map(|_| request(&mut random)).collect();
                pair.transaction(&requests);
            } else {
                pair.command(&request(&mut random));
            }
        }
        pair.compare_states();
    }
}

#[test]
fn bit_and_range_commands_answer_as_redis_does() {
    let Some(server) = Server::start() else { return };
    let mut pair = Pair::new(&server, Protocol::Resp2);
    let numbers = [-9_i64, -8, -3, -2, -1, 0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 100];
    for value in [&b""[..], b"\0", b"\xff", b"\xff\xff\xff", b"\0\x01\0", b"foobar", b"\xff\xf0\0"]
    {
        pair.command(&[text("SET"), text("k"), Bytes::copy_from_slice(value)]);
        for start in numbers {
            let start = number(start);
            pair.command(&[text("BITPOS"), text("k"), text("0"), start.clone()]);
            pair.command(&[text("BITPOS"), text("k"), text("1"), start.clone()]);
            for end in numbers {
                let end = number(end);
                pair.command(&[text("GETRANGE"), text("k"), start.clone(), end.clone()]);
                for unit in ["BYTE", "BIT"] {
                    let range = [start.clone(), end.clone(), text(unit)];
                    pair.command(&[&[text("BITCOUNT"), text("k")], &range[..]].concat());
                    for bit in ["0", "1"] {
                        pair.command(
                            &[&[text("BITPOS"), text("k"), text(bit)], &range[..]].concat(),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn numbers_with_fractions_add_up_as_in_redis() {
    let Some(server) = Server::start() else { return };
    let mut pair = Pair::new(&server, Protocol::Resp2);
    let mut random = Random(11);
    let numbers = [
        "0",
        "-0",
        "1",
        "0.1",
        "-0.1",
        "3.0e3",
        "1e17",
        "1e18",
        "1e19",
        "1e20",
        "1e300",
        "-1e300",
        "1e4000",
        "1.18973149535723176502e4932",
        "1e4932",
        "1.2e4932",
        "1e-17",
        "5e-18",
        "5.0000001e-18",
        "15e-18",
        "1e-30",
        "1e-4931",
        "1e-4950",
        "1e-4951",
        "1e-4970",
        "0x1p-16445",
        "0x1p-16446",
        "0x1.8p-16446",
        "0x1fffffffffffffffff",
        "0x1.fffffffffffffffep16383",
        "0x1p16384",
        "18446744073709551615",
        "18446744073709551616",
        "36893488147419103233",
        "0.3",
        "2.675",
        "123456789.123456789123456789",
        "9007199254740993",
        "0.1000000000000000055",
        "1.",
        ".5",
        "+7",
        "1e",
        "e1",
        ".",
        "",
        " 1",
        "1 ",
        "0x",
        "0x.8",
        "0xg",
        "1e+",
        "inf",
        "-inf",
        "infinity",
        "nan",
        "NAN",
        "nan(1)",
        "1_000",
        "1,5",
        "--1",
        "1e99999999999",
        "0e99999999999",
        "1e-99999999999",
    ];
    for first in numbers {
        for second in numbers {
            pair.command(&[text("SET"), text("k"), text(first)]);
            pair.command(&[text("INCRBYFLOAT"), text("k"), text(second)]);
        }
    }
    for _ in 0..1500 {
        let mut decimal = || {
            let digits = |random: &mut Random, most| -> String {
                (0..random.below(most)).map(|_| (b'0' + random.below(10) as u8) as char).collect()
            };
            let sign = if random.below(2) == 0 { "-" } else { "" };
            let (whole, fraction) = (digits(&mut random, 22), digits(&mut random, 22));
            let exponent = random.below(60) as i64 - 30;
            text(&format!("{sign}{whole}.{fraction}e{exponent}"))
        };
        let (first, second) = (decimal(), decimal());
        pair.command(&[text("SET"), text("k"), first]);
        pair.command(&[text("INCRBYFLOAT"), text("k"), second]);
    }
    let long = "1".repeat(5118);
    for value in [long.clone() + ".", long.clone(), "0.".to_owned() + &long[..4000], long + "11"] {
        pair.command(&[text("SET"), text("k"), text(&value)]);
        pair.command(&[text("INCRBYFLOAT"), text("k"), text("1")]);
    }
}

#[test]
fn patterns_match_as_in_redis() {
    let Some(server) = Server::start() else { return };
    let mut pair = Pair::new(&server, Protocol::Resp2);
    let mut random = Random(5);
    let word = |random: &mut Random, alphabet: &[u8], most| -> Bytes {
        (0..random.below(most)).map(|_| random.pick(alphabet)).collect()
    };
    for _ in 0..150 {
        // Redis matches the empty key with the pattern `*` alone.
        let key = [b"a".as_slice(), &word(&mut random, b"ab-]^\\*?[\xff", 6)].concat().into();
        pair.command(&[text("SET"), key, text("v")]);
    }
    for _ in 0..3000 {
        let pattern = word(&mut random, b"aab**?[[]]^-\\\xff", 9);
        pair.command(&[text("KEYS"), pattern]);
    }
}

#[test]
fn walks_find_the_same_keys() {
    let Some(server) = Server::start() else { return };
    let mut pair = Pair::new(&server, Protocol::Resp2);
    for key in 0..3000 {
        let name = format!("{}key:{key}", if key % 3 == 0 { "{tag}" } else { "" });
        pair.command(&[text("SET"), text(&name), number(key)]);
    }
    for options in ["", "COUNT 7", "MATCH *1* COUNT 500", "TYPE string", "TYPE hash", "match *9"] {
        let options: Request = options.split_whitespace().map(text).collect();
        let theirs = walk(|request| pair.redis.call(request), &options);
        let ours = walk(|request| pair.ours(request), &options);
        assert_eq!(ours, theirs, "{options:?}");
    }
}

#[test]
fn the_table_says_what_redis_says() {
    let Some(server) = Server::start() else { return };
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let mut redis = server.connect(protocol);
        let entries =
            table::all().flat_map(|entry| std::iter::once(entry).chain(entry.subcommands));
        // These came with Redis 7.2.
        let later = ["client|setinfo", "cluster|myshardid"];
        for entry in entries.filter(|entry| !later.contains(&entry.name)) {
            let request = [text("INFO"), text(entry.name)];
            let ours = Frame::of(&table::command(&request), protocol);
            let theirs = redis.call(&[&[text("COMMAND")], &request[..]].concat());
            assert_eq!(comparable(ours), comparable(theirs), "{}", entry.name);
        }
        for line in [
            "COUNT x",
            "FOO",
            "GETKEYS",
            "GETKEYS get",
            "GETKEYS get a b",
            "GETKEYS foo a",
            "GETKEYS ping a",
            "GETKEYS mset a b c",
            "GETKEYS mset a b c d",
            "GETKEYS bitop and a b c",
            "GETKEYS object encoding a",
            "GETKEYS object foo a",
            "GETKEYS lcs a b idx",
            "GETKEYSANDFLAGS set a b",
            "GETKEYSANDFLAGS set a b get",
            "GETKEYSANDFLAGS copy a b",
            "GETKEYSANDFLAGS bitfield a get u8 0",
            "GETKEYSANDFLAGS bitfield a set u8 0 1",
            "GETKEYSANDFLAGS getex a",
            "INFO nosuch",
            "LIST x",
            "LIST FILTERBY x y",
            "LIST FILTERBY MODULE x",
            "LIST FILTERBY ACLCAT transaction",
            "LIST FILTERBY PATTERN GETE*",
            "LIST FILTERBY PATTERN object*",
            "DOCS nosuch",
            "HELP x",
        ] {
            let request: Request = line.split(' ').map(text).collect();
            let ours = Frame::of(&table::command(&request), protocol);
            let theirs = redis.call(&[&[text("COMMAND")], &request[..]].concat());
            assert_eq!(ours.sorted(), theirs.sorted(), "COMMAND {line}");
        }
    }
}

/// Both stores.
struct Pair {
    protocol: Protocol,
    redis: Client,
    model: Model,
}

impl Pair {
    fn new(server: &Server, protocol: Protocol) -> Self {
        let mut redis = server.connect(protocol);
        redis.call(&["FLUSHALL"]);
        Self { protocol, redis, model: Model::default() }
    }

    /// Gives a request to both.
    fn command(&mut self, request: &[Bytes]) {
        // Redis counts expired keys until it comes across them.
        let come_across = [&[text("EXISTS")], &KEYS.map(text)[..]].concat();
        self.redis.send(&[&come_across, &[text("TIME")], request]);
        self.redis.receive();
        let time = self.redis.receive();
        let theirs = self.redis.receive();
        self.set_clock(&time);
        // Redis' limit of LCS goes with the length of values, which is set low here; ours is that
        // of Redis' defaults, and would take long.
        if matches!(&theirs, Frame::Line(b'-', text) if text.starts_with(b"ERR Insufficient memory"))
        {
            return;
        }
        let ours = self.ours(request);
        assert!(agree(request, &ours, &theirs), "{request:?}\n ours {ours:?}\nRedis {theirs:?}");
    }

    /// Gives requests to both, as one transaction.
    fn transaction(&mut self, requests: &[Request]) {
        // Redis' DBSIZE counts keys that expired within the transaction; for LCS see above.
        let fit = |request: &&Request| {
            table::resolve(request).is_ok_and(|entry| !matches!(entry.name, "dbsize" | "lcs"))
        };
        let valid: Vec<&Request> = requests.iter().filter(fit).collect();
        let time = self.redis.call(&["TIME"]);
        self.redis.call(&["MULTI"]);
        for request in &valid {
            assert_eq!(self.redis.call(request), Frame::Line(b'+', b"QUEUED".to_vec()));
        }
        let theirs = self.redis.call(&["EXEC"]);
        self.set_clock(&time);
        let queued = |request: &&Request| {
            parse(request, 0).unwrap_or_else(|error| Parsed::Read(Read::Answer(error)))
        };
        let commands = valid.iter().map(queued).collect();
        let ours = self.execute(&Parsed::Write(Write::Exec { watched: Vec::new(), commands }));
        let ours = Frame::of(&ours, self.protocol);
        assert_eq!(ours.elements().len(), theirs.elements().len());
        for ((ours, theirs), request) in ours.elements().iter().zip(theirs.elements()).zip(valid) {
            assert!(agree(request, ours, theirs), "{request:?}\n ours {ours:?}\nRedis {theirs:?}");
        }
    }

    fn set_clock(&mut self, time: &Frame) {
        let part = |frame: &Frame| match frame {
            Frame::Bulk(_, bytes) => std::str::from_utf8(bytes).unwrap().parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        };
        let [seconds, micros] = time.elements() else { panic!("{time:?}") };
        self.model.now = LogTime(part(seconds) * 1000 + part(micros) / 1000);
    }

    fn ours(&mut self, request: &[Bytes]) -> Frame {
        let reply = match parse(request, 7) {
            Ok(parsed) => self.execute(&parsed),
            Err(error) => error,
        };
        Frame::of(&reply, self.protocol)
    }

    /// Runs a command that went through its byte form, and brings the reply through its own.
    fn execute(&mut self, parsed: &Parsed) -> Reply {
        let mut bytes = Vec::new();
        let reply = match parsed {
            Parsed::Read(read) => {
                read.encode(&mut bytes);
                assert_eq!(&Read::decode(&bytes.into()).unwrap(), read);
                read.execute(&self.model)
            }
            Parsed::Write(write) => {
                write.encode(&mut bytes);
                assert_eq!(&Write::decode(&bytes.into()).unwrap(), write);
                write.execute(&mut self.model)
            }
        };
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        Reply::decode(&bytes.into()).unwrap()
    }

    fn compare_states(&mut self) {
        self.command(&[text("DBSIZE")]);
        self.command(&[text("KEYS"), text("*")]);
        for key in KEYS {
            self.command(&[text("GET"), text(key)]);
            self.command(&[text("PEXPIRETIME"), text(key)]);
        }
    }
}

/// Whether two answers are the same, as far as they can be.
fn agree(request: &[Bytes], ours: &Frame, theirs: &Frame) -> bool {
    if ours == theirs {
        return true;
    }
    let name = request
        .first()
        .map_or(String::new(), |name| String::from_utf8_lossy(name).to_ascii_uppercase());
    let both_fine = !ours.is_error() && !theirs.is_error();
    match (name.as_str(), ours.integer(), theirs.integer()) {
        ("TTL" | "EXPIRETIME", Some(ours), Some(theirs)) => {
            ours > 0 && theirs > 0 && (ours - theirs).abs() <= 1
        }
        ("PTTL" | "PEXPIRETIME", Some(ours), Some(theirs)) => {
            ours > 0 && theirs > 0 && (ours - theirs).abs() < CLOCK_MARGIN_MILLIS
        }
        ("KEYS", ..) => ours.clone().sorted() == theirs.clone().sorted(),
        ("SCAN" | "RANDOMKEY", ..) => both_fine,
        ("OBJECT" | "MEMORY", ..) => {
            let null = |frame: &Frame| matches!(frame, Frame::Line(b'$' | b'_', _));
            both_fine && !null(ours) && !null(theirs)
        }
        _ => false,
    }
}

/// All keys of a walk by SCAN, sorted.
fn walk(mut call: impl FnMut(&[Bytes]) -> Frame, options: &[Bytes]) -> Vec<Frame> {
    let mut found = Vec::new();
    let mut cursor = text("0");
    loop {
        let reply = call(&[&[text("SCAN"), cursor], options].concat());
        let [Frame::Bulk(_, next), keys] = reply.elements() else { panic!("{reply:?}") };
        found.extend_from_slice(keys.elements());
        if next == b"0" {
            break;
        }
        cursor = Bytes::copy_from_slice(next);
    }
    found.sort();
    found.dedup();
    found
}

/// COMMAND INFO without what differs for a reason: notes on keys, and subcommands, which are
/// compared each by itself.
fn comparable(info: Frame) -> Frame {
    let Frame::Many(kind, mut infos) = info else { return info };
    if let [Frame::Many(_, fields)] = &mut infos[..] {
        fields.truncate(9);
        for spec in fields.iter_mut().skip(8) {
            let Frame::Many(_, specs) = spec else { continue };
            for spec in specs {
                let Frame::Many(_, fields) = spec else { continue };
                if fields[0] == Frame::Bulk(b'$', b"notes".to_vec()) {
                    fields.drain(..2);
                }
            }
        }
    }
    Frame::Many(kind, infos)
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn number(number: i64) -> Bytes {
    number.to_string().into()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const KEYS: [&str; 6] = ["a", "b", "c", "{a}d", "key:5", ""];

const VALUES: [&str; 22] = [
    "",
    "0",
    "1",
    "-1",
    "10",
    "12.5",
    "-3.25e2",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "007",
    " 1",
    "1 ",
    "hello",
    "Hello World",
    "ohmytext",
    "mynewtext",
    "\0\0\0",
    "\u{1}\u{80}",
    "abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc",
    "line\r\nbreak",
    "xyzzy",
];

const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "2",
    "3",
    "-1",
    "-2",
    "-3",
    "5",
    "7",
    "8",
    "10",
    "16",
    "31",
    "63",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "67108863",
    "67108864",
    "8388608",
    "x",
    "1.5",
];

/// Times from now on that never meet: no two of them, given at different moments, are equal.
const SPANS: [&str; 9] = [
    "1000",
    "20000",
    "50000",
    "0",
    "-1",
    "x",
    "9223372036854775807",
    "9223372036854775",
    "-9223372036854775808",
];

/// Moments in seconds: the past, and far in the future.
const MOMENTS: [&str; 8] =
    ["1", "0", "-5", "4000000000", "5000000000", "9000000000", "9223372036854775", "x"];

/// One request, mostly well formed.
fn request(random: &mut Random) -> Request {
    let template = random.pick(&TEMPLATES);
    let mut request = Vec::new();
    for word in template.split(' ') {
        fill(word, random, &mut request);
    }
    match random.below(40) {
        0 => request.truncate(1 + random.below(request.len() as u64) as usize),
        1 => request.push(text(random.pick(&VALUES))),
        _ => {}
    }
    if random.below(3) == 0 {
        request[0] = request[0].to_ascii_lowercase().into();
    }
    request
}

/// One word of a template: `k` a key, `v` a value, `n` a number, `s` a span, `m` a moment, `M` one
/// in milliseconds, `t` an integer type, `o` an offset in a bit field; `?` one of the words after
/// it or nothing, `+` some more of the next letter; anything else itself.
fn fill(word: &str, random: &mut Random, request: &mut Request) {
    const TYPES: [&str; 14] =
        ["u1", "u8", "i8", "u16", "i16", "u63", "u64", "i64", "i65", "i1", "u5", "x8", "i0", "u"];
    const OFFSETS: [&str; 10] = ["0", "1", "7", "8", "#0", "#1", "#3", "-1", "100", "#x"];
    match word {
        "k" => request.push(text(random.pick(&KEYS))),
        "v" => request.push(text(random.pick(&VALUES))),
        "n" => request.push(text(random.pick(&NUMBERS))),
        "s" => request.push(text(random.pick(&SPANS))),
        "m" => request.push(text(random.pick(&MOMENTS))),
        "M" => {
            let moment = random.pick(&MOMENTS);
            let far = moment.len() == 10;
            request.push(text(&format!("{moment}{}", if far { "000" } else { "" })));
        }
        "t" => request.push(text(random.pick(&TYPES))),
        "o" => request.push(text(random.pick(&OFFSETS))),
        _ => {
            if let Some(words) = word.strip_prefix('?') {
                let words: Vec<&str> = words.split('/').collect();
                let chosen = random.below(words.len() as u64 * 2) as usize;
                if let Some(words) = words.get(chosen) {
                    words.split('_').for_each(|word| fill(word, random, request));
                }
            } else if let Some(words) = word.strip_prefix('+') {
                for _ in 0..random.below(4) {
                    words.split('_').for_each(|word| fill(word, random, request));
                }
            } else {
                request.push(text(word));
            }
        }
    }
}

const TEMPLATES: [&str; 92] = [
    "GET k",
    "SET k v",
    "SET k v",
    "SET k v ?NX/XX/GET ?EX_s/PX_s/EXAT_m/PXAT_M/KEEPTTL ?GET/NX/XX/PERSIST ?EX_s/KEEPTTL/FOO",
    "SET k v ?nx/Xx/get ?ex_s/px_s/Exat_m/pxat_M/keepttl",
    "SETNX k v",
    "SETEX k s v",
    "PSETEX k s v",
    "GETEX k",
    "GETEX k ?EX_s/PX_s/EXAT_m/PXAT_M/PERSIST ?PERSIST/EX/KEEPTTL",
    "GETDEL k",
    "GETSET k v",
    "MGET k +k",
    "MSET k v +k_v",
    "MSET k v +k",
    "MSETNX k v +k_v",
    "APPEND k v",
    "STRLEN k",
    "GETRANGE k n n",
    "SUBSTR k n n",
    "SETRANGE k n v",
    "SETRANGE k 5 v",
    "INCR k",
    "DECR k",
    "INCRBY k n",
    "DECRBY k n",
    "INCRBYFLOAT k v",
    "INCRBYFLOAT k n",
    "LCS k k",
    "LCS k k ?LEN/IDX ?MINMATCHLEN_n ?WITHMATCHLEN ?LEN/FOO/MINMATCHLEN",
    "LCS k k IDX ?MINMATCHLEN_2 ?WITHMATCHLEN",
    "GETBIT k n",
    "SETBIT k n n",
    "SETBIT k 5 1",
    "BITCOUNT k",
    "BITCOUNT k n n ?BYTE/BIT/foo",
    "BITCOUNT k n",
    "BITPOS k n",
    "BITPOS k 0 n ?n",
    "BITPOS k 1 n n ?BYTE/BIT/foo",
    "BITOP AND k k +k",
    "BITOP OR k k +k",
    "BITOP xor k k +k",
    "BITOP NOT k k +k",
    "BITOP FOO k k",
    "BITFIELD k",
    "BITFIELD k +GET_t_o",
    "BITFIELD k GET t o SET t o n",
    "BITFIELD k INCRBY t o n",
    "BITFIELD k OVERFLOW SAT INCRBY i8 o n SET u8 o n",
    "BITFIELD k OVERFLOW FAIL INCRBY u8 o n SET i16 o n GET u63 3",
    "BITFIELD k OVERFLOW ?WRAP/sat/fail/x INCRBY i5 o n SET u63 o n",
    "BITFIELD k OVERFLOW WRAP INCRBY i64 o n SET i64 o n OVERFLOW SAT INCRBY i64 0 n",
    "BITFIELD k SET t o",
    "BITFIELD_RO k +GET_t_o",
    "BITFIELD_RO k GET u8 0 ?SET_u8_0_1/FOO",
    "DEL k +k",
    "UNLINK k +k",
    "EXISTS k +k",
    "TOUCH k +k",
    "TYPE k",
    "KEYS *",
    "KEYS ?a*/[ab]/*5/?ey*",
    "RANDOMKEY",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k ?REPLACE ?DB_n/DB/FOO",
    "EXPIRE k s ?NX/XX ?XX/FOO",
    "PEXPIRE k s ?NX/XX",
    "EXPIREAT k m ?NX/XX/GT/LT ?XX/GT/LT",
    "PEXPIREAT k M ?NX/XX/GT/LT ?XX/GT/LT/FOO",
    "TTL k",
    "PTTL k",
    "EXPIRETIME k",
    "PEXPIRETIME k",
    "PERSIST k",
    "SCAN n",
    "SCAN 0 ?MATCH_v ?COUNT_n ?TYPE_string/TYPE/FOO",
    "DBSIZE",
    "FLUSHDB ?ASYNC/SYNC/FOO",
    "FLUSHALL FOO",
    "OBJECT ENCODING k",
    "OBJECT REFCOUNT k",
    "OBJECT IDLETIME k",
    "OBJECT FREQ k",
    "OBJECT v k",
    "MEMORY USAGE k ?SAMPLES_n/SAMPLES/FOO",
    "SUBSTR k 0 -1",
    "nosuch v +v",
    "GETT",
    "TTL",
    "SET k",
];
