//! The command line: names, defaults and help. What they do is elsewhere.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::bench::BenchArgs;
use crate::config::{ConfigArgs, LogFormat, Size};
use crate::mr::MrArgs;
use crate::sim::SimArgs;

/// A linearizable, durable, replicated store that Redis clients can use.
#[derive(Parser, Debug)]
#[command(name = "kontiki", version, about, max_term_width = 100)]
#[command(after_help = "Example:\n  kontiki up\n  redis-cli -p 7001 SET k v")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How logs are written to stderr.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct LogArgs {
    /// What is logged: error, warn, info, debug, trace, or a filter such as `kontiki_node=debug`
    /// [default: warn].
    #[arg(long, global = true, env = "KONTIKI_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How a log line looks: text or json [default: text].
    #[arg(long, global = true, env = "KONTIKI_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

impl LogArgs {
    /// Starts logging to stderr; the arguments come before the file's settings.
    pub(crate) fn start(&self, level: &str, format: LogFormat) {
        let level = self.log_level.as_deref().unwrap_or(level);
        let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("warn"));
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(colour)
            .with_writer(std::io::stderr);
        match self.log_format.unwrap_or(format) {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine, a process per node; Ctrl-C stops it.
    Up(UpArgs),
    /// Run one node in the foreground.
    Node(Box<NodeArgs>),
    /// Print the value of a key.
    Get(KeyArgs),
    /// Set a key.
    Set(KeyValueArgs),
    /// Append to a key's value and print its new length.
    Append(KeyValueArgs),
    /// Delete a key.
    Del(KeyArgs),
    /// Look at a cluster, and change who belongs to it.
    Cluster(ClusterArgs),
    /// Write all keys of a running store into a file.
    Backup(BackupArgs),
    /// Fill an empty store, or a new folder, from a backup.
    Restore(RestoreArgs),
    /// Give up the writes that only lost nodes have: the keys of the directories that are left, as a
    /// backup.
    RecoverWithLoss(SalvageArgs),
    /// Check a node's directory, while the node does not run; changes nothing.
    Verify(VerifyArgs),
    /// Settings of a node.
    Config {
        /// Print a commented file with every setting and its default.
        #[arg(long, required = true)]
        defaults: bool,
    },
    /// Measure this store, its parts and its peers.
    Bench(BenchArgs),
    /// Run real nodes under faults of every kind, and check what their clients were told.
    Chaos(ChaosArgs),
    /// Simulate whole clusters under faults of every kind, and check what must hold.
    Sim(SimArgs),
    /// MapReduce: run a job, make data, look at map output.
    Mr(MrArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Node I listens for Redis clients on BASE_PORT + I, for peers and native \
                        clients on BASE_PORT + 100 + I, for HTTP on BASE_PORT + 200 + I.\n\n\
                        Example:\n  kontiki up --dir ./data\n  redis-cli -p 7001 SET k v")]
pub(crate) struct UpArgs {
    /// Number of nodes [default: 3, or those that the store in --dir has].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: Option<u64>,
    /// Number of data groups that a new store begins with. More than 1 share the keys, and have a
    /// controller [default: 3].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) groups: Option<u32>,
    /// Replicas of each group that a new store begins with; at most the number of nodes
    /// [default: 3, or the number of nodes if that is less].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) replicas: Option<u64>,
    /// Where the nodes keep their data, a folder each. The same folder again brings it back.
    #[arg(long, default_value = "./kontiki-data")]
    pub(crate) dir: PathBuf,
    /// First of the ports; 0: any that are free, printed.
    #[arg(long, default_value_t = 7000)]
    pub(crate) base_port: u16,
    /// Memory of each node's process.
    #[arg(long, default_value = "512MiB", value_parser = parse_size)]
    pub(crate) memory: u64,
    /// Bytes of log kept for followers that lag; beyond it they get a snapshot.
    #[arg(long, default_value = "256MiB", value_parser = parse_size)]
    pub(crate) log_keep: u64,
    /// A TOML file with settings for every node; see `kontiki config --defaults`.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "Example, three machines:\n  kontiki node --id 1 --dir /var/lib/kontiki \
                        --listen 10.0.0.1:7001 --bootstrap --peer 2=10.0.0.2:7101 --peer \
                        3=10.0.0.3:7101\n(and the same on the other two, each with its own id and \
                        the other two as peers)")]
pub(crate) struct NodeArgs {
    /// A TOML file with settings; the environment (KONTIKI_...) and flags override it.
    #[arg(long)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: ConfigArgs,
    /// End when this process, the parent, ends.
    #[arg(long, hide = true)]
    pub(crate) parent: Option<u32>,
}

#[derive(Args, Debug)]
#[command(after_help = "Checks identity, log, snapshots and states, and whether they fit each \
                        other.\n\nExit codes: 0 sound, 1 it could not be checked, 4 something is \
                        damaged: printed are file, offset, group and entries as far as \
                        known.\n\nExample:\n  kontiki verify kontiki-data/node-1")]
pub(crate) struct VerifyArgs {
    /// The directory of one node.
    pub(crate) dir: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Exit code 1: the history is not linearizable (the error names a page that \
                        shows why), a node ended by itself, or one did not serve after the \
                        faults.\n\nExample:\n  kontiki chaos --seconds 60 --history history.jsonl"
)]
pub(crate) struct ChaosArgs {
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(3..=9))]
    pub(crate) nodes: u64,
    /// How long the faults go on.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Chooses faults and commands [default: another one each time]. Real processes do not run the
    /// same way twice, though.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Clients that write and read.
    #[arg(long, default_value_t = 12)]
    pub(crate) clients: u64,
    /// Where to write what the clients saw, as JSON lines (see docs/history.md).
    #[arg(long, value_name = "FILE")]
    pub(crate) history: Option<PathBuf>,
    /// Where to write the page that shows a violation [default: in the folder of the nodes].
    #[arg(long, value_name = "FILE")]
    pub(crate) timeline: Option<PathBuf>,
    /// A folder for the nodes that does not exist yet [default: a temporary one].
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Keep the folder, which otherwise is removed when nothing was found.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Each group is as of one index of its log, reached after the command began; \
                        each key is there once. There is no one moment for all groups.\n\n\
                        Example:\n  kontiki backup store.backup\n  kontiki restore store.backup \
                        --dir ./restored"
)]
pub(crate) struct BackupArgs {
    /// Where to write it. The name is given when the file is whole and durable.
    pub(crate) file: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
}

