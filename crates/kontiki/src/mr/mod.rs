//! mr: MapReduce on the command line.

mod access;
mod cluster;
mod data;
mod progress;
mod remote;
mod run;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use kontiki_mapreduce::streaming::Partitioning;

use crate::cli::parse_size;
use access::{AccessArgs, ServerArgs};

#[derive(Args, Debug)]
pub(crate) struct MrArgs {
    #[command(subcommand)]
    command: MrCommand,
}

#[derive(Subcommand, Debug)]
enum MrCommand {
    /// Run a job: in this process on all cores, in processes of its own, or by a coordinator.
    Run(Box<RunArgs>),
    /// Coordinate jobs on many workers, in the foreground.
    Coordinator(CoordinatorArgs),
    /// Run tasks for a coordinator, in the foreground.
    Worker(WorkerArgs),
    /// Jobs and workers of a coordinator.
    Status(StatusArgs),
    /// Make data to try jobs on.
    Gen(GenArgs),
    /// Print the map output of a job that goes on, or ran with --keep-work.
    Dump(DumpArgs),
}

/// A built-in job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum App {
    /// How often each word occurs: `word count`.
    Wc,
    /// In which files each word occurs: `word n file1,file2,...`.
    Indexer,
    /// The lines that contain --pattern, in the order of the input.
    Grep,
    /// All lines in byte order, over mr-out-0, mr-out-1, ... in turn.
    Sort,
    /// The --top most frequent words: `word count`.
    Top,
}

#[derive(Args, Debug)]
#[command(
    after_help = "A word is a run of Unicode letters. The output is DIR/mr-out-0, mr-out-1, ..., one \
                  file per reduce. Commands have Hadoop Streaming's conventions: lines in, `key TAB \
                  value` out, the reducer's input sorted by key.\n\nExample:\n  kontiki mr run wc \
                  --input 'books/*.txt' --output counts\n  kontiki mr run --mapper ./map.py --reducer \
                  ./reduce.py --input logs --output out"
)]
struct RunArgs {
    /// The job.
    #[arg(required_unless_present = "mapper", conflicts_with = "mapper")]
    app: Option<App>,
    /// Files, folders and patterns (`*`, `?`, `[a-z]`, `**`), also of objects: `s3://BUCKET/KEY`,
    /// `file:///PATH`; the keys of a store, as `kontiki://HOST:PORT/PREFIX`; `.gz` and `.zst` are unpacked.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<std::ffi::OsString>,
    /// A folder that does not exist yet or is empty, or a URL under which there are no objects
    /// or keys.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number of reduces, and of output files [default: 10; 1 for top]. 0: what the mapper writes is
    /// the output, a file for each map.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    reduces: Option<u32>,
    /// Number of threads [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,
    /// Memory of each worker; a line is at most a quarter of it.
    #[arg(long, default_value = "256MiB", value_parser = parse_size)]
    memory: u64,
    /// Files are cut into parts of this size.
    #[arg(long, default_value = "64MiB", value_parser = parse_size)]
    split_size: u64,
    /// What grep looks for, byte by byte.
    #[arg(long, value_name = "TEXT")]
    pattern: Option<std::ffi::OsString>,
    /// How many words top prints.
    #[arg(long, default_value_t = 10, value_name = "N")]
    top: u64,
    /// A command that maps, for a job of commands.
    #[arg(long, value_name = "CMD")]
    mapper: Option<String>,
    /// A command that reduces; NONE is the same as --reduces 0.
    #[arg(long, value_name = "CMD", requires = "mapper")]
    reducer: Option<String>,
    /// A command that combines the output of one map.
    #[arg(long, value_name = "CMD", requires = "mapper")]
    combiner: Option<String>,
    #[command(flatten)]
    streaming: StreamingArgs,
    #[command(flatten)]
    access: AccessArgs,
    /// Leave out records on which user code fails again and again, and write them to `skipped-*` in
    /// the output.
    #[arg(long)]
    skip_bad_records: bool,
    /// Run in one thread without splits, combiner and files, everything in memory: what other runs
    /// are compared with. The output is DIR/mr-out-0.
    #[arg(long)]
    sequential: bool,
    /// Run the workers as processes, over gRPC.
    #[arg(long, conflicts_with_all = ["sequential", "coordinator"])]
    processes: bool,
    /// Have this coordinator run the job (several with commas between, if some stand by); its workers
    /// see input and output by the same paths.
    #[arg(long, value_name = "URL", conflicts_with_all = ["sequential", "workers", "memory"])]
    coordinator: Option<String>,
    /// A task that failed this often fails the job; with --processes or --coordinator.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    attempts: u32,
    /// Where temporary files go; on the file system of the output [default: in the output].
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Keep the temporary files, for `kontiki mr dump`.
    #[arg(long)]
    keep_work: bool,
    /// Print what was done as JSON on stdout.
    #[arg(long)]
    json: bool,
    /// Say nothing on stderr unless something is wrong.
    #[arg(long)]
    quiet: bool,
}

/// How commands read and write.
#[derive(Args, Debug)]
struct StreamingArgs {
    /// What separates the fields that mapper and combiner write [default: a tab].
    #[arg(long, value_name = "TEXT", requires = "mapper")]
    map_output_separator: Option<std::ffi::OsString>,
    /// So many fields are the key.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    key_fields: u32,
    /// What separates key and value where reducer and combiner read [default: a tab].
    #[arg(long, value_name = "TEXT", requires = "mapper")]
    reduce_input_separator: Option<std::ffi::OsString>,
    /// Which reduce a key belongs to: by all of it (hash), by its first field (first-field), or by fields
    /// from FROM on to its end (-kFROM) or to TO (-kFROM,TO), as with Hadoop's KeyFieldBasedPartitioner.
    #[arg(long, default_value_t = Partitioning::Key, value_name = "HOW", allow_hyphen_values = true)]
    partitioner: Partitioning,
    /// Files that go with the job: commands find them in their current folder, by the last part of
    /// their paths. With commas between; 16 MiB together.
    #[arg(long, value_name = "FILE,...", value_delimiter = ',', requires = "mapper")]
    files: Vec<PathBuf>,
    /// A variable that all commands see; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE", requires = "mapper")]
    cmdenv: Vec<String>,
}

