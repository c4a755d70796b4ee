//! The jobs of the course's test script, and the program that has them: driver and worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::thread::sleep;
use std::time::Duration;

use kontiki_mapreduce::access::Security;
use kontiki_mapreduce::api::{
    Emit, HashPartition, Job, Mapper, NoCombiner, Output, Record, Reducer, Values,
};
use kontiki_mapreduce::client::{Client, JOB_DONE, SubmitOptions};
use kontiki_mapreduce::coordinator::{Coordinator, CoordinatorConfig};
use kontiki_mapreduce::description::Description;
use kontiki_mapreduce::error::{TaskError, UserError};
use kontiki_mapreduce::input::{SPLIT_BYTES, list, plan};
use kontiki_mapreduce::jobs::Jobs;
use kontiki_mapreduce::spec::{Application, REDUCES};
use kontiki_mapreduce::worker::{Worker, WorkerConfig};
use tokio::runtime::Runtime;

use crate::mr::random;

/// The job of a case. Each input file has one line, so that a record is a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// A map says which process ran it and how many maps it saw running.
    MapTiming,
    /// A reduce of a key says how many it saw running.
    ReduceTiming,
    /// The reduce counts the maps that were ever run.
    JobCount,
    /// Some reduces take long.
    EarlyExit,
    /// Every call may end its process, or take up to ten seconds.
    Crash,
    /// The same job without accidents.
    NoCrash,
    /// Every map takes longer than a lease.
    LongMap,
}

pub(super) const CASES: [(&str, Case); 7] = [
    ("map-timing", Case::MapTiming),
    ("reduce-timing", Case::ReduceTiming),
    ("job-count", Case::JobCount),
    ("early-exit", Case::EarlyExit),
    ("crash", Case::Crash),
    ("no-crash", Case::NoCrash),
    ("long-map", Case::LongMap),
];

/// See [`Case`]. The parameter of each is a folder in which its processes leave marks.
pub(super) fn jobs() -> Jobs {
    CASES.iter().fold(Jobs::new(), |jobs, (name, case)| {
        jobs.with(name, |marks| {
            let marks = PathBuf::from(String::from_utf8_lossy(marks).into_owned());
            Ok(Lab { case: *case, marks })
        })
    })
}

#[derive(Clone)]
struct Lab {
    case: Case,
    marks: PathBuf,
}

/// A mark of this process for as long as it lives, and what it saw.
struct Presence(PathBuf);

impl Presence {
    /// How many processes do the same now.
    fn enter(marks: &Path, what: &str) -> (Self, usize) {
        let own = marks.join(format!("{what}-{}", std::process::id()));
        fs::write(&own, "").expect("a mark");
        sleep(Duration::from_millis(500));
        let entries = fs::read_dir(marks).expect("the marks");
        let names = entries.map(|entry| entry.expect("a mark").file_name());
        let live = names.filter(|name| name.to_string_lossy().starts_with(what)).count();
        sleep(Duration::from_millis(500));
        (Self(own), live)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A third of the calls end the process, another third take up to ten seconds.
fn accident() {
    match random(3) {
        0 => exit(1),
        1 => sleep(Duration::from_millis(random(10_000))),
        _ => {}
    }
}

impl Mapper for Lab {
    fn map<E: Emit>(&mut self, record: Record<'_>, out: &mut E) -> Result<(), UserError> {
        let file = Path::new(std::str::from_utf8(record.source.name).unwrap_or_default());
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let process = std::process::id();
        match self.case {
            Case::MapTiming => {
                let (_here, live) = Presence::enter(&self.marks, "map");
                out.emit(format!("process-{process}").as_bytes(), b"1");
                out.emit(format!("parallel-{process}").as_bytes(), live.to_string().as_bytes());
            }
            Case::ReduceTiming => {
                for key in b'a'..=b'j' {
                    out.emit(&[key], b"1");
                }
            }
            Case::JobCount | Case::LongMap => {
                let mark = format!("ran-{name}-{process}-{}", random(u64::MAX));
                fs::write(self.marks.join(mark), "").map_err(|error| error.to_string())?;
                sleep(match self.case {
                    Case::LongMap => Duration::from_secs(11),
                    _ => Duration::from_millis(2000 + random(3000)),
                });
                out.emit(b"a", b"x");
            }
            Case::EarlyExit => out.emit(name.as_bytes(), b"1"),
            Case::Crash | Case::NoCrash => {
                if self.case == Case::Crash {
                    accident();
                }
                out.emit(b"a", name.as_bytes());
                out.emit(b"b", name.len().to_string().as_bytes());
                out.emit(b"c", record.bytes.len().to_string().as_bytes());
                out.emit(b"d", b"xyzzy");
            }
        }
        Ok(())
    }
}

impl Reducer for Lab {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut Output<'_>,
    ) -> Result<(), TaskError> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        while let Some(value) = values.next()? {
            all.push(value.to_vec());
        }
        all.sort();
        match self.case {
            Case::ReduceTiming => {
                let (_here, live) = Presence::enter(&self.marks, "reduce");
                return out.emit_number(key, live as u64);
            }
            Case::JobCount | Case::LongMap => {
                let marks =
                    fs::read_dir(&self.marks).map_err(|error| UserError(error.to_string()))?;
                return out.emit_number(key, marks.count() as u64);
            }
            Case::EarlyExit if key.ends_with(b"3") || key.ends_with(b"5") => {
                sleep(Duration::from_secs(3));
            }
            Case::Crash => accident(),
            Case::MapTiming | Case::NoCrash | Case::EarlyExit => {}
        }
        out.emit(key, &all.join(&b' '))
    }
}

