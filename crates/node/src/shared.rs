//! What the tasks and threads of a node share, and the node as a connection sees it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kontiki_kv::command::glob;
use kontiki_net::Secret;
use kontiki_replica::{Atlas, Description, Host, KillFilter, Redirect};
use kontiki_storage::engine::EngineMeter;
use kontiki_types::{ClientId, GroupId, Incarnation, Instant, LogTime, NodeId};
use tokio::sync::Notify;

use crate::clock;
use crate::event_loop::Input;
use crate::info;
use crate::mailbox::InboxSender;
use crate::memory::Budgets;
use crate::metrics::Metrics;
use crate::moving::{Moving, News};
use crate::placing::Waker;
use crate::registry::Registry;
use crate::settings::LiveSettings;
use crate::views::Views;

/// What the tasks and threads of a node share.
pub(crate) struct Shared {
    pub(crate) id: NodeId,
    pub(crate) cluster: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) boot: u32,
    pub(crate) started: Instant,
    pub(crate) resp_port: u16,
    pub(crate) settings: LiveSettings,
    pub(crate) password: Option<Secret>,
    pub(crate) registry: Registry,
    pub(crate) events: InboxSender<Input>,
    pub(crate) metrics: Arc<Metrics>,
    /// Who may have how much of the memory.
    pub(crate) budgets: Budgets,
    /// The state engine, to look at.
    pub(crate) engine: EngineMeter,
    pub(crate) view: View,
    /// What connections route by; replaced as a whole when it changes.
    atlas: Mutex<Arc<Atlas>>,
    pub(crate) views: Arc<Views>,
    /// What the task hears that moves slots.
    pub(crate) moving: Moving,
    /// Wakes the task that moves replicas.
    pub(crate) placing: Waker,
    /// The node is about to stop.
    pub(crate) stopping: AtomicBool,
    /// The node was removed from the cluster.
    pub(crate) dismissed: Notify,
    random: AtomicU64,
}

/// What the event loop shows of itself; each value by itself is current, not all together.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Log time of the group that is ahead, and when it was read.
    pub(crate) log_time: AtomicU64,
    pub(crate) log_time_at: AtomicU64,
    /// Node that leads group 1; 0: none known.
    pub(crate) leader: AtomicU64,
    /// Its term, if there is a replica here, and what that has applied.
    pub(crate) term: AtomicU64,
    pub(crate) applied: AtomicU64,
    /// Voters of the data group that has the fewest.
    pub(crate) voters: AtomicUsize,
    /// Whether each slot has an owner with a leader that is known and alive.
    pub(crate) serving: AtomicU32,
    /// Live keys of each group with a replica here.
    keys: Mutex<BTreeMap<GroupId, u64>>,
    /// Writes of callers of this node that are not applied yet.
    pub(crate) pending: AtomicUsize,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "called once, names at the call")]
    pub(crate) fn new(
        id: NodeId,
        cluster: u64,
        incarnation: Incarnation,
        boot: u32,
        resp_port: u16,
        settings: LiveSettings,
        password: Option<Secret>,
        events: InboxSender<Input>,
        metrics: Arc<Metrics>,
        (budgets, engine): (Budgets, EngineMeter),
        seed: u64,
    ) -> Self {
        Self {
            id,
            cluster,
            incarnation,
            boot,
            started: clock::now(),
            resp_port,
            registry: Registry::new(settings.output_bytes_max),
            settings,
            password,
            events,
            metrics,
            budgets,
            engine,
            view: View::default(),
            atlas: Mutex::default(),
            views: Arc::default(),
            moving: Moving::default(),
            placing: Waker::default(),
            stopping: AtomicBool::new(false),
            dismissed: Notify::new(),
            random: AtomicU64::new(seed),
        }
    }

    /// The node was removed from the cluster, and is to end.
    pub(crate) fn dismiss(&self) {
        self.dismissed.notify_one();
    }

    /// Notes how many live keys a group has here; `None`: there is no replica of it any more.
    pub(crate) fn set_keys(&self, group: GroupId, keys: Option<u64>) {
        let mut all = self.view.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys {
            Some(keys) => all.insert(group, keys),
            None => all.remove(&group),
        };
    }

    /// Live keys here: of a store that is not sharded, all of them; of one that is, those of the
    /// groups that this node leads, so that the sum over all nodes is the store's.
    pub(crate) fn keys(&self) -> u64 {
        let atlas = self.atlas();
        let counts = |group: GroupId| !atlas.is_sharded() || atlas.leader(group) == Some(self.id);
        let all = self.view.keys.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(group, _)| counts(**group)).map(|(_, keys)| keys).sum()
    }

    /// Shows connections a newer atlas.
    pub(crate) fn set_atlas(&self, atlas: Arc<Atlas>) {
        let epoch = atlas.epoch();
        let mut shown = self.atlas.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shown, atlas);
        drop(shown);
        if before.epoch() != epoch {
            self.moving.tell(News::Epoch);
        }
        self.placing.wake();
    }

    /// The session of the connection with this number: never given out before (PROTOCOL 2).
    pub(crate) fn client_id(&self, connection: u64) -> ClientId {
        ClientId { incarnation: self.incarnation, boot: self.boot, connection }
    }
}

