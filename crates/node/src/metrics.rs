//! Counters of a node, shown at `/metrics` in the OpenMetrics text format.

mod moves;

use std::fmt::Write;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use kontiki_replica::GroupStatus;
use kontiki_types::GroupId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::stages::Stages;
use crate::starting::StartMetrics;
use moves::MoveMetrics;
pub(crate) use moves::side_name;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: u32,
}

type PerGroup = Family<GroupLabel, Gauge>;

/// All metrics of a node.
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    commands: Counter,
    events: Counter,
    event_batches: Counter,
    frames_sent: Counter,
    frame_bytes_sent: Counter,
    frames_dropped: Counter,
    role_changes: Counter,
    leader: Gauge,
    resting: Gauge,
    pub(crate) checks: Counter,
    pub(crate) scrubs: Counter,
    pub(crate) damaged_files: Counter,
    pub(crate) withheld: Gauge,
    fdatasyncs: Counter,
    pub(crate) log_bytes_written: Counter,
    pub(crate) snapshot_bytes_written: Counter,
    pub(crate) snapshot_bytes_sent: Counter,
    pub(crate) snapshot_bytes_received: Counter,
    pub(crate) snapshot_bytes_resumed: Counter,
    pub(crate) sync_seconds: Histogram,
    pub(crate) stages: Stages,
    pub(crate) start: StartMetrics,
    pub(crate) turn_seconds: Histogram,
    pub(crate) command_bytes_applied: Counter,
    pub(crate) entries_applied: Counter,
    pub(crate) apply_seconds: Histogram,
    pub(crate) queries: Counter,
    pub(crate) connections: Gauge,
    pub(crate) keys: Gauge,
    term: PerGroup,
    commit: PerGroup,
    applied: PerGroup,
    last_index: PerGroup,
    first_index: PerGroup,
    log_bytes: PerGroup,
    cached_bytes: PerGroup,
    uncommitted_bytes: PerGroup,
    pending_writes: PerGroup,
    waiting_reads: PerGroup,
    held_writes: PerGroup,
    dead_slots: PerGroup,
    dead_rows_deleted: PerGroup,
    pub(crate) moves: MoveMetrics,
    command_count: AtomicU64,
    /// Bytes of the log in memory, of all groups.
    pub(crate) log_cached: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("kontiki");
        macro_rules! metric {
            ($name:literal, $help:literal, $make:expr) => {{
                let metric = $make;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let seconds = || Histogram::new(exponential_buckets(0.000_02, 2.0, 18));
        let sync_seconds = seconds();
        registry.register_with_unit(
            "log_sync",
            "Time of one write and fdatasync of the log",
            Unit::Seconds,
            sync_seconds.clone(),
        );
        let (stages, family) = Stages::new();
        registry.register_with_unit(
            "stage",
            "Time at each stage of a request, once for all that go together",
            Unit::Seconds,
            family,
        );
        let turn_seconds = seconds();
        registry.register_with_unit(
            "event_loop_turn",
            "Time of one turn of the event loop: a long one is a stall of everything",
            Unit::Seconds,
            turn_seconds.clone(),
        );
        let apply_seconds = seconds();
        registry.register_with_unit(
            "apply_batch",
            "Time of one batch of the apply stage",
            Unit::Seconds,
            apply_seconds.clone(),
        );
        Self {
            commands: metric!("commands", "Data commands taken from clients", Counter::default()),
            events: metric!("events", "Inputs of the event loop", Counter::default()),
            event_batches: metric!("event_batches", "Turns of the event loop", Counter::default()),
            frames_sent: metric!("frames_sent", "Frames sent to peers", Counter::default()),
            frame_bytes_sent: metric!(
                "frame_bytes_sent",
                "Bytes of frames sent to peers",
                Counter::default()
            ),
            frames_dropped: metric!(
                "frames_dropped",
                "Frames to peers that found no room or no connection",
                Counter::default()
            ),
            role_changes: metric!("role_changes", "Changes of role or leader", Counter::default()),
            leader: metric!("leader", "Groups that this node leads", Gauge::default()),
            resting: metric!(
                "groups_resting",
                "Replicas that have nothing to do and run no timers",
                Gauge::default()
            ),
            checks: metric!(
                "replica_checks",
                "Parts of the state that were summed up to compare the replicas",
                Counter::default()
            ),
            scrubs: metric!(
                "scrubs",
                "Times that everything on disk was read to find damage",
                Counter::default()
            ),
            damaged_files: metric!(
                "damaged_files",
                "Files that were found damaged by reading everything on disk",
                Counter::default()
            ),
            withheld: metric!(
                "replicas_without_state",
                "Replicas that do not serve: their state is lost, or not that of their leader",
                Gauge::default()
            ),
            fdatasyncs: metric!(
                "log_fdatasyncs",
                "fdatasync calls of the log that returned",
                Counter::default()
            ),
            log_bytes_written: metric!(
                "log_bytes_written",
                "Bytes written to the log",
                Counter::default()
            ),
            snapshot_bytes_written: metric!(
                "snapshot_bytes_written",
                "Bytes written to snapshots, built here or received",
                Counter::default()
            ),
            snapshot_bytes_sent: metric!(
                "snapshot_bytes_sent",
                "Bytes of snapshots read to be sent to followers",
                Counter::default()
            ),
            snapshot_bytes_received: metric!(
                "snapshot_bytes_received",
                "Bytes of snapshots that arrived, each once",
                Counter::default()
            ),
            snapshot_bytes_resumed: metric!(
                "snapshot_bytes_resumed",
                "Bytes that did not have to arrive again, since an earlier life of the node had them",
                Counter::default()
            ),
            entries_applied: metric!("entries_applied", "Entries applied", Counter::default()),
            command_bytes_applied: metric!(
                "command_bytes_applied",
                "Bytes of the commands of entries applied",
                Counter::default()
            ),
            queries: metric!("queries", "Reads served from the state", Counter::default()),
            connections: metric!("connections", "Open client connections", Gauge::default()),
            keys: metric!("keys", "Live keys", Gauge::default()),
            term: metric!("raft_term", "Current term", PerGroup::default()),
            commit: metric!("raft_commit_index", "Commit index", PerGroup::default()),
            applied: metric!("raft_applied_index", "Applied index", PerGroup::default()),
            last_index: metric!("raft_last_index", "Last log index", PerGroup::default()),
            first_index: metric!("raft_first_index", "First log index kept", PerGroup::default()),
            log_bytes: metric!("raft_log_bytes", "Bytes of log kept", PerGroup::default()),
            cached_bytes: metric!(
                "raft_log_cached_bytes",
                "Bytes of log in memory",
                PerGroup::default()
            ),
            uncommitted_bytes: metric!(
                "raft_uncommitted_bytes",
                "Bytes appended and not committed",
                PerGroup::default()
            ),
            pending_writes: metric!(
                "pending_writes",
                "Writes of local callers that are not applied here yet",
                PerGroup::default()
            ),
            waiting_reads: metric!("waiting_reads", "Reads that wait", PerGroup::default()),
            dead_slots: metric!(
                "slots_with_dead_rows",
                "Slots that may have rows left behind by a flush or a move",
                PerGroup::default()
            ),
            dead_rows_deleted: metric!(
                "dead_rows_deleted",
                "Rows left behind by a flush or a move that were deleted since the start",
                PerGroup::default()
            ),
            held_writes: metric!(
                "held_writes",
                "Times that a write waited since its slots' move had no chance otherwise",
                PerGroup::default()
            ),
            moves: MoveMetrics::new(&mut registry),
            sync_seconds,
            stages,
            start: StartMetrics::new(&mut registry),
            turn_seconds,
            apply_seconds,
            command_count: AtomicU64::new(0),
            log_cached: AtomicU64::new(0),
            registry: Mutex::new(registry),
        }
    }

    pub(crate) fn event_batch(&self, events: usize) {
        self.event_batches.inc();
        self.events.inc_by(events as u64);
    }

    pub(crate) fn count_commands(&self, commands: usize) {
        self.command_count.fetch_add(commands as u64, Ordering::Relaxed);
        self.commands.inc_by(commands as u64);
    }

    /// Data commands so far.
    pub(crate) fn commands(&self) -> u64 {
        self.command_count.load(Ordering::Relaxed)
    }

    pub(crate) fn frame_sent(&self, bytes: usize) {
        self.frames_sent.inc();
        self.frame_bytes_sent.inc_by(bytes as u64);
    }

    pub(crate) fn frame_dropped(&self) {
        self.frames_dropped.inc();
    }

    /// Shows what the log has done since it was opened.
    pub(crate) fn show_log(&self, fdatasyncs: u64, bytes_written: u64) {
        self.fdatasyncs.inc_by(fdatasyncs.saturating_sub(self.fdatasyncs.get()));
        self.log_bytes_written.inc_by(bytes_written.saturating_sub(self.log_bytes_written.get()));
    }

    /// `led`: how many groups this node leads after it.
    pub(crate) fn role_changed(&self, led: usize) {
        self.role_changes.inc();
        self.leader.set(led as i64);
    }

    /// Slots that may have dead rows, and dead rows deleted.
    pub(crate) fn show_litter(&self, group: GroupId, (slots, deleted): (usize, u64)) {
        let label = GroupLabel { group: group.0 };
        self.dead_slots.get_or_create(&label).set(i64::try_from(slots).unwrap_or(i64::MAX));
        self.dead_rows_deleted.get_or_create(&label).set(deleted.cast_signed());
    }

    pub(crate) fn show_resting(&self, groups: usize) {
        self.resting.set(i64::try_from(groups).unwrap_or(i64::MAX));
    }

    pub(crate) fn show_group(&self, status: &GroupStatus) {
        let label = GroupLabel { group: status.group.0 };
        let raft = &status.raft;
        let show = |gauge: &PerGroup, value: u64| {
            gauge.get_or_create(&label).set(value.cast_signed());
        };
        show(&self.term, raft.term.0);
        show(&self.commit, raft.commit.0);
        show(&self.applied, raft.applied.0);
        show(&self.last_index, raft.last.index.0);
        show(&self.first_index, raft.first.0);
        show(&self.log_bytes, raft.log_bytes);
        show(&self.cached_bytes, raft.cached_bytes);
        show(&self.uncommitted_bytes, raft.uncommitted_bytes);
        show(&self.pending_writes, status.pending_writes as u64);
        show(&self.waiting_reads, status.waiting_reads as u64);
        show(&self.held_writes, status.held_writes);
    }

    /// Notes what all groups have of the log in memory.
    pub(crate) fn log_memory(&self, statuses: &[GroupStatus]) {
        let cached = statuses.iter().map(|status| status.raft.cached_bytes).sum();
        self.log_cached.store(cached, Ordering::Relaxed);
    }

    /// The page, with `more` behind what is registered.
    pub(crate) fn text(&self, more: &str) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if encode(&mut text, &registry).is_err() {
            text.clear();
        }
        // The process itself, by the conventional names.
        let (user, system) = cpu_seconds();
        let own = format!(
            "# HELP process_cpu_seconds CPU time of the process\n\
             # TYPE process_cpu_seconds counter\n\
             process_cpu_seconds_total {}\n\
             # HELP process_resident_memory_bytes Resident memory\n\
             # TYPE process_resident_memory_bytes gauge\n\
             process_resident_memory_bytes {}\n",
            user + system,
            resident_bytes()
        );
        let end = "# EOF\n";
        if let Some(body) = text.strip_suffix(end).map(str::len) {
            text.truncate(body);
        }
        let _ = write!(text, "{more}{own}{end}");
        text
    }
}

/// Resident memory of this process in bytes, 0 where /proc does not say.
pub(crate) fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// User and system CPU seconds of this process, 0 where /proc does not say.
pub(crate) fn cpu_seconds() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name, in parentheses, and may hold blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = fields.split_whitespace().skip(11);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let mut seconds = || -> f64 {
        fields.next().and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0) / ticks
    };
    (seconds(), seconds())
}
