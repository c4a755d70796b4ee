//! mr run: checks everything first, then runs the job in this process.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use kontiki_mapreduce::apps::sample;
use kontiki_mapreduce::destination::Destination;
use kontiki_mapreduce::input::{InputFile, MapTask, list, plan};
use kontiki_mapreduce::jobs::Jobs;
use kontiki_mapreduce::local::{self, LocalJob, Progress, Summary};
use kontiki_mapreduce::objects::is_url;
use kontiki_mapreduce::spec::{Application, REDUCES};
use kontiki_mapreduce::store::{self, KeptViews, is_store};
use kontiki_mapreduce::streaming::{Commands, Fields, Partitioning, ShippedFile, check_command};
use kontiki_mapreduce::task::{MEMORY_BYTES_MIN, Program, output_name};

use super::progress::Reporter;
use super::{App, RunArgs};

/// A job that has been checked.
pub(super) struct Plan {
    files: Vec<InputFile>,
    pub(super) tasks: Vec<MapTask>,
    pub(super) reduces: u32,
    pub(super) application: Application,
    /// Until the job has ended.
    _views: KeptViews,
}

impl Plan {
    /// Number of output files.
    pub(super) fn outputs(&self) -> u32 {
        if self.reduces == 0 { self.tasks.len() as u32 } else { self.reduces }
    }
}

pub(super) fn run(args: &RunArgs) -> Result<()> {
    let start = Instant::now();
    let plan = prepare(args)?;
    let program = Jobs::new().program(&plan.application)?;
    let made = !is_url(args.output.as_os_str().as_bytes()) && make_output(&args.output)?;
    let done = if args.sequential {
        sequential(args, &plan, &*program)
    } else if args.processes || args.coordinator.is_some() {
        super::remote::run(args, &plan, start)
    } else {
        local(args, &plan, &program, start)
    };
    if done.is_err() && made {
        // Ours, and without use; what is in it by now keeps it.
        let _ = fs::remove_dir(&args.output);
    }
    done
}

/// Everything that can be wrong before any work.
fn prepare(args: &RunArgs) -> Result<Plan> {
    if args.memory < MEMORY_BYTES_MIN {
        bail!("--memory is below the least, {} MiB", MEMORY_BYTES_MIN >> 20);
    }
    if args.split_size == 0 {
        bail!("--split-size is 0");
    }
    let mut reduces = args.reduces.unwrap_or(REDUCES);
    if args.app == Some(App::Top) {
        if args.reduces.is_some_and(|reduces| reduces != 1) {
            bail!("top has one reduce; leave --reduces away");
        }
        reduces = 1;
    }
    if args.pattern.is_some() != (args.app == Some(App::Grep)) {
        bail!("--pattern goes with grep, and grep with --pattern");
    }
    if args.mapper.is_none() && args.streaming.partitioner != Partitioning::Key {
        bail!("--partitioner goes with --mapper: built-in jobs have their own");
    }
    if args.mapper.is_some() {
        reduces = check_commands(args, reduces)?;
    } else if reduces == 0 {
        bail!("--reduces 0 goes with --mapper: built-in jobs reduce");
    }
    let inputs_and_output = args.input.iter().map(|input| input.as_bytes());
    if inputs_and_output
        .chain([args.output.as_os_str().as_bytes()])
        .any(|name| name.starts_with(b"memory://"))
    {
        bail!("memory:// ends with the process: it is for tests");
    }
    let lines = [App::Grep, App::Sort];
    if is_store(args.output.as_os_str().as_bytes())
        && args.app.is_some_and(|app| lines.contains(&app))
    {
        bail!("the output of grep and sort is lines and not keys with values: name a folder");
    }
    check_output(&args.output)?;
    let inputs: Vec<&[u8]> = args.input.iter().map(|input| input.as_bytes()).collect();
    let files = list(&inputs)?;
    let tasks = plan(&files, args.split_size);
    let application = application(args, &files, &tasks, reduces)?;
    let _views = store::keep(&tasks, true);
    Ok(Plan { files, tasks, reduces, application, _views })
}