#[derive(Args, Debug)]
#[command(
    after_help = "A coordinator that is killed goes on where it was when it is started again.\n\n\
                        Example:\n  kontiki mr coordinator --dir /var/lib/kontiki-mr --listen \
                        10.0.0.1:7300 --http 10.0.0.1:7380\n\nTwo of them, on two machines:\n  kontiki mr \
                        coordinator --journal kontiki://10.0.0.7:7101/mr/ --listen 10.0.0.1:7300"
)]
struct CoordinatorArgs {
    /// Where the journal and the history of jobs are kept; with --journal, the history alone.
    #[arg(long, value_name = "DIR", required_unless_present = "journal")]
    dir: Option<PathBuf>,
    /// Keep the journal in a store, under this prefix: kontiki://HOST:PORT/PREFIX. Of the coordinators
    /// with the same one, one leads and the others stand by.
    #[arg(long, value_name = "URL")]
    journal: Option<std::ffi::OsString>,
    /// With --journal: another coordinator takes over when this one has not shown itself for so many
    /// seconds.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    takeover: f64,
    /// Where workers and clients connect; port 0 is any free one. Beyond loopback it starts only with
    /// a secret and a password (or mutual TLS), or with --insecure.
    #[arg(long, default_value = "127.0.0.1:7300", value_name = "HOST:PORT")]
    listen: String,
    /// Where the status page and the metrics are.
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    #[command(flatten)]
    schedule: ScheduleArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    access: AccessArgs,
}

/// How a coordinator schedules.
#[derive(Args, Debug)]
struct ScheduleArgs {
    /// After so many seconds without a sign of life a worker counts as dead.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    lease: f64,
    /// Never run a task in parallel because it is late.
    #[arg(long)]
    no_backups: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  kontiki mr worker --coordinator http://10.0.0.1:7300 --dir \
                        /var/lib/kontiki-worker --listen 10.0.0.2:7301")]
struct WorkerArgs {
    /// The coordinator; several with commas between, if some stand by.
    #[arg(long, default_value = "http://127.0.0.1:7300", value_name = "URL")]
    coordinator: String,
    /// Where map outputs are kept; one worker at a time.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where other workers get map outputs; port 0 is any free one. Beyond loopback it starts only
    /// with a secret (or mutual TLS), or with --insecure.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    listen: String,
    /// How other workers reach that [default: the address listened on].
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Tasks at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// Memory for the buffers of all of them.
    #[arg(long, default_value = "256MiB", value_parser = parse_size)]
    memory: u64,
    /// End when the coordinator has not been reached for so long [default: never].
    #[arg(long, value_name = "SECONDS")]
    give_up: Option<f64>,
    /// End when this process, the parent, ends.
    #[arg(long, hide = true)]
    parent: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  kontiki mr status --coordinator http://10.0.0.1:7300")]
struct StatusArgs {
    /// The coordinator.
    #[arg(long, default_value = "http://127.0.0.1:7300", value_name = "URL")]
    coordinator: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: AccessArgs,
}

/// A kind of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Lines of words that are as frequent as in books.
    Text,
    /// Records of 100 bytes with a random key of ten.
    Sort,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  kontiki mr gen text --size 1GiB --seed 1 --files 8 --output data"
)]
struct GenArgs {
    /// What to make.
    kind: Kind,
    /// How much, about; lines are whole.
    #[arg(long, value_parser = parse_size)]
    size: u64,
    /// The same seed makes the same data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A folder for the files `part-0`, `part-1`, ... [default: to stdout].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How many files the data is cut into.
    #[arg(long, default_value_t = 1, requires = "output", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    files: u64,
    /// Draw the lines of text from this file; may be given more than once.
    #[arg(long, value_name = "FILE")]
    from: Vec<PathBuf>,
}

#[derive(Args, Debug)]
#[command(after_help = "Prints `key TAB value`; bytes that are not text are printed as \\xNN.\n\n\
                        Example:\n  kontiki mr dump mr-3-7 --work out/_work\n  kontiki mr dump mr-3-7 \
                        --coordinator http://10.0.0.1:7300")]
struct DumpArgs {
    /// The bucket of map X for reduce Y: mr-X-Y.
    bucket: String,
    /// The folder with the temporary files of a job that ran with --keep-work.
    #[arg(long, value_name = "DIR", required_unless_present = "coordinator")]
    work: Option<PathBuf>,
    /// Ask this coordinator for a job that goes on.
    #[arg(long, value_name = "URL", conflicts_with = "work")]
    coordinator: Option<String>,
    /// Which job, as in its status [default: the only one that goes on].
    #[arg(long, requires = "coordinator")]
    job: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
}

pub(crate) fn run(args: &MrArgs) -> Result<()> {
    match &args.command {
        MrCommand::Run(args) => run::run(args),
        MrCommand::Coordinator(args) => cluster::coordinator(args),
        MrCommand::Worker(args) => cluster::worker(args),
        MrCommand::Status(args) => cluster::status(args),
        MrCommand::Gen(args) => data::generate(args),
        MrCommand::Dump(args) => data::dump(args),
    }
}
