//! Keys of one moment, in pages and parts.

use std::collections::BTreeMap;

use kontiki_kv::{KeyRow, KeyView, Store};
use kontiki_types::{LogTime, Slot};

use crate::group::Group;

fn view(group: &Group) -> KeyView<<kontiki_kv::MemStore as Store>::View> {
    let taken = group.machine.store().view().unwrap();
    KeyView::open(taken, group.machine.applied()).unwrap()
}

/// Everything in all parts, each page of at most about `bytes_max`; every key once.
fn read(
    view: &KeyView<<kontiki_kv::MemStore as Store>::View>,
    prefix: &str,
    parts: u32,
    bytes_max: u64,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let cuts = view.cuts(prefix.as_bytes(), parts);
    assert!(cuts.is_sorted_by(|a, b| a < b) && cuts.len() <= parts as usize + 1, "{cuts:?}");
    for part in cuts.windows(2) {
        let mut after = None;
        loop {
            let last = after.as_deref();
            let page = view.page(prefix.as_bytes(), part[0], part[1], last, bytes_max).unwrap();
            for KeyRow { key, value, .. } in page.rows {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                assert_eq!(found.insert(text(&key), text(&value)), None, "{key:?} came twice");
            }
            after = page.last;
            if after.is_none() {
                break;
            }
        }
    }
    found
}

#[test]
fn every_key_is_in_one_part_once_as_it_was_when_the_view_was_taken() {
    let mut group = Group::new();
    let mut expected = BTreeMap::new();
    for number in 0..700 {
        // Many slots, and one with many keys.
        let tag = if number % 3 == 0 { "{one}" } else { "" };
        let prefix = if number % 7 == 0 { "b/" } else { "a/" };
        let (key, value) = (format!("{prefix}{tag}{number}"), format!("value-{number}"));
        group.run(&format!("SET {key} {value}"));
        expected.insert(key, value);
    }
    let view = view(&group);
    assert_eq!(view.applied(), group.machine.applied());
    assert_eq!(view.keys(), 700);
    for number in 0..700 {
        group.run(&format!("SET a/{number} changed"));
        group.run(&format!("DEL b/{{one}}{number}"));
    }
    group.run("FLUSHALL");
    group.run("SET a/new key");
    for prefix in ["", "a/", "b/", "a/{one}", "b/{one}1", "c"] {
        let mut of_prefix = expected.clone();
        of_prefix.retain(|key, _| key.starts_with(prefix));
        for (parts, bytes_max) in [(1, 1), (1, 1 << 20), (4, 100), (100, 1), (1000, 1000)] {
            assert!(read(&view, prefix, parts, bytes_max) == of_prefix, "{prefix} {parts}");
        }
    }
}

// What a group gave away stays there until it is deleted: another group has those keys.
#[test]
fn slots_that_are_not_served_have_no_keys() {
    let mut group = Group::new();
    for number in 0..300 {
        group.run(&format!("SET {number} {number}"));
    }
    let is_served = |slot: Slot| slot.get() % 3 != 1;
    let view = view(&group).only(is_served);
    let served = (0..300).map(|number| number.to_string());
    let served = served.filter(|key| is_served(Slot::of(key.as_bytes())));
    let expected: BTreeMap<_, _> = served.map(|key| (key.clone(), key)).collect();
    assert_eq!(view.keys(), expected.len() as u64);
    for (parts, bytes_max) in [(1, 1), (1, 1 << 20), (16, 100)] {
        assert!(read(&view, "", parts, bytes_max) == expected, "{parts}");
    }
}

#[test]
fn parts_are_about_equal_also_within_one_slot() {
    let mut group = Group::new();
    for number in 0..4000 {
        group.run(&format!("SET {{t}}{number} v"));
    }
    let view = view(&group);
    for prefix in ["", "{t}"] {
        let cuts = view.cuts(prefix.as_bytes(), 8);
        let sizes: Vec<usize> = cuts
            .windows(2)
            .map(|part| {
                let page = view.page(b"", part[0], part[1], None, u64::MAX).unwrap();
                page.rows.len()
            })
            .collect();
        assert!(
            sizes.len() == 8 && sizes.iter().all(|size| (350..650).contains(size)),
            "{sizes:?}"
        );
    }
}

#[test]
fn keys_that_are_due_and_those_a_flush_left_behind_are_not_there() {
    let mut group = Group::new();
    group.run("SET flushed v");
    group.run("FLUSHALL");
    group.run("SET stays v");
    group.run("SET goes v PX 500");
    assert_eq!(read(&view(&group), "", 1, 1000).len(), 2);
    let page = view(&group).page(b"", 0, u64::MAX, None, u64::MAX).unwrap();
    let expires: BTreeMap<_, _> = page.rows.iter().map(|row| (&row.key[..], row.expires)).collect();
    assert_eq!(expires[&b"stays"[..]], None);
    assert_eq!(expires[&b"goes"[..]], Some(LogTime(group.machine.log_time().0 + 500)));
    group.tick(1000);
    let found = read(&view(&group), "", 3, 1000);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["stays"]);
    // A machine without anything has nothing.
    assert_eq!(read(&view(&Group::new()), "", 3, 1000).len(), 0);
}
