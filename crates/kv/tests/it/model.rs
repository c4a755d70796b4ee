//! The simplest state that commands can run on.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use kontiki_kv::command::ScanPosition;
use kontiki_kv::{Access, AccessMut, Record};
use kontiki_types::LogTime;

/// One map, in the order of SCAN. Its clock stands still until somebody moves it.
#[derive(Debug, Default)]
pub struct Model {
    /// Log time.
    pub now: LogTime,
    keys: BTreeMap<(ScanPosition, Bytes), Record>,
    version: u64,
}

impl Model {
    fn place(key: &[u8]) -> (ScanPosition, Bytes) {
        (ScanPosition::of(key), Bytes::copy_from_slice(key))
    }

    fn live(&self, record: &Record) -> bool {
        record.expires.is_none_or(|at| at > self.now)
    }

    fn live_keys(&self) -> impl Iterator<Item = &Bytes> {
        self.keys.iter().filter(|(_, record)| self.live(record)).map(|((_, key), _)| key)
    }
}

impl Access for Model {
    fn now(&self) -> LogTime {
        self.now
    }

    fn get(&self, key: &[u8]) -> Option<Record> {
        self.keys.get(&Self::place(key)).filter(|record| self.live(record)).cloned()
    }

    fn version(&self, key: &[u8]) -> u64 {
        self.get(key).map_or(self.version, |record| record.version)
    }

    fn scan(&self, from: ScanPosition, limit: usize) -> Vec<Bytes> {
        let start = Bound::Included((from, Bytes::new()));
        self.keys
            .range((start, Bound::Unbounded))
            .filter(|(_, record)| self.live(record))
            .map(|((_, key), _)| key.clone())
            .take(limit)
            .collect()
    }

    fn len(&self) -> u64 {
        self.live_keys().count() as u64
    }

    fn random_key(&self, choice: u64) -> Option<Bytes> {
        let count = self.len().max(1);
        self.live_keys().nth((choice % count) as usize).cloned()
    }
}

impl AccessMut for Model {
    fn put(&mut self, key: &[u8], value: Bytes, expires: Option<LogTime>) {
        self.version += 1;
        self.keys.insert(Self::place(key), Record { value, expires, version: self.version });
    }

    fn set_expiry(&mut self, key: &[u8], expires: Option<LogTime>) {
        if let Some(record) = self.get(key) {
            self.put(key, record.value, expires);
        }
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.version += 1;
        let now = self.now;
        let removed = self.keys.remove(&Self::place(key));
        removed.is_some_and(|record| record.expires.is_none_or(|at| at > now))
    }

    fn clear(&mut self) {
        self.version += 1;
        self.keys.clear();
    }
}
