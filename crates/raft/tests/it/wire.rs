//! The byte codec: what is encoded comes back, and no bytes make the decoder panic.

use kontiki_raft::wire::{self, DecodeError};
use kontiki_raft::{Base, Body, Entry, EntryData, HardState, Message};
use kontiki_types::Term;
use proptest::prelude::*;

use crate::cluster::{log_id, membership, n};
use crate::noise;

fn decode(bytes: &[u8]) -> Result<Message<Vec<u8>>, DecodeError> {
    wire::decode_message(bytes, |range| bytes[range].to_vec())
}

fn encode(message: &Message<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode_message(message, &mut bytes);
    bytes
}

/// Whether the codec can carry it: it carries no malformed configuration, and no entries with gaps.
fn is_sound(message: &Message<Vec<u8>>) -> bool {
    match &message.body {
        Body::Append { prev, entries, .. } => {
            let mut index = prev.index.0;
            entries.iter().all(|entry| {
                let follows = index.checked_add(1) == Some(entry.id.index.0);
                index = entry.id.index.0;
                follows && is_sound_entry(entry)
            })
        }
        Body::Snapshot { meta, .. } => meta.membership.is_well_formed(),
        _ => true,
    }
}

fn is_sound_entry(entry: &Entry<Vec<u8>>) -> bool {
    match &entry.data {
        EntryData::Membership(membership) => membership.is_well_formed(),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn messages_come_back(message in noise::message()) {
        let bytes = encode(&message);
        match decode(&bytes) {
            Ok(decoded) => {
                if is_sound(&message) {
                    prop_assert_eq!(decoded, message);
                } else {
                    // Contiguous by construction, whatever went in.
                    prop_assert!(is_sound(&decoded));
                }
            }
            Err(error) => prop_assert!(!is_sound(&message), "{}", error),
        }
    }

    #[test]
    fn entries_come_back(list in prop::collection::vec(noise::entry(), 0..5)) {
        let sound: Vec<_> = list.into_iter().filter(is_sound_entry).collect();
        let mut bytes = Vec::new();
        sound.iter().for_each(|entry| wire::encode_entry(entry, &mut bytes));
        let mut at = 0;
        for entry in &sound {
            let decoded = wire::decode_entry(&bytes, &mut at, |range| bytes[range].to_vec());
            prop_assert_eq!(decoded.as_ref(), Ok(entry));
        }
        prop_assert_eq!(at, bytes.len());
    }

    #[test]
    fn snapshot_descriptions_come_back(meta in noise::meta()) {
        prop_assume!(meta.membership.is_well_formed());
        let mut bytes = Vec::new();
        wire::encode_snapshot_meta(&meta, &mut bytes);
        prop_assert_eq!(wire::decode_snapshot_meta(&bytes, &mut 0), Ok(meta));
    }

    /// Cut anywhere or with a byte more, it is an error; with a byte changed, it is an error or some
    /// other message.
    #[test]
    fn damage_is_survived(message in noise::message(), place: usize, bits in 1u8..) {
        let mut bytes = encode(&message);
        let place = place % bytes.len();
        prop_assert!(decode(&bytes[..place]).is_err());
        bytes.push(0);
        prop_assert!(decode(&bytes).is_err());
        bytes.pop();
        bytes[place] ^= bits;
        let _ = decode(&bytes);
    }

    #[test]
    fn noise_is_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 1u8..16) {
        let _ = decode(&bytes);
        if bytes.len() > 2 {
            (bytes[0], bytes[1]) = (wire::VERSION, kind);
        }
        let _ = decode(&bytes);
        let mut at = 0;
        let _ = wire::decode_entry(&bytes, &mut at, |range| bytes[range].to_vec());
        let _ = wire::decode_base(&bytes, &mut 0);
        let _ = wire::decode_hard_state(&bytes, &mut 0);
        let _ = wire::decode_membership(&bytes, &mut 0);
        let _ = wire::decode_snapshot_meta(&bytes, &mut at);
        at = usize::MAX;
        let _ = wire::decode_membership(&bytes, &mut at);
    }
}

/// A length that the bytes do not hold reserves nothing and is refused.
#[test]
fn a_claimed_length_is_not_believed() {
    let append =
        Body::Append { session: 1, prev: log_id(0, 0), commit: 0.into(), entries: vec![].into() };
    let message = Message { from: n(1), to: n(2), term: Term(1), body: append };
    let mut bytes = encode(&message);
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(&bytes), Err(DecodeError::Short));
}

/// Another version is named.
#[test]
fn another_version_is_refused_by_name() {
    let mut bytes =
        encode(&Message { from: n(1), to: n(2), term: Term(1), body: Body::TimeoutNow });
    bytes[0] = 9;
    assert_eq!(decode(&bytes), Err(DecodeError::Version(9)));
    assert!(DecodeError::Version(9).to_string().contains("version 9"));
}

#[test]
fn states_come_back() {
    let base = Base {
        id: log_id(7, 3),
        membership: membership(&[1, 2, 3], &[4]).into(),
        membership_id: log_id(5, 2),
    };
    for vote in [None, Some(n(2))] {
        let state = HardState { term: Term(3), vote };
        let mut bytes = Vec::new();
        wire::encode_hard_state(&state, &mut bytes);
        wire::encode_base(&base, &mut bytes);
        wire::encode_membership(&base.membership, &mut bytes);
        let mut at = 0;
        assert_eq!(wire::decode_hard_state(&bytes, &mut at), Ok(state));
        assert_eq!(wire::decode_base(&bytes, &mut at).as_ref(), Ok(&base));
        assert_eq!(wire::decode_membership(&bytes, &mut at).as_ref(), Ok(&*base.membership));
        assert_eq!(at, bytes.len());
    }
}

/// The format, byte by byte: a change of it is a change of [`wire::VERSION`].
#[test]
fn the_format_does_not_change_by_accident() {
    let entries = vec![
        Entry { id: log_id(8, 3), data: EntryData::Command(b"ab".to_vec()) },
        Entry { id: log_id(9, 3), data: EntryData::Noop },
    ];
    let body =
        Body::Append { session: 1, prev: log_id(7, 2), commit: 6.into(), entries: entries.into() };
    let bytes = encode(&Message { from: n(1), to: n(2), term: Term(3), body });
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let number = |number: u64| number.to_le_bytes().map(|byte| format!("{byte:02x}")).concat();
    let member = |node| number(node) + &number(node + 100) + &number(1);
    let expected = [
        "0105".to_owned(),
        member(1),
        member(2),
        number(3),
        number(1),
        number(2),
        number(7),
        number(6),
        "02000000".to_owned(),
        number(3),
        "01020000006162".to_owned(),
        number(3),
        "00".to_owned(),
    ];
    assert_eq!(hex, expected.concat());
}