#[derive(Args, Debug)]
#[command(
    after_help = "For a store that has lost a majority of the directories of a group for good. Give all \
                        that are left, of nodes that do not run; they are not changed. Of each group \
                        the one counts whose log goes furthest. What only the lost ones had is not in \
                        the file, also if it was acknowledged.\n\nExample:\n  kontiki \
                        recover-with-loss left.backup --from kontiki-data/node-1 \
                        --i-accept-that-acknowledged-writes-may-be-lost\n  kontiki restore \
                        left.backup --dir ./restored"
)]
pub(crate) struct SalvageArgs {
    /// The backup to write. Needs space for as much again beside it while it is made.
    pub(crate) file: PathBuf,
    /// The directory of a node that is left; once for each.
    #[arg(long, required = true)]
    pub(crate) from: Vec<PathBuf>,
    /// Say that you know.
    #[arg(long = "i-accept-that-acknowledged-writes-may-be-lost")]
    pub(crate) accept_loss: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "The file is checked as a whole before anything is written. With --dir the \
                        folder has its name only when everything is in it.\n\nExample:\n  kontiki \
                        restore store.backup --dir ./restored\n  kontiki up --dir ./restored"
)]
pub(crate) struct RestoreArgs {
    /// The backup.
    pub(crate) file: PathBuf,
    /// Make this folder, for `kontiki up --dir`. Without it, the running store at --addr is filled.
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// With --dir: number of nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: u64,
    /// With --dir: number of data groups.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) groups: u32,
    /// Only check the file.
    #[arg(long, conflicts_with = "dir")]
    pub(crate) check: bool,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct AddressArgs {
    /// gRPC address of any node.
    #[arg(long, default_value = "127.0.0.1:7101", env = "KONTIKI_ADDR", value_name = "HOST:PORT")]
    pub(crate) addr: String,
    /// The client password, or the cluster secret.
    #[arg(long, env = "KONTIKI_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,
    /// How long to wait at the most, in seconds.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) timeout: f64,
}

#[derive(Args, Debug)]
pub(crate) struct KeyArgs {
    /// The key.
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
}

#[derive(Args, Debug)]
pub(crate) struct KeyValueArgs {
    /// The key.
    pub(crate) key: String,
    /// The value; `-` reads it from stdin.
    pub(crate) value: String,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Nodes and groups.
    Status {
        /// Print again and again, until Ctrl-C.
        #[arg(long)]
        watch: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        address: AddressArgs,
    },
    /// Hand leadership of a group to another node.
    Transfer {
        /// The group.
        #[arg(long, default_value_t = 1)]
        group: u32,
        /// The node that is to lead.
        #[arg(long)]
        to: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        address: AddressArgs,
    },
    /// Add a replica of a group on a node that has joined the cluster.
    AddReplica(ReplicaArgs),
    /// Remove the replica of a group from a node.
    RemoveReplica(ReplicaArgs),
    /// Take back a node that has lost its directory, in all its groups, under its new identity: as
    /// a learner first, and as a voter once it has caught up.
    #[command(after_help = "The node must run again, on an empty directory, started with --join \
                            and the gRPC address of another node. It never votes in the name of \
                            what its old directory had promised.\n\nExample:\n  kontiki node --id \
                            2 --dir /new/disk --listen 10.0.0.2:7001 --join 10.0.0.1:7101 &\n  \
                            kontiki cluster readmit --node 2 --addr 10.0.0.1:7101")]
    Readmit {
        /// The node.
        #[arg(long)]
        node: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        address: AddressArgs,
    },
    /// Which group has which slots, and the moves under way.
    Slots {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        address: AddressArgs,
    },
    /// A configuration: groups, the nodes wanted for them, and their slots.
    Query {
        /// Its number [default: the current one].
        #[arg(long)]
        config: Option<u64>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        address: AddressArgs,
    },
    /// Add a group without slots; `rebalance` gives it some.
    Join {
        /// The new group.
        #[arg(long)]
        group: u32,
        /// The nodes that are to have its replicas, the first to lead it [default: the three with
        /// the fewest replicas].
        #[arg(long, value_delimiter = ',')]
        nodes: Vec<u64>,
        #[command(flatten)]
        how: ReshapeArgs,
    },
    /// Have a group give its slots to the others, and end.
    Leave {
        /// The group.
        #[arg(long)]
        group: u32,
        #[command(flatten)]
        how: ReshapeArgs,
    },
    /// Move slots to a group, while they are served.
    Move {
        /// The slots, like `0-4095,5000`.
        #[arg(long)]
        slots: String,
        /// The group that is to have them.
        #[arg(long)]
        to: u32,
        #[command(flatten)]
        how: ReshapeArgs,
    },
    /// Give a store that was made with one group a controller, so that others can join.
    EnableSharding {
        #[command(flatten)]
        how: ReshapeArgs,
    },
    /// Give every group the same number of slots, with the fewest moves.
    Rebalance {
        #[command(flatten)]
        how: ReshapeArgs,
    },
    /// Spread replicas onto a node that was started with --join.
    AddNode {
        /// The node.
        #[arg(long)]
        id: u64,
        #[command(flatten)]
        how: ReshapeArgs,
    },
    /// Take all replicas off a node.
    Drain {
        /// The node.
        #[arg(long)]
        id: u64,
        #[command(flatten)]
        how: ReshapeArgs,
    },
    /// As `drain`, and then the node is no member any more: its process ends, and it is refused if it
    /// is started again with the same directory. A node that is dead for good can be removed, too.
    RemoveNode {
        /// The node.
        #[arg(long)]
        id: u64,
        #[command(flatten)]
        how: ReshapeArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct ReshapeArgs {
    /// Do not wait until slots and replicas have moved.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ReplicaArgs {
    /// The group.
    #[arg(long, default_value_t = 1)]
    pub(crate) group: u32,
    /// The node.
    #[arg(long)]
    pub(crate) node: u64,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) address: AddressArgs,
}

/// A size as the settings write it: `64KiB`, `256MiB`, `1048576`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    text.parse::<Size>().map(|size| size.0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
