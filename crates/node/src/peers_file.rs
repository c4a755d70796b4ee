//! Where other nodes were last seen, kept over restarts. A hint: a wrong or lost file costs nothing
//! but a `--peer` flag, so it has no checksum.

use std::io;
use std::path::Path;

use kontiki_replica::NodeInfo;
use kontiki_storage::disk::{RealDisk, replace_file};
use kontiki_types::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};

const NAME: &str = "peers.json";

#[derive(Serialize, Deserialize)]
struct Line {
    id: u64,
    incarnation: u64,
    boot: u32,
    resp: String,
    grpc: String,
    http: String,
}

pub(crate) fn write<'a>(dir: &Path, peers: impl Iterator<Item = &'a NodeInfo>) -> io::Result<()> {
    let lines: Vec<Line> = peers
        .map(|peer| Line {
            id: peer.id.0,
            incarnation: peer.incarnation.0,
            boot: peer.boot,
            resp: peer.resp.clone(),
            grpc: peer.grpc.clone(),
            http: peer.http.clone(),
        })
        .collect();
    let bytes = serde_json::to_vec_pretty(&lines).map_err(io::Error::other)?;
    replace_file(&RealDisk, dir, NAME, &bytes)
}

pub(crate) fn read(dir: &Path) -> Vec<NodeInfo> {
    let bytes = std::fs::read(dir.join(NAME)).unwrap_or_default();
    let lines: Vec<Line> = serde_json::from_slice(&bytes).unwrap_or_default();
    let infos = lines.into_iter().map(|line| NodeInfo {
        id: NodeId(line.id),
        incarnation: Incarnation(line.incarnation),
        boot: line.boot,
        pid: 0,
        resp: line.resp,
        grpc: line.grpc,
        http: line.http,
        leaving: false,
    });
    infos.collect()
}
