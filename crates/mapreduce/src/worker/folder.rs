//! A worker's folder: who it is, and its map outputs by job.
//!
//! ```text
//! worker          id in hexadecimal, a space, how often it was started, a newline
//! lock            held while a worker runs
//! jobs/JOB/       map-X-ATTEMPT           a shuffle file
//!                 map-X-ATTEMPT.counters  what its attempt counted, written after it, as JSON
//! ```
//! An output without counters was not finished.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kontiki_schedule::{AttemptId, AttemptRef, Counters, JobId, Life, TaskId, WorkerId};
use kontiki_storage::disk::{Disk, RealDisk, RealLock, replace_file};
use kontiki_storage::random_u64;

pub(super) struct Folder {
    path: PathBuf,
    pub(super) worker: WorkerId,
    pub(super) life: Life,
    _lock: RealLock,
}

impl Folder {
    /// Opens the folder, or makes one, and begins another life. `None`: another worker runs there.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        RealDisk.create_dir(&path.join("jobs"))?;
        let Some(lock) = RealDisk.lock(&path.join("lock"))? else { return Ok(None) };
        let (worker, life) = match fs::read_to_string(path.join("worker")) {
            Ok(text) => parse(&text).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "the file `worker` is damaged")
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (random_u64()?, 0),
            Err(error) => return Err(error),
        };
        let life = life + 1;
        let text = format!("{worker:016x} {life}\n");
        replace_file(&RealDisk, path, "worker", text.as_bytes())?;
        let path = path.to_path_buf();
        Ok(Some(Self { path, worker: WorkerId(worker), life: Life(life), _lock: lock }))
    }

    pub(super) fn job(&self, job: JobId) -> PathBuf {
        self.path.join("jobs").join(job.to_string())
    }

    /// The shuffle file of an attempt of a map.
    pub(super) fn output(&self, of: &AttemptRef) -> PathBuf {
        self.job(of.job).join(format!("map-{}-{:016x}", of.task.number, of.attempt.0))
    }

    fn counters(&self, of: &AttemptRef) -> PathBuf {
        self.output(of).with_extension("counters")
    }

    /// Marks an output as finished.
    pub(super) fn finish(&self, of: &AttemptRef, counters: &Counters) -> io::Result<()> {
        let list: Vec<_> = counters.iter().collect();
        let path = self.counters(of);
        let unfinished = path.with_extension("unfinished");
        fs::write(&unfinished, serde_json::to_vec(&list)?)?;
        fs::rename(unfinished, path)
    }

    /// Removes an output. Does not wait for it: large files take their time.
    pub(super) fn remove(&self, of: &AttemptRef) {
        let files = [self.counters(of), self.output(of)];
        tokio::task::spawn_blocking(move || {
            // What stays is removed with its job.
            files.into_iter().for_each(|file| drop(fs::remove_file(file)));
        });
    }

    /// Removes what is there of a job, without waiting for it.
    pub(super) fn remove_job(&self, job: JobId) {
        let folder = self.job(job);
        // What stays is looked at again at the next start.
        tokio::task::spawn_blocking(move || drop(fs::remove_dir_all(folder)));
    }

    /// The finished outputs of earlier lives. What is not finished is removed.
    pub(super) fn held(&self) -> io::Result<BTreeMap<AttemptRef, Counters>> {
        let mut held = BTreeMap::new();
        for folder in fs::read_dir(self.path.join("jobs"))? {
            let folder = folder?;
            let Ok(job) = folder.file_name().to_string_lossy().parse::<JobId>() else { continue };
            for file in fs::read_dir(folder.path())? {
                let path = file?.path();
                let of = path.file_name().and_then(|name| attempt(job, &name.to_string_lossy()));
                let finished = of.and_then(|of| Some((of, read_counters(&self.counters(&of))?)));
                match finished {
                    Some((of, counters)) => {
                        held.insert(of, counters);
                    }
                    None if path.extension().is_some_and(|end| end == "counters") => {}
                    // Where commands ran.
                    None if path.is_dir() => fs::remove_dir_all(path)?,
                    None => fs::remove_file(path)?,
                }
            }
        }
        Ok(held)
    }
}

fn parse(text: &str) -> Option<(u64, u64)> {
    let (worker, life) = text.trim_end().split_once(' ')?;
    Some((u64::from_str_radix(worker, 16).ok()?, life.parse().ok()?))
}

/// The attempt whose output has this name.
fn attempt(job: JobId, name: &str) -> Option<AttemptRef> {
    let (map, attempt) = name.strip_prefix("map-")?.split_once('-')?;
    let attempt = AttemptId(u64::from_str_radix(attempt, 16).ok()?);
    Some(AttemptRef { job, task: TaskId::map(map.parse().ok()?), attempt })
}

fn read_counters(path: &Path) -> Option<Counters> {
    let list: Vec<(String, String, i64)> = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let mut counters = Counters::new();
    for (group, name, sum) in &list {
        counters.add(group, name, *sum);
    }
    Some(counters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_outputs_are_there_in_the_next_life_and_others_are_not() {
        let root = tempfile::tempdir().expect("a folder");
        let of = |attempt| AttemptRef {
            job: JobId(1 << 32 | 7),
            task: TaskId::map(3),
            attempt: AttemptId(attempt),
        };
        let first = Folder::open(root.path()).expect("it opens").expect("nobody is there");
        assert!(Folder::open(root.path()).expect("it opens").is_none());
        fs::create_dir_all(first.job(of(1).job)).expect("made");
        for attempt in [1, 2] {
            fs::write(first.output(&of(attempt)), "x").expect("written");
        }
        let mut counters = Counters::new();
        counters.add("g", "n", 5);
        first.finish(&of(1), &counters).expect("written");
        let (worker, life) = (first.worker, first.life);
        drop(first);
        let second = Folder::open(root.path()).expect("it opens").expect("nobody is there");
        assert_eq!((second.worker, second.life), (worker, Life(life.0 + 1)));
        assert_eq!(second.held().expect("read"), BTreeMap::from([(of(1), counters)]));
        assert!(!second.output(&of(2)).exists());
    }
}