impl Host for Shared {
    fn log_time(&self) -> LogTime {
        let base = self.view.log_time.load(Ordering::Relaxed);
        if base == 0 {
            // Nothing was ever stamped: the first stamp will be near the wall clocks.
            return clock::wall_time();
        }
        let at = Instant(self.view.log_time_at.load(Ordering::Relaxed));
        let since = clock::now().since(at).as_millis();
        LogTime(base.saturating_add(u64::try_from(since).unwrap_or(0)))
    }

    fn atlas(&self) -> Arc<Atlas> {
        Arc::clone(&self.atlas.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn node_id(&self) -> NodeId {
        self.id
    }

    fn redirect(&self) -> Redirect {
        self.settings.redirect
    }

    fn note_asked(&self, id: u64, library: &str) {
        let Some((kind, _)) = self.registry.kind(id, library) else { return };
        if self.registry.asked.note(&kind, clock::now()) {
            self.events.send(Input::Asked(kind));
        }
    }

    fn has_asked(&self, id: u64, library: &str) -> bool {
        let kind = self.registry.kind(id, library);
        kind.is_some_and(|(kind, since)| self.registry.asked.has_asked(&kind, since, clock::now()))
    }

    fn asked_changes(&self) -> u64 {
        self.registry.asked.changes()
    }

    fn wall_clock(&self) -> Duration {
        clock::wall_clock()
    }

    fn random(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): a counter through a mixing function.
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn authenticate(&self, user: &[u8], password: &[u8]) -> Option<bool> {
        let expected = self.password.as_ref()?;
        Some(expected.matches(password) && user == b"default")
    }

    fn info(&self, sections: &[String]) -> String {
        info::text(self, sections)
    }

    fn client_list(&self, ids: &[u64]) -> String {
        self.registry.list(ids)
    }

    fn describe(&self, id: u64, description: &Description) {
        self.registry.describe(id, description);
    }

    fn client_kill(&self, filter: &KillFilter) -> usize {
        self.registry.kill(filter)
    }

    fn config_get(&self, patterns: &[Bytes]) -> Vec<(String, String)> {
        let entry_bytes = self.settings.entry_bytes_max().to_string();
        let known = [
            ("appendfsync", "always".to_owned()),
            ("appendonly", "yes".to_owned()),
            ("databases", "1".to_owned()),
            ("io-threads", "1".to_owned()),
            ("maxclients", self.settings.maxclients().to_string()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("port", self.resp_port.to_string()),
            ("proto-max-bulk-len", entry_bytes),
            ("save", String::new()),
            ("timeout", "0".to_owned()),
        ];
        let wanted = |name: &str| {
            patterns
                .iter()
                .any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
        };
        let chosen = known.into_iter().filter(|(name, _)| wanted(name));
        chosen.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn config_set(&self, name: &str, value: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(value);
        let failed = |why: &str| {
            Err(format!("CONFIG SET failed (possibly related to argument '{name}') - {why}"))
        };
        match name {
            "maxclients" => match text.parse() {
                Ok(max @ 1..=1_000_000) => {
                    self.settings.set_maxclients(max);
                    Ok(())
                }
                _ => failed("argument must be between 1 and 1000000 inclusive"),
            },
            // Durability is not for sale: these are accepted as long as they say what is so.
            "appendonly" if text.eq_ignore_ascii_case("yes") => Ok(()),
            "appendfsync" if text.eq_ignore_ascii_case("always") => Ok(()),
            "save" if text.is_empty() => Ok(()),
            "appendonly" | "appendfsync" | "save" | "databases" | "io-threads" | "port"
            | "maxmemory" | "maxmemory-policy" | "proto-max-bulk-len" | "timeout" => {
                failed("can't set immutable config")
            }
            _ => Err(format!("Unknown option or number of arguments for CONFIG SET - '{name}'")),
        }
    }

    fn replicas_in_quorum(&self) -> usize {
        self.view.voters.load(Ordering::Relaxed) / 2
    }

    fn slow_commands(&self) -> u64 {
        0
    }
}
