//! verify: checks a node's directory while nobody uses it.

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use kontiki_node::verify::{Finding, GroupReport, Report, verify};
use kontiki_types::GroupId;
use serde_json::{Value, json};

use crate::cli::VerifyArgs;

/// Something is wrong with the directory: the exit code says so.
#[derive(Debug)]
pub(crate) struct Damaged(String);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Damaged {}

pub(crate) fn run(args: &VerifyArgs) -> Result<()> {
    let report = verify(&args.dir)?;
    let text = match args.json {
        true => format!("{}\n", serde_json::to_string_pretty(&as_json(&args.dir, &report))?),
        false => as_text(&report),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    match report.findings.len() {
        0 => Ok(()),
        count => Err(Damaged(format!(
            "{} is damaged in {count} place{}\n\
             hint: with a majority of the other nodes running nothing is lost. A damaged state or \
             snapshot is mended when the node starts; with a damaged log or identity the node does \
             not start: empty its directory, start it with --join, and run `kontiki cluster \
             readmit --node N`",
            args.dir.display(),
            if count == 1 { "" } else { "s" },
        ))
        .into()),
    }
}

fn as_text(report: &Report) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    if let Some(format) = &report.identity {
        let _ = writeln!(
            text,
            "node {} of cluster {:016x}, incarnation {:016x}",
            format.node, format.cluster, format.incarnation.0
        );
    }
    if let Some(log) = &report.log {
        let _ = writeln!(
            text,
            "log: {} segments, frames to {} and {} more, {} groups, {} entries",
            log.segments, log.durable, log.tail, log.groups, log.entries
        );
    }
    let _ = writeln!(text, "snapshots: {}", report.snapshots);
    for (group, found) in &report.groups {
        let _ = writeln!(text, "{}", group_line(*group, found));
    }
    for finding in &report.findings {
        let _ = writeln!(text, "damaged: {}", finding_line(finding));
    }
    if report.is_sound() {
        text.push_str("sound\n");
    }
    text
}

fn group_line(group: GroupId, found: &GroupReport) -> String {
    let log = match found.base {
        Some(base) => format!("log after {base} to {}", found.last),
        None => "no log".to_owned(),
    };
    let state = match found.applied {
        Some(applied) => format!("state to {applied}"),
        None => "no state on disk".to_owned(),
    };
    format!("group {group}: {log}, {state}, {} tables of {} bytes", found.tables, found.table_bytes)
}

fn finding_line(finding: &Finding) -> String {
    use std::fmt::Write;
    let mut line = format!("{} {}", finding.part.as_str(), finding.file.display());
    if let Some(offset) = finding.offset {
        let _ = write!(line, " offset {offset}");
    }
    if let Some(group) = finding.group {
        let _ = write!(line, " group {group}");
    }
    if let Some((first, last)) = finding.entries {
        let _ = write!(line, " entries {first} to {last}");
    }
    let _ = write!(line, ": {}", finding.detail);
    line
}

fn as_json(dir: &Path, report: &Report) -> Value {
    let groups = report.groups.iter().map(|(group, found)| {
        json!({
            "group": group.0,
            "base": found.base.map(|base| base.index.0),
            "last": found.base.map(|_| found.last.index.0),
            "applied": found.applied.map(|applied| applied.index.0),
            "tables": found.tables,
            "table_bytes": found.table_bytes,
        })
    });
    let findings = report.findings.iter().map(|finding| {
        json!({
            "part": finding.part.as_str(),
            "file": finding.file,
            "offset": finding.offset,
            "group": finding.group.map(|group| group.0),
            "first_index": finding.entries.map(|(first, _)| first.0),
            "last_index": finding.entries.map(|(_, last)| last.0),
            "detail": finding.detail,
        })
    });
    json!({
        "directory": dir,
        "sound": report.is_sound(),
        "cluster": report.identity.as_ref().map(|format| format!("{:016x}", format.cluster)),
        "node": report.identity.as_ref().map(|format| format.node.0),
        "incarnation":
            report.identity.as_ref().map(|format| format!("{:016x}", format.incarnation.0)),
        "segments": report.log.map(|log| log.segments),
        "frames": report.log.map(|log| log.durable + log.tail),
        "entries": report.log.map(|log| log.entries),
        "snapshots": report.snapshots,
        "groups": groups.collect::<Vec<_>>(),
        "findings": findings.collect::<Vec<_>>(),
    })
}
