//! The part of the metrics page about memory and the state engine, made up when somebody asks.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::shared::Shared;

/// Ready to stand on the page.
pub(crate) fn text(node: &Shared) -> String {
    let (usage, counts, budgets) = (node.engine.usage(), node.engine.counts(), &node.budgets);
    let log = node.metrics.log_cached.load(Ordering::Relaxed);
    let answers = node.registry.waiting_bytes() as u64;
    let mut page = Page(String::new());
    page.metric("memory_limit_bytes", "gauge", "What the process may take of memory");
    page.line("memory_limit_bytes", "", budgets.memory);
    page.metric("memory_bytes", "gauge", "Memory in use, by what it is for");
    let parts = [
        ("overlay", usage.overlay, budgets.overlay),
        ("rows", usage.cache, budgets.rows),
        ("blocks", usage.block_cache, budgets.blocks),
        ("log", log, budgets.log_cache + budgets.uncommitted + budgets.unapplied),
        ("connections", answers, budgets.connections),
    ];
    for (part, used, _) in parts {
        page.line("memory_bytes", part, used);
    }
    page.metric("memory_budget_bytes", "gauge", "Memory that may be used, by what it is for");
    for (part, _, budget) in parts {
        page.line("memory_budget_bytes", part, budget);
    }
    page.line("memory_budget_bytes", "peers", budgets.peers);
    page.line("memory_budget_bytes", "snapshots", budgets.snapshots);
    page.metric("state_disk_bytes", "gauge", "Bytes of the state engine's tables");
    page.line("state_disk_bytes", "", usage.disk);
    let counters = [
        ("state_bytes_written", "Bytes written to tables", counts.table_bytes_written),
        ("state_persists", "Times that a group's state was persisted", counts.persists),
        ("state_compactions", "Merges of tables", counts.compactions),
        ("state_reclaims", "Merges of tables to give back space", counts.reclaims),
        ("state_stalls", "Commits that waited for room in memory", counts.stalls),
        ("state_stall_microseconds", "How long they waited", counts.stall_micros),
        ("state_reads_from_memory", "Rows read from memory", counts.hits),
        ("state_reads_from_tables", "Rows read from tables", counts.misses),
    ];
    for (name, help, value) in counters {
        page.metric(name, "counter", help);
        page.line(&format!("{name}_total"), "", value);
    }
    let metrics = &node.metrics;
    let written = metrics.log_bytes_written.get()
        + counts.table_bytes_written
        + metrics.snapshot_bytes_written.get();
    page.metric(
        "write_amplification",
        "gauge",
        "Bytes written to log, tables and snapshots since the start, for each byte of the commands \
         applied",
    );
    page.ratio("write_amplification", written, metrics.command_bytes_applied.get());
    page.0
}

struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP kontiki_{name} {help}\n# TYPE kontiki_{name} {kind}");
    }

    fn line(&mut self, name: &str, part: &str, value: u64) {
        let label = if part.is_empty() { String::new() } else { format!("{{part=\"{part}\"}}") };
        let _ = writeln!(self.0, "kontiki_{name}{label} {value}");
    }

    /// Nothing for each of nothing is 0.
    fn ratio(&mut self, name: &str, part: u64, whole: u64) {
        let value = if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let _ = writeln!(self.0, "kontiki_{name} {value:.3}");
    }
}