impl Job for Lab {
    type Mapper = Lab;
    type Combiner = NoCombiner;
    type Reducer = Lab;
    type Partition = HashPartition;

    fn mapper(&self) -> Lab {
        self.clone()
    }

    fn combiner(&self) -> Option<NoCombiner> {
        None
    }

    fn reducer(&self) -> Lab {
        self.clone()
    }

    fn partition(&self) -> HashPartition {
        HashPartition
    }
}

/// The program: `drive APPLICATION MARKS ADDRESS-FILE OUTPUT INPUT...` or `work URL FOLDER`.
pub(super) fn program(arguments: &[&str]) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::new()?;
    match arguments {
        ["drive", name, marks, address, output, inputs @ ..] => {
            runtime.block_on(drive(name, marks, Path::new(address), Path::new(output), inputs))
        }
        ["work", url, folder] => {
            let config = WorkerConfig {
                coordinator: (*url).to_owned(),
                directory: PathBuf::from(folder),
                listen: ([127, 0, 0, 1], 0).into(),
                advertise: None,
                slots: 1,
                memory_bytes: 16 << 20,
                patience: Some(Duration::from_secs(3)),
                security: Security::default(),
            };
            runtime.block_on(async {
                Worker::open(config, jobs())?.run(std::future::pending()).await
            })?;
            Ok(())
        }
        other => Err(format!("{other:?}?").into()),
    }
}

fn application(name: &str, marks: &str) -> Application {
    match name {
        "wc" => Application::WordCount,
        "indexer" => Application::Indexer,
        name => Application::Own { name: name.to_owned(), parameters: marks.as_bytes().to_vec() },
    }
}

async fn drive(
    name: &str,
    marks: &str,
    address: &Path,
    output: &Path,
    inputs: &[&str],
) -> Result<(), Box<dyn std::error::Error>> {
    let coordinator = Coordinator::start(CoordinatorConfig {
        directory: None,
        listen: ([127, 0, 0, 1], 0).into(),
        http: None,
        schedule: kontiki_schedule::Config::default(),
        security: Security::default(),
    })?;
    let url = format!("http://{}", coordinator.address());
    fs::write(address.with_extension("new"), &url)?;
    fs::rename(address.with_extension("new"), address)?;
    fs::create_dir_all(output)?;
    let maps = plan(&list(inputs)?, SPLIT_BYTES);
    let description = Description::new(application(name, marks), maps, REDUCES, output);
    let client = Client::new(&url)?;
    let status = client.run(&description, &SubmitOptions::default()).await?;
    let (maps, reduces) = (status.maps.unwrap_or_default(), status.reduces.unwrap_or_default());
    println!("maps {maps:?}\nreduces {reduces:?}");
    if status.state == JOB_DONE { Ok(()) } else { Err(status.error.into()) }
}

/// What a run in one thread gives.
pub(super) fn sequential(name: &str, output: &Path, inputs: &[String]) -> Vec<u8> {
    let program = jobs().program(&application(name, "")).expect("a job");
    let files = list(inputs).expect("the input");
    program.sequential(&files, output).expect("a run in one thread");
    crate::mr::sorted(&fs::read(output).expect("its output"))
}
