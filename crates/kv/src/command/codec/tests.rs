use proptest::prelude::*;

use super::*;
use crate::command::parse;

/// Requests that together use every field of every kind.
const REQUESTS: [&str; 60] = [
    "GET k",
    "SET k v",
    "SET k v NX GET EX 10",
    "SET k v XX PXAT 4000000000000",
    "SET k v KEEPTTL",
    "SETNX k v",
    "GETEX k PERSIST",
    "GETEX k PX 5",
    "GETEX k EX 0",
    "GETDEL k",
    "MGET a b c",
    "MSET a 1 b 2",
    "MSETNX a 1",
    "APPEND k v",
    "STRLEN k",
    "GETRANGE k -5 9223372036854775807",
    "SETRANGE k 1000000 v",
    "INCR k",
    "DECRBY k 9223372036854775807",
    "INCRBYFLOAT k -1.5e-3000",
    "LCS a b",
    "LCS a b LEN",
    "LCS a b IDX MINMATCHLEN 300 WITHMATCHLEN",
    "GETBIT k 1000",
    "SETBIT k 1000 1",
    "BITCOUNT k",
    "BITCOUNT k -1 5 BIT",
    "BITPOS k 0",
    "BITPOS k 1 5",
    "BITPOS k 1 5 6 BYTE",
    "BITOP AND to a b",
    "BITOP OR to a",
    "BITOP XOR to a",
    "BITOP NOT to a",
    "BITFIELD k GET u63 #5 GET i64 0",
    "BITFIELD k SET i8 0 -5 OVERFLOW SAT INCRBY u1 9 1 OVERFLOW FAIL INCRBY i64 9 -1",
    "DEL a b",
    "EXISTS a b",
    "TYPE k",
    "KEYS a*",
    "RANDOMKEY",
    "RENAME a b",
    "RENAMENX a b",
    "COPY a b REPLACE",
    "EXPIRE k -10 NX",
    "PEXPIREAT k 4000000000000 XX GT",
    "EXPIRE k 10 LT",
    "PERSIST k",
    "TTL k",
    "PEXPIRETIME k",
    "SCAN 9007199254740991 MATCH a*b COUNT 1000 TYPE hash",
    "SCAN 0",
    "DBSIZE",
    "FLUSHALL",
    "OBJECT ENCODING k",
    "OBJECT REFCOUNT k",
    "OBJECT HELP",
    "MEMORY USAGE k",
    "BITCOUNT k 0 x",
    "SET  v",
];

fn parsed(line: &str) -> Parsed {
    let args: Vec<Bytes> =
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    parse(&args, u64::MAX).unwrap_or_else(|error| panic!("{line}: {error:?}"))
}

fn samples() -> Vec<Parsed> {
    let mut samples: Vec<Parsed> = REQUESTS.iter().map(|line| parsed(line)).collect();
    let key = Bytes::from_static(b"key");
    let versions = vec![(key.clone(), 0), (Bytes::new(), u64::MAX)];
    let slot = |number| Slot::new(number).unwrap();
    let slots = vec![(slot(0), slot(1)), (slot(5000), slot(16383))];
    let commands = samples.clone();
    samples.extend([
        Parsed::Write(Write::Exec { watched: versions.clone(), commands: commands.clone() }),
        Parsed::Write(Write::Transaction { compare: versions, commands }),
        Parsed::Write(Write::PutIfVersion { key: key.clone(), value: key.clone(), version: 300 }),
        Parsed::Read(Read::Versions { keys: vec![key.clone(), key.clone()] }),
        Parsed::Read(Read::GetWithVersion { key: key.clone() }),
        Parsed::Write(Write::FlushSlots { slots: slots.clone() }),
        Parsed::Write(Write::Steward { call: Bytes::from_static(b"any") }),
        Parsed::Read(Read::Steward { query: Bytes::new() }),
        Parsed::Read(Read::CountSlots { slots: slots.clone() }),
        Parsed::Read(Read::KeysOfSlots { slots, pattern: Some(key), limit: 300 }),
    ]);
    samples.extend(replies().into_iter().map(|reply| Parsed::Read(Read::Answer(reply))));
    samples
}

fn replies() -> Vec<Reply> {
    let text = Bytes::from_static(b"text");
    let flat = vec![
        Reply::Ok,
        Reply::Simple("QUEUED"),
        Reply::Simple("string"),
        Reply::Status(text.clone()),
        Reply::Nil,
        Reply::NilArray,
        Reply::Integer(i64::MIN),
        Reply::Integer(-1),
        Reply::Bulk(text.clone()),
        Reply::Verbatim(text.clone()),
        Reply::Error(text),
    ];
    let mut replies = flat.clone();
    replies.push(Reply::Set(flat.clone()));
    replies.push(Reply::Map(vec![(Reply::Ok, Reply::Array(flat))]));
    replies.push(Reply::Array(replies.clone()));
    replies
}

fn encoded(command: &Parsed) -> Vec<u8> {
    let mut bytes = Vec::new();
    match command {
        Parsed::Read(read) => read.encode(&mut bytes),
        Parsed::Write(write) => write.encode(&mut bytes),
    }
    bytes
}

#[test]
fn every_command_survives_its_bytes() {
    for command in samples() {
        let bytes = Bytes::from(encoded(&command));
        let decoded = match &command {
            Parsed::Read(_) => Read::decode(&bytes).map(Parsed::Read),
            Parsed::Write(_) => Write::decode(&bytes).map(Parsed::Write),
        };
        assert_eq!(decoded, Ok(command));
    }
}

