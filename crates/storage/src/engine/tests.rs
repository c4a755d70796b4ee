//! One suite for every engine, then what is special to each.

mod disk;
mod space;
mod suite;

use std::collections::BTreeMap;

use super::*;
use bytes::Bytes;
use kontiki_kv::{StoreView, WriteSet};
use kontiki_types::{Index, Term};

type Rows = BTreeMap<Bytes, Bytes>;

const ONE: GroupId = GroupId(1);
const TWO: GroupId = GroupId(2);

fn at(index: u64) -> LogId {
    LogId::new(Term(1 + index / 10), Index(index))
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> (Bytes, Option<Bytes>) {
    (bytes(key), Some(bytes(value)))
}

fn delete(key: &str) -> (Bytes, Option<Bytes>) {
    (bytes(key), None)
}

fn commit<S: Store>(store: &mut S, index: u64, changes: &[(Bytes, Option<Bytes>)]) {
    let mut batch: WriteSet = changes.to_vec();
    store.commit(&mut batch, at(index)).unwrap();
    assert!(batch.is_empty());
}

fn rows<S: Store>(store: &S) -> Rows {
    store.range(b"", &[0xff; 40], usize::MAX).unwrap().into_iter().collect()
}

fn view_rows(view: &impl StoreView) -> Rows {
    view.range(b"", &[0xff; 40], usize::MAX).unwrap().into_iter().collect()
}