/// Checks the commands of a job; the number of its reduces.
fn check_commands(args: &RunArgs, reduces: u32) -> Result<u32> {
    let reducer = args.reducer.as_deref().filter(|reducer| *reducer != "NONE");
    let maps_only = reduces == 0 || args.reducer.as_deref() == Some("NONE");
    match (reducer, maps_only) {
        (None, false) => bail!("--mapper goes with --reducer, or with --reduces 0"),
        (Some(_), true) => bail!("--reduces 0 is a job without --reducer"),
        _ => {}
    }
    if maps_only && args.combiner.is_some() {
        bail!("a job without reduces has no --combiner");
    }
    let files = ShippedFile::read(&args.streaming.files).map_err(|error| anyhow!(error))?;
    for command in [args.mapper.as_deref(), args.combiner.as_deref(), reducer].into_iter().flatten()
    {
        let first = command.split_whitespace().next().unwrap_or_default();
        if !files.iter().any(|file| file.is_meant_by(first)) {
            check_command(command).map_err(|error| anyhow!(error))?;
        }
    }
    Ok(if maps_only { 0 } else { reduces })
}

fn commands(args: &RunArgs) -> Result<Commands> {
    let streaming = &args.streaming;
    let mut fields = Fields { key_fields: streaming.key_fields, ..Fields::default() };
    if let Some(separator) = &streaming.map_output_separator {
        fields.map_output = separator.as_bytes().to_vec();
    }
    if let Some(separator) = &streaming.reduce_input_separator {
        fields.reduce_input = separator.as_bytes().to_vec();
    }
    if fields.map_output.is_empty() || fields.reduce_input.is_empty() {
        bail!("a separator is empty");
    }
    let variable = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(anyhow!("--cmdenv {text} is not NAME=VALUE")),
    };
    Ok(Commands {
        mapper: args.mapper.clone().unwrap_or_default(),
        combiner: args.combiner.clone(),
        reducer: args.reducer.clone().unwrap_or_default(),
        fields,
        environment: streaming.cmdenv.iter().map(variable).collect::<Result<_>>()?,
        partitioning: streaming.partitioner,
        files: ShippedFile::read(&streaming.files).map_err(|error| anyhow!(error))?,
    })
}

fn application(
    args: &RunArgs,
    files: &[InputFile],
    tasks: &[MapTask],
    reduces: u32,
) -> Result<Application> {
    Ok(match args.app {
        Some(App::Wc) => Application::WordCount,
        Some(App::Indexer) => Application::Indexer,
        Some(App::Grep) => {
            let pattern = args.pattern.as_deref().unwrap_or_default().as_bytes().to_vec();
            // Sequential runs have a task per file.
            let maps = if args.sequential { files.len() } else { tasks.len() };
            Application::Grep { pattern, maps: u32::try_from(maps).unwrap_or(u32::MAX) }
        }
        Some(App::Sort) => Application::Sort { borders: sample(files, reduces)? },
        Some(App::Top) => Application::Top { most: args.top },
        None => Application::Streaming(commands(args)?),
    })
}

fn check_output(output: &Path) -> Result<()> {
    let named = || format!("the output {}", output.display());
    if !Destination::of(output).with_context(named)?.is_empty().with_context(named)? {
        bail!("the output {} is not empty\nhint: name another one, or empty it", output.display());
    }
    Ok(())
}

/// Makes the output folder; whether it was not there.
fn make_output(output: &Path) -> Result<bool> {
    if output.is_dir() {
        return Ok(false);
    }
    let made = fs::create_dir_all(output);
    made.with_context(|| format!("cannot make the output folder {}", output.display()))?;
    Ok(true)
}

fn sequential(args: &RunArgs, plan: &Plan, program: &dyn Program) -> Result<()> {
    if is_url(args.output.as_os_str().as_bytes()) {
        bail!("--sequential writes to a folder, not to {}", args.output.display());
    }
    let temporary = args.output.join("_sequential");
    let done = if plan.reduces == 0 {
        program.sequential_maps(&plan.files, &temporary)
    } else {
        program.sequential(&plan.files, &temporary)
    };
    let named = done.map_err(anyhow::Error::from).and_then(|()| {
        fs::rename(&temporary, args.output.join(output_name(0))).context("cannot name the output")
    });
    if named.is_err() {
        // What is half-written is of no use; if it stays, its name tells what it is.
        let _ = fs::remove_file(&temporary);
    }
    named
}