#[test]
fn every_kind_of_write_and_read_is_among_the_samples() {
    let tags = |writes: bool| -> std::collections::BTreeSet<u8> {
        let of_kind = |command: &Parsed| matches!(command, Parsed::Write(_)) == writes;
        samples().iter().filter(|command| of_kind(command)).map(|one| encoded(one)[1]).collect()
    };
    assert_eq!(tags(true), (1..=24).collect());
    assert_eq!(tags(false), (1..=25).collect());
    // The next tags are free.
    for tag in [0, 26, 255] {
        let bytes = Bytes::from(vec![VERSION, tag, 0, 0, 0, 0]);
        assert_eq!(Write::decode(&bytes), Err(DecodeError::UnknownTag { what: "write", tag }));
        assert_eq!(Read::decode(&bytes), Err(DecodeError::UnknownTag { what: "read", tag }));
    }
}

#[test]
fn every_reply_survives_its_bytes() {
    for reply in replies() {
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        assert_eq!(Reply::decode(&bytes.into()), Ok(reply));
    }
}

/// The format stands in logs on disk: these bytes must never change.
#[test]
fn the_bytes_are_the_ones_on_disk() {
    let hex = |command: &Parsed| -> String {
        encoded(command).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(hex(&parsed("SET key value")), "0101036b65790576616c7565000000");
    assert_eq!(hex(&parsed("SET k v NX GET EX 10")), "0101016b017601010201a09c01");
    assert_eq!(hex(&parsed("SET k v KEEPTTL")), "0101016b0176000001");
    assert_eq!(hex(&parsed("INCRBY k -3")), "0109016b05");
    assert_eq!(hex(&parsed("INCRBYFLOAT k 1.5")), "010a016b00ffc1c000000000000000");
    assert_eq!(hex(&parsed("DEL a b")), "010e0201610162");
    assert_eq!(hex(&parsed("EXPIREAT k 1 GT")), "0111016b00d00f04");
    assert_eq!(hex(&parsed("GET key")), "0103036b6579");
    let exec = Write::Exec { watched: vec![], commands: vec![parsed("GET k"), parsed("INCR k")] };
    assert_eq!(hex(&Parsed::Write(exec)), "011400020003016b0109016b02");
}

#[test]
fn another_version_is_named() {
    let bytes = Bytes::from_static(&[2, 1, 0, 0]);
    assert_eq!(Write::decode(&bytes), Err(DecodeError::UnknownVersion { found: 2 }));
    assert_eq!(Write::decode(&Bytes::new()), Err(DecodeError::Truncated));
}

#[test]
fn what_follows_the_last_field_is_refused() {
    let mut bytes = encoded(&parsed("GET k"));
    bytes.push(0);
    assert_eq!(Read::decode(&bytes.into()), Err(DecodeError::Trailing { count: 1 }));
}

#[test]
fn claimed_lengths_reserve_nothing() {
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for head in [&[VERSION, 3][..], &[VERSION, 4], &[VERSION, 1, 8]] {
        let bytes = Bytes::from([head, &huge].concat());
        assert_eq!(Read::decode(&bytes), Err(DecodeError::Truncated));
    }
    let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    let bytes = Bytes::from([&[VERSION, 3][..], &beyond].concat());
    assert_eq!(Read::decode(&bytes), Err(DecodeError::NumberTooLarge));
}

#[test]
fn nesting_ends() {
    let mut bytes = vec![VERSION];
    bytes.extend([8, 1].repeat(100_000));
    assert_eq!(Reply::decode(&bytes.into()), Err(DecodeError::TooDeep));
    let exec = Write::Exec { watched: Vec::new(), commands: Vec::new() };
    let nested = Write::Exec { watched: Vec::new(), commands: vec![Parsed::Write(exec)] };
    let bytes = encoded(&Parsed::Write(nested));
    assert_eq!(Write::decode(&bytes.into()), Err(DecodeError::TooDeep));
}

#[test]
fn strings_are_slices_of_the_input() {
    let bytes = Bytes::from(encoded(&parsed("SET key value")));
    let Ok(Write::Set { value, .. }) = Write::decode(&bytes) else { panic!("not a SET") };
    assert!(bytes.as_ptr_range().contains(&value.as_ptr()));
}

/// Decodes as anything; what decodes has bytes of its own that bring it back.
fn check(bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    let again = |command: &Parsed| Bytes::from(encoded(command));
    if let Ok(write) = Write::decode(&bytes) {
        let bytes = again(&Parsed::Write(write.clone()));
        assert_eq!(Write::decode(&bytes), Ok(write));
    }
    if let Ok(read) = Read::decode(&bytes) {
        let bytes = again(&Parsed::Read(read.clone()));
        assert_eq!(Read::decode(&bytes), Ok(read));
    }
    if let Ok(reply) = Reply::decode(&bytes) {
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        assert_eq!(Reply::decode(&bytes.into()), Ok(reply));
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(mut bytes: Vec<u8>, tag in 0_u8..24) {
        check(bytes.clone());
        bytes.splice(..0, [VERSION, tag]);
        check(bytes);
    }

    #[test]
    fn damaged_commands_decode_or_are_refused(
        sample: prop::sample::Index,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep: prop::sample::Index,
        cut: bool,
    ) {
        let samples = samples();
        let mut bytes = encoded(sample.get(&samples));
        for (place, byte) in places {
            *place.get_mut(&mut bytes) = byte;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        check(bytes);
    }

    #[test]
    fn numbers_survive(unsigned: u64, signed: i64) {
        let mut bytes = vec![VERSION];
        unsigned.put(&mut bytes);
        prop_assert_eq!(decode::<u64>(&bytes.into()), Ok(unsigned));
        let mut bytes = vec![VERSION];
        signed.put(&mut bytes);
        prop_assert_eq!(decode::<i64>(&bytes.into()), Ok(signed));
    }
}
