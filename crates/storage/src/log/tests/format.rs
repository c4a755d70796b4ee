//! The bytes of version 1, and bytes that are none of it.

use proptest::prelude::*;

use super::*;
use record::{Body, Decoder};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// A change here is a change of the format: it needs another version and a reader for this one.
#[test]
fn version_1_is_written_as_documented() {
    let header = segment::Header {
        incarnation: 1,
        number: 2,
        generation: 3,
        follows: 4,
        follows_crc: 5,
        durable: 6,
        oldest: 7,
        capacity: 8,
    };
    let page = header.encode();
    let expected = "4b544b494c4f470a010000009c6e2ddc01000000000000000200000000000000030000000000\
                    0000040000000000000006000000000000000700000000000000080000000000000005000000\
                    000000000000000000000000";
    assert_eq!(hex(&page[..88]), expected);
    assert_eq!(segment::Header::decode(&page), Ok(header));
    let mark = segment::Mark { generation: 3, durable: 9 };
    assert_eq!(hex(&mark.encode()), "003380744b4d524b03000000000000000900000000000000");

    let mut buffer = vec![0; frame::HEADER];
    let mut encoder = Encoder::new(&mut buffer);
    encoder.hard_state(ONE, &vote(5, 2).unwrap());
    encoder.truncate(TWO, Index(9));
    encoder.entry(ONE, &command(4, 5, "abc"));
    encoder.forget(SEVEN);
    let records = encoder.records;
    let frame = Frame {
        generation: 3,
        sequence: 10,
        durable: 9,
        oldest: 2,
        previous: 0xaabb,
        records,
        crc: 0,
        length: 0,
    };
    frame.seal(&mut buffer);
    let expected = "cd36b5544b46524d03000000000000000a000000000000000900000000000000020000000000\
                    000061000000bbaa000004000000000000000101000000210000000500000000000000010200\
                    0000000000006600000000000000010000000000000003020000000800000009000000000000\
                    0004010000001400000005000000000000000400000000000000016162630507000000000000\
                    00";
    assert_eq!(hex(&buffer), expected);
}

fn all_kinds() -> Vec<u8> {
    let mut body = Vec::new();
    let mut encoder = Encoder::new(&mut body).rewriting();
    encoder.hard_state(ONE, &HardState::default());
    encoder.base(ONE, &base(3, 2));
    encoder.entry(ONE, &command(4, 2, "some command"));
    let data = EntryData::Membership(membership());
    encoder.entry(ONE, &Entry { id: LogId::new(Term(2), Index(5)), data });
    encoder.entry(ONE, &Entry { id: LogId::new(Term(2), Index(6)), data: EntryData::Noop });
    body
}

#[test]
fn records_are_read_back() {
    let body = Bytes::from(all_kinds());
    let records: Vec<_> = Decoder::new(body.clone()).map(Result::unwrap).collect();
    assert_eq!(records.iter().map(|record| record.bytes).sum::<usize>(), body.len());
    assert!(records.iter().all(|record| record.rewritten && record.group == ONE));
    assert_eq!(records[1].body, Body::Base(base(3, 2)));
    assert_eq!(records[2].body, Body::Entry(command(4, 2, "some command")));
    for cut in 1..body.len() {
        let read = Decoder::new(body.slice(..cut));
        assert!(read.filter_map(Result::ok).count() < 5, "cut at {cut}");
    }
}

proptest! {
    // A changed index can ask for many absent entries, and each takes memory.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Decoder::new(Bytes::from(bytes)).count();
    }

    #[test]
    fn no_mutation_makes_the_replay_panic(
        changes in proptest::collection::vec((0..300_usize, any::<u8>()), 1..6),
    ) {
        let mut body = all_kinds();
        for (at, byte) in changes {
            let at = at % body.len();
            body[at] = byte;
        }
        let mut groups = groups::Groups::recovering();
        if groups.replay(1, 0, Bytes::from(body)).is_ok() && groups.check().is_ok() {
            let _ = groups.recovered(&BTreeMap::new());
        }
    }
}
