//! mr: MapReduce on the command line.

mod data;
mod progress;
mod run;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::cli::parse_size;

#[derive(Args, Debug)]
pub(crate) struct MrArgs {
    #[command(subcommand)]
    command: MrCommand,
}

#[derive(Subcommand, Debug)]
enum MrCommand {
    /// Run a job in this process, on all cores.
    Run(Box<RunArgs>),
    /// Make data to try jobs on.
    Gen(GenArgs),
    /// Print the map output of a job that ran with --keep-work.
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
    /// Files, folders and patterns (`*`, `?`, `[a-z]`, `**`); `.gz` and `.zst` are unpacked.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<std::ffi::OsString>,
    /// A folder that does not exist yet or is empty.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number of reduces, and of output files [default: 10; 1 for top].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
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
    #[arg(long, value_name = "CMD", requires = "reducer")]
    mapper: Option<String>,
    /// A command that reduces.
    #[arg(long, value_name = "CMD", requires = "mapper")]
    reducer: Option<String>,
    /// A command that combines the output of one map.
    #[arg(long, value_name = "CMD", requires = "mapper")]
    combiner: Option<String>,
    /// Leave out records on which user code fails again and again, and write them to `skipped-*` in
    /// the output.
    #[arg(long)]
    skip_bad_records: bool,
    /// Run in one thread without splits, combiner and files, everything in memory: what other runs
    /// are compared with. The output is DIR/mr-out-0.
    #[arg(long)]
    sequential: bool,
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
                        Example:\n  kontiki mr dump mr-3-7 --work out/_work")]
struct DumpArgs {
    /// The bucket of map X for reduce Y: mr-X-Y.
    bucket: String,
    /// The folder with the temporary files.
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
}

pub(crate) fn run(args: &MrArgs) -> Result<()> {
    match &args.command {
        MrCommand::Run(args) => run::run(args),
        MrCommand::Gen(args) => data::generate(args),
        MrCommand::Dump(args) => data::dump(args),
    }
}
