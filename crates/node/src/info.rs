//! The text of INFO, with the fields that clients and tools look at.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use kontiki_replica::{COMPATIBLE_WITH, Host};

use crate::clock;
use crate::metrics;
use crate::shared::Shared;

const SECTIONS: [&str; 9] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cpu",
    "cluster",
    "keyspace",
];

/// The sections asked for; none, `default`, `all` and `everything` mean all of them.
pub(crate) fn text(node: &Shared, sections: &[String]) -> String {
    let every = sections.is_empty()
        || sections.iter().any(|name| matches!(name.as_str(), "default" | "all" | "everything"));
    let mut text = String::new();
    for section in SECTIONS {
        if every || sections.iter().any(|name| name == section) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            for line in section_lines(node, section) {
                let _ = write!(text, "{line}\r\n");
            }
        }
    }
    text
}

fn section_lines(node: &Shared, section: &str) -> Vec<String> {
    let view = &node.view;
    let (open, accepted, refused) = node.registry.counts();
    let leads = node.atlas().data_groups().any(|(_, place)| place.leader == Some(node.id));
    let is_sharded = node.atlas().is_sharded();
    let title = {
        let mut letters = section.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        format!("# {}{}", first.unwrap_or_default(), letters.as_str())
    };
    let mut lines = vec![title];
    lines.extend(match section {
        "server" => vec![
            format!("redis_version:{COMPATIBLE_WITH}"),
            format!("kontiki_version:{}", env!("CARGO_PKG_VERSION")),
            format!("redis_mode:{}", if is_sharded { "cluster" } else { "standalone" }),
            format!("os:{}", std::env::consts::OS),
            format!("arch_bits:{}", usize::BITS),
            format!("process_id:{}", std::process::id()),
            format!("run_id:{:016x}{:016x}{:08x}", node.cluster, node.incarnation.0, node.boot),
            format!("tcp_port:{}", node.resp_port),
            format!("uptime_in_seconds:{}", clock::now().since(node.started).as_secs()),
        ],
        "clients" => vec![
            format!("connected_clients:{open}"),
            format!("maxclients:{}", node.settings.maxclients()),
        ],
        "memory" => vec![
            format!("used_memory:{}", metrics::resident_bytes()),
            format!("used_memory_rss:{}", metrics::resident_bytes()),
            "maxmemory:0".to_owned(),
            "maxmemory_policy:noeviction".to_owned(),
        ],
        "persistence" => {
            vec![
                "loading:0".to_owned(),
                "aof_enabled:1".to_owned(),
                "aof_last_write_status:ok".to_owned(),
            ]
        }
        "stats" => vec![
            format!("total_connections_received:{accepted}"),
            format!("rejected_connections:{refused}"),
            format!("total_commands_processed:{}", node.metrics.commands()),
        ],
        "replication" => vec![
            // Every node takes reads and writes, so towards a client each is a master.
            "role:master".to_owned(),
            "connected_slaves:0".to_owned(),
            format!("kontiki_leader:{}", u8::from(leads)),
            format!("kontiki_leader_node:{}", view.leader.load(Ordering::Relaxed)),
            format!("kontiki_term:{}", view.term.load(Ordering::Relaxed)),
            format!("kontiki_applied:{}", view.applied.load(Ordering::Relaxed)),
        ],
        "cpu" => {
            let (user, system) = metrics::cpu_seconds();
            vec![format!("used_cpu_sys:{system:.6}"), format!("used_cpu_user:{user:.6}")]
        }
        "cluster" => vec![format!("cluster_enabled:{}", u8::from(is_sharded))],
        "keyspace" => match node.keys() {
            0 => Vec::new(),
            keys => vec![format!("db0:keys={keys},expires=0,avg_ttl=0")],
        },
        _ => Vec::new(),
    });
    lines
}
