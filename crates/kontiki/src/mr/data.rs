//! mr gen and mr dump: data to try jobs on, and a look at map output.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write, stdout};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use kontiki_mapreduce::client::Client;
use kontiki_mapreduce::generate::{records, text, text_of_lines};
use kontiki_mapreduce::shuffle::{Fetch, LocalFetch, RunReader, parse_bucket_name};
use kontiki_mapreduce::worker::MapOutputs;
use kontiki_schedule::JobId;
use serde_json::Value;

use super::cluster::runtime;
use super::{DumpArgs, GenArgs, Kind};

/// Makes data.
pub(super) fn generate(args: &GenArgs) -> Result<()> {
    let mut from = Vec::new();
    for path in &args.from {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        from.extend_from_slice(&bytes);
        if !from.ends_with(b"\n") {
            from.push(b'\n');
        }
    }
    if !from.is_empty() && args.kind != Kind::Text {
        bail!("--from goes with text");
    }
    let make = |bytes: u64, seed: u64, to: &mut dyn Write| match args.kind {
        Kind::Text if from.is_empty() => text(bytes, seed, to),
        Kind::Text => text_of_lines(bytes, seed, &from, to),
        Kind::Sort => records(bytes, seed, to),
    };
    let Some(folder) = &args.output else {
        let written = make(args.size, args.seed, &mut stdout().lock()).map(|_| ());
        return unless_closed(written).context("cannot write to stdout");
    };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for number in 0..args.files {
        let path = folder.join(format!("part-{number}"));
        // A file gets its share; the last ones one byte less.
        let bytes = args.size / args.files + u64::from(number < args.size % args.files);
        let write = || -> io::Result<u64> {
            let mut file = File::create_new(&path)?;
            make(bytes, args.seed.wrapping_add(number), &mut file)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Whoever reads may stop, as `head` does.
fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a bucket.
pub(super) fn dump(args: &DumpArgs) -> Result<()> {
    let (map, reduce) = parse_bucket_name(&args.bucket)
        .ok_or_else(|| anyhow!("`{}` is no bucket: they are called mr-X-Y", args.bucket))?;
    if let Some(url) = &args.coordinator {
        let runtime = runtime()?;
        let outputs = runtime.block_on(outputs_of_job(args, url))?;
        return print(&outputs, map, reduce);
    }
    let work = args.work.as_ref().ok_or_else(|| anyhow!("--work or --coordinator is missing"))?;
    let mut paths = vec![PathBuf::new(); map as usize];
    paths.push(map_file(work, map)?);
    print(&LocalFetch::new(paths), map, reduce)
}

async fn outputs_of_job(args: &DumpArgs, url: &str) -> Result<MapOutputs> {
    let client = Client::with(url, &args.access.client()?)?;
    let job = match &args.job {
        Some(job) => job.clone(),
        None => {
            let status: Value = serde_json::from_str(&client.status().await?)?;
            let jobs = status["jobs"].as_array().into_iter().flatten();
            let live = jobs.filter(|job| job["state"] == "running");
            let live: Vec<&str> = live.filter_map(|job| job["job"].as_str()).collect();
            match live.as_slice() {
                [job] => (*job).to_owned(),
                [] => bail!("no job goes on at {url}"),
                several => bail!("several jobs go on; name one by --job: {}", several.join(" ")),
            }
        }
    };
    let job: JobId = job.parse().map_err(|_| anyhow!("`{job}` is no job"))?;
    Ok(client.map_outputs(job.0).await?)
}

fn print(fetch: &dyn Fetch, map: u32, reduce: u32) -> Result<()> {
    let bucket = fetch.bucket(map, reduce)?;
    let mut out = BufWriter::new(stdout().lock());
    for run in &bucket.runs {
        let mut reader = RunReader::new(fetch, &bucket.file, reduce, *run, 1 << 20);
        while reader.advance()? {
            let written = write_text(&mut out, reader.key())
                .and_then(|()| out.write_all(b"\t"))
                .and_then(|()| write_text(&mut out, reader.value()))
                .and_then(|()| out.write_all(b"\n"));
            if let Err(error) = &written
                && error.kind() == io::ErrorKind::BrokenPipe
            {
                return Ok(());
            }
            written?;
        }
    }
    unless_closed(out.flush()).context("cannot write to stdout")
}

/// The shuffle file of a map in a work folder.
fn map_file(work: &PathBuf, map: u32) -> Result<PathBuf> {
    let prefix = format!("map-{map}-");
    let entries = fs::read_dir(work).with_context(|| format!("cannot read {}", work.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && !name.contains('.') {
            return Ok(entry.path());
        }
    }
    bail!("there is no output of map {map} in {}", work.display())
}

/// Text as it is, control characters and other bytes as `\xNN`.
fn write_text(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                write!(out, "\\x{:02x}", u32::from(character))?;
            } else {
                write!(out, "{character}")?;
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}
