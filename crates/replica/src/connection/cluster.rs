//! CLUSTER, READONLY, READWRITE and ASKING.

use bytes::Bytes;
use kontiki_kv::command::wrong_arity;
use kontiki_kv::{Reply, table};
use kontiki_types::Slot;

use super::map::{self, Map};
use super::parts::Parts;
use super::{Connection, Held, Host, Step, error, local};
use crate::atlas::{Atlas, FIRST_GROUP, Target};

impl Connection {
    pub(super) fn cluster_command(&mut self, args: &[Bytes], host: &dyn Host) -> Step {
        let sub = local::lower(&args[1]);
        let me = host.node_id();
        let reply = match (sub.as_str(), &args[2..]) {
            ("slots", []) => return self.map(Map::Slots, host),
            ("shards", []) => return self.map(Map::Shards, host),
            ("nodes", []) => return self.map(Map::Nodes, host),
            ("info", []) => Reply::Verbatim(map::info(&host.atlas()).into()),
            // Each node stands for itself, whatever groups it has replicas of.
            ("myid" | "myshardid", []) => match host.atlas().nodes.get(&me) {
                Some((info, _)) => Reply::Bulk(map::node_name(info).into()),
                None => error("CLUSTERDOWN this node does not know itself yet"),
            },
            ("keyslot", [key]) => Reply::Integer(i64::from(Slot::of(key).get())),
            ("countkeysinslot", [slot]) => match number_of_slot(slot) {
                Ok(slot) => {
                    let to = target(&host.atlas(), slot);
                    return Step::Hold(Held::Parts(Box::new(Parts::count(slot, to))));
                }
                Err(reply) => reply,
            },
            ("getkeysinslot", [slot, count]) => match (number_of_slot(slot), local::integer(count))
            {
                (Ok(slot), Some(count @ 0..)) => {
                    let to = target(&host.atlas(), slot);
                    let parts = Parts::keys(slot, count.cast_unsigned(), to);
                    return Step::Hold(Held::Parts(Box::new(parts)));
                }
                (Ok(_), Some(_)) => error("ERR Invalid slot or number of keys"),
                (Ok(_), None) => error("ERR value is not an integer or out of range"),
                (Err(reply), _) => reply,
            },
            ("links", []) => map::links(&host.atlas(), me),
            ("replicas" | "slaves", [name]) => map::replicas(&host.atlas(), name),
            ("help", []) => table::lookup(b"cluster").map_or(Reply::Nil, table::help),
            (
                "slots" | "shards" | "nodes" | "info" | "myid" | "myshardid" | "keyslot"
                | "countkeysinslot" | "getkeysinslot" | "links" | "replicas" | "slaves" | "help",
                _,
            ) => wrong_arity(&format!("cluster|{sub}")),
            (sub, _) => match instead(sub) {
                Some(instead) => error(&format!(
                    "ERR CLUSTER {} is not how this cluster is changed: use `{instead}`",
                    sub.to_ascii_uppercase()
                )),
                None => local::unknown_subcommand(&args[1], "CLUSTER"),
            },
        };
        Step::Reply(reply)
    }

    /// A client that asks for the map routes by itself from then on.
    fn map(&mut self, map: Map, host: &dyn Host) -> Step {
        self.asks(host);
        Step::Map(map)
    }

    pub(super) fn readonly(&mut self, host: &dyn Host) -> Reply {
        self.asks(host);
        self.manners.is_readonly = true;
        Reply::Ok
    }

    fn asks(&mut self, host: &dyn Host) {
        self.manners.has_asked = true;
        host.note_asked(self.id, &self.description.library_name);
    }
}

/// What to use in the place of a subcommand that changes a Redis Cluster.
fn instead(sub: &str) -> Option<&'static str> {
    Some(match sub {
        "meet" | "replicate" => "kontiki cluster add-node",
        "forget" => "kontiki cluster remove-node",
        "addslots" | "addslotsrange" | "bumpepoch" | "set-config-epoch" => {
            "kontiki cluster rebalance"
        }
        "delslots" | "delslotsrange" | "flushslots" | "setslot" | "migration" => {
            "kontiki cluster move"
        }
        "failover" => "kontiki cluster transfer",
        "reset" => "kontiki cluster remove-node",
        "saveconfig" | "count-failure-reports" => "kontiki cluster status",
        _ => return None,
    })
}

fn target(atlas: &Atlas, slot: Slot) -> Target {
    if atlas.is_sharded() { Target::Slot(slot) } else { Target::Group(FIRST_GROUP) }
}

fn number_of_slot(text: &[u8]) -> Result<Slot, Reply> {
    let number = local::integer(text);
    let number = number.ok_or_else(|| error("ERR value is not an integer or out of range"))?;
    let slot = u16::try_from(number).ok().and_then(Slot::new);
    slot.ok_or_else(|| error("ERR Invalid slot"))
}