fn local(args: &RunArgs, plan: &Plan, program: &Arc<dyn Program>, start: Instant) -> Result<()> {
    let work = work_folder(args);
    let made_work = !work.is_dir();
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let job = LocalJob {
        program: &**program,
        maps: &plan.tasks,
        reduces: plan.reduces,
        workers: args.workers.unwrap_or(cores),
        memory_bytes: args.memory,
        skip_bad_records: args.skip_bad_records,
        output: &args.output,
        work: &work,
    };
    let total: u64 = plan.tasks.iter().map(MapTask::bytes).sum();
    let progress = Progress::default();
    let reporter = Reporter::new(&progress, plan.tasks.len() as u64, plan.reduces, total);
    let done = std::thread::scope(|scope| {
        if !args.quiet {
            scope.spawn(|| reporter.report());
        }
        let done = local::run(&job, &progress);
        reporter.end();
        done
    });
    let done = done.map_err(anyhow::Error::from).and_then(|summary| {
        keep_skipped(&summary, &Destination::of(&args.output)?)?;
        Ok(summary)
    });
    if !args.keep_work {
        clear(&work, made_work);
    }
    let summary = match done {
        Ok(summary) => summary,
        Err(error) => {
            Destination::of(&args.output)?.remove_outputs(plan.outputs());
            return Err(error);
        }
    };
    if !args.quiet {
        eprintln!("{}", sentence(&summary, plan, start));
        for (group, name, sum) in summary.counters.iter() {
            eprintln!("counter {group} {name} {sum}");
        }
    }
    if args.json {
        println!("{}", json(&summary, plan, start));
    }
    Ok(())
}

/// Where temporary files go: in the output, or in the system's folder for such files.
pub(super) fn work_folder(args: &RunArgs) -> PathBuf {
    if let Some(work) = &args.work {
        return work.clone();
    }
    if is_url(args.output.as_os_str().as_bytes()) {
        return std::env::temp_dir().join(format!("kontiki-mr-{}", std::process::id()));
    }
    args.output.join("_work")
}

/// Puts the files with skipped records beside the output.
fn keep_skipped(summary: &Summary, destination: &Destination) -> Result<()> {
    for file in &summary.skipped {
        if let Some(name) = file.file_name() {
            let kept = destination.add(file, &name.to_string_lossy());
            kept.with_context(|| format!("cannot keep {}", file.display()))?;
        }
    }
    Ok(())
}

/// Removes our files from the work folder, and the folder if we made it.
fn clear(work: &PathBuf, made: bool) {
    if made {
        // Left files do no harm, and the output is right.
        let _ = local::clear(work);
        return;
    }
    let entries = fs::read_dir(work).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ["map-", "reduce-", "combine-", "skipped-"].iter().any(|ours| name.starts_with(ours)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn sentence(summary: &Summary, plan: &Plan, start: Instant) -> String {
    let mut text = Vec::new();
    let map = &summary.map;
    let reduce = &summary.reduce;
    // Writing to a vector does not fail.
    let _ = write!(
        text,
        "{} maps, {} reduces in {:.2} s: {} bytes in {} lines; {} pairs emitted, {} shuffled in {} bytes",
        plan.tasks.len(),
        plan.reduces,
        start.elapsed().as_secs_f64(),
        map.input_bytes,
        map.input_records,
        map.emitted,
        map.records,
        map.stored_bytes,
    );
    let spilled = map.spilled_bytes + reduce.spilled_bytes;
    if map.spills > 0 || spilled > 0 {
        let _ = write!(text, ", {} spills, {spilled} bytes merged twice", map.spills);
    }
    if map.skipped_records > 0 {
        let _ = write!(text, ", {} bad records skipped", map.skipped_records);
    }
    let lines = map.output_records + reduce.output_records;
    let _ = write!(text, "; {lines} lines of output");
    String::from_utf8_lossy(&text).into_owned()
}

fn json(summary: &Summary, plan: &Plan, start: Instant) -> serde_json::Value {
    let counters: Vec<serde_json::Value> = summary
        .counters
        .iter()
        .map(|(group, name, sum)| serde_json::json!({"group": group, "name": name, "sum": sum}))
        .collect();
    let (map, reduce) = (&summary.map, &summary.reduce);
    serde_json::json!({
        "seconds": start.elapsed().as_secs_f64(),
        "maps": plan.tasks.len(),
        "reduces": plan.reduces,
        "map_attempts": summary.map_counts.started,
        "reduce_attempts": summary.reduce_counts.started,
        "failed_attempts": summary.map_counts.failed + summary.reduce_counts.failed,
        "skipped_records": map.skipped_records,
        "input_bytes": map.input_bytes,
        "input_records": map.input_records,
        "emitted": map.emitted,
        "emitted_bytes": map.emitted_bytes,
        "shuffled": map.records,
        "shuffle_bytes": map.stored_bytes,
        "shuffle_decoded_bytes": map.decoded_bytes,
        "map_spills": map.spills,
        "spilled_bytes": map.spilled_bytes + reduce.spilled_bytes,
        "runs": reduce.runs,
        "keys": reduce.keys,
        "output_records": map.output_records + reduce.output_records,
        "output_bytes": map.output_bytes + reduce.output_bytes,
        "counters": counters,
    })
}
