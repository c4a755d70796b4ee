//! Input from and output to a store: `kontiki up` with jobs beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use kontiki_client::{Op, Options, blocking::Client};
use kontiki_types::Slot;
use rustix::process::{Pid, Signal, kill_process};

use super::farm::{Farm, LIMIT, of_maps};
use super::process::Process;
use super::{amount, figure, kontiki, sorted, union, until};

/// A store of three nodes on loopback.
pub(super) struct Store {
    pub(super) _process: Process,
    /// gRPC addresses of the nodes.
    pub(super) addresses: Vec<String>,
    pids: Vec<i32>,
    pub(super) client: Client,
}

impl Store {
    pub(super) fn start(folder: &Path) -> Self {
        Self::start_with(folder, "", Options::default())
    }

    /// With these settings, and a client with these options.
    fn start_with(folder: &Path, settings: &str, options: Options) -> Self {
        Self::start_groups(folder, settings, options, 1)
    }

    fn start_groups(folder: &Path, settings: &str, options: Options, groups: u32) -> Self {
        let config = folder.join("store.toml");
        fs::write(&config, settings).expect("written");
        let mut command = Command::new(kontiki());
        command.args(["up", "--base-port", "0", "--memory", "16MiB", "--config"]);
        command.arg(config).arg("--dir").arg(folder.join("store"));
        command.args(["--groups", &groups.to_string()]);
        let process = Process::start(command, &folder.join("store-log"));
        // Lines of `node 1  pid 7  resp HOST:PORT  grpc HOST:PORT  http HOST:PORT`.
        let nodes: Vec<(String, i32)> = until("the store", LIMIT, || {
            let said = process.stdout();
            let after = |line: &str, name: &str| {
                let mut words = line.split_whitespace().skip_while(|word| *word != name);
                words.nth(1).map(str::to_owned)
            };
            let node = |line| Some((after(line, "grpc")?, after(line, "pid")?.parse().ok()?));
            let nodes: Vec<_> = said.lines().filter_map(node).collect();
            (nodes.len() == 3).then_some(nodes)
        });
        let (addresses, pids): (Vec<String>, _) = nodes.into_iter().unzip();
        let client = Client::connect(&addresses, options).expect("a client");
        Self { _process: process, addresses, pids, client }
    }

    /// A URL that names all nodes, from the given one on.
    pub(super) fn url(&self, first: usize, prefix: &str) -> String {
        let mut addresses = self.addresses.clone();
        addresses.rotate_left(first);
        format!("kontiki://{}/{prefix}", addresses.join(","))
    }

    fn fill(&self, pairs: &BTreeMap<String, String>) {
        let pairs: Vec<_> = pairs.iter().collect();
        for some in pairs.chunks(500) {
            let sets = some.iter().map(|(key, value)| Op::Set {
                key: (*key).clone().into(),
                value: (*value).clone().into(),
            });
            self.client.batch(sets).expect("written");
        }
    }

    /// Everything below a prefix, read by a job: key, tab, value.
    fn read(&self, folder: &Path, prefix: &str) -> Vec<u8> {
        let output = folder.join(format!("read-{}", super::random(u64::MAX)));
        let mut command = job(&["--mapper", "cat", "--reducer", "NONE"]);
        command.args(["--input", &self.url(0, prefix), "--output"]).arg(&output);
        let done = command.output().expect("kontiki runs");
        if stderr(&done).contains("there is no") {
            return Vec::new();
        }
        assert!(done.status.success(), "{}", stderr(&done));
        union(&output)
    }
}

fn job(arguments: &[&str]) -> Command {
    let mut command = Command::new(kontiki());
    command.args(["mr", "run", "--quiet", "--workers", "2"]).args(arguments);
    command
}

fn stderr(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn succeed(command: &mut Command) {
    let done = command.output().expect("kontiki runs");
    assert!(done.status.success(), "{}", stderr(&done));
}

fn some_pairs(count: usize) -> BTreeMap<String, String> {
    let words = ["the", "sea", "and", "all", "that", "in", "them", "is"];
    let value = |number: usize| format!("{} {}", words[number % 8], words[number / 8 % 8]);
    let pair = |number| (format!("in/{number}"), value(number));
    let mut pairs: BTreeMap<_, _> = (0..count).map(pair).collect();
    pairs.insert("other/1".into(), "not this one".into());
    pairs
}

/// The lines that a job reads of some pairs.
fn lines(pairs: &BTreeMap<String, String>) -> Vec<u8> {
    let of_prefix = pairs.iter().filter_map(|(key, value)| Some((key.strip_prefix("in/")?, value)));
    let lines: String = of_prefix.map(|(key, value)| format!("{key}\t{value}\n")).collect();
    sorted(lines.as_bytes())
}

/// The keys of all groups are records, each once, and so they are when slots have moved.
#[test]
fn keys_of_every_group_are_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::start_groups(folder.path(), "", Options::default(), 3);
    let pairs = some_pairs(300);
    for (key, value) in &pairs {
        store.client.set(key.as_bytes(), value.as_bytes()).expect("written");
    }
    let read = store.read(folder.path(), "in/");
    assert!(read == lines(&pairs), "{}", String::from_utf8_lossy(&read));
    let mut command = Command::new(kontiki());
    command.args(["cluster", "move", "--slots", "0-3000", "--to", "3", "--no-wait"]);
    command.args(["--addr", &store.addresses[0]]);
    succeed(&mut command);
    // While they move, a listing waits, and goes by what then is so.
    let read = store.read(folder.path(), "in/");
    assert!(read == lines(&pairs), "{}", String::from_utf8_lossy(&read));
    // Results of any slots, by workers behind a fence, of which nothing stays.
    let (input, output) = (store.url(0, "in/"), store.url(1, "copy/"));
    let cat = ["--mapper", "cat", "--reducer", "cat", "--reduces", "2", "--processes"];
    succeed(job(&cat).args(["--input", &input, "--output", &output]));
    assert!(store.read(folder.path(), "copy/") == lines(&pairs), "other results");
}

/// Threads and processes read the same; keys and values of all bytes come as one line each.
#[test]
fn keys_are_records_and_results_are_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::start(folder.path());
    let mut pairs = some_pairs(3000);
    store.fill(&pairs);
    store.client.set(b"in/tab\tand\nline\\", b"\xff\ttab\nline\\").expect("written");
    let text = [lines(&pairs), b"tab\\tand\\nline\\\\\t\xff\ttab\\nline\\\\\n".to_vec()].concat();
    let cat = ["--mapper", "cat", "--reducer", "cat", "--reduces", "3", "--split-size", "5000"];
    for (name, how) in [("threads", None), ("processes", Some("--processes"))] {
        let output = folder.path().join(name);
        let mut command = job(&cat);
        command.args(["--input", &store.url(0, "in/"), "--output"]).arg(&output).args(how);
        succeed(&mut command);
        assert!(union(&output) == sorted(&text), "{name}");
        // There and back.
        let copy = store.url(1, &format!("copy-{name}/"));
        let mut command = job(&cat);
        command.args(["--input", &store.url(2, "in/"), "--output", &copy]).args(how);
        succeed(&mut command);
        let read = store.read(folder.path(), &format!("copy-{name}/"));
        assert!(read == sorted(&text), "{name}: {}", String::from_utf8_lossy(&read));
        let value = store.client.get(format!("copy-{name}/tab\tand\nline\\")).expect("read");
        assert_eq!(value.expect("it is there").value, &b"\xff\ttab\nline\\"[..]);
    }
    // The output of a job with `word count` lines.
    store.client.delete("in/tab\tand\nline\\").expect("deleted");
    pairs.retain(|key, _| key.starts_with("in/"));
    let counts = store.url(0, "counts/");
    succeed(job(&["wc", "--input", &store.url(0, "in/"), "--output", &counts]).arg("--processes"));
    let expected = pairs.values().filter(|value| value.contains("sea")).count()
        + pairs.values().filter(|value| *value == "sea sea").count();
    let counted = store.client.get("counts/sea").expect("read").expect("it is there");
    assert_eq!(counted.value, expected.to_string());
    let words = store.read(folder.path(), "counts/");
    assert_eq!(words.split(|byte| *byte == b'\n').count(), 8 + 1, "and nothing but words");
    // Sorted by the engine: the borders come from a sample of the keys.
    let output = folder.path().join("sorted");
    let mut sort = job(&["sort", "--reduces", "4", "--input", &store.url(0, "in/"), "--output"]);
    succeed(sort.arg(&output));
    let outputs: Vec<u8> = (0..4)
        .flat_map(|number| fs::read(output.join(format!("mr-out-{number}"))).expect("an output"))
        .collect();
    assert!(outputs == lines(&pairs), "in order over all outputs");
    assert!(!fs::read(output.join("mr-out-1")).expect("an output").is_empty());
}

/// A writer changes everything all the time; each job sees one moment: all keys have one value.
#[test]
fn a_job_sees_one_moment() {
    const KEYS: usize = 400;
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::start(folder.path());
    let set_all = |client: &Client, round: usize| {
        let sets = (0..KEYS).map(|number| Op::Set {
            key: format!("in/{number}").into(),
            value: round.to_string().into(),
        });
        client.transaction([], sets).expect("written").expect("nothing to compare");
    };
    set_all(&store.client, 0);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let rounds = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                let round = rounds.load(std::sync::atomic::Ordering::SeqCst) + 1;
                set_all(&store.client, round);
                rounds.store(round, std::sync::atomic::Ordering::SeqCst);
            }
        });
        for number in 0..6 {
            let before = rounds.load(std::sync::atomic::Ordering::SeqCst);
            let output = folder.path().join(format!("out-{number}"));
            // The maps are many, and take their time.
            let mapper = "sleep 0.05; cut -f 2";
            let mut command = job(&["--mapper", mapper, "--reducer", "uniq -c", "--reduces", "1"]);
            command.args(["--split-size", "300", "--input", &store.url(number % 3, "in/")]);
            succeed(command.arg("--output").arg(&output));
            let text = String::from_utf8(union(&output)).expect("text");
            let words: Vec<usize> =
                text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            assert_eq!((words.len(), words[0]), (2, KEYS), "one value: {text}");
            assert!(words[1] >= before, "what was acknowledged before is seen: {text}");
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let rounds = rounds.into_inner();
    assert!(rounds > 10, "{rounds}");
    figure("rounds_of_writes", rounds);
}

/// The partition that the engine gives a key.
fn reduce_of(key: &str, reduces: u32) -> u32 {
    let hash = key
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash & 0x7fff_ffff) % reduces
}

/// A worker is cut off while it writes an output: killed, or stopped beyond its lease, to come back
/// when another one has written everything. Keys have the values of one attempt, the last one that
/// was granted, and what comes late changes nothing.
fn keys_are_those_of_one_attempt(groups: u32) {
    // A slot is a write of its own where there are groups.
    let lines = if groups == 1 { 30_000 } else { 4_000 };
    // Two slots: the reduce that waits for the test may not take the only one.
    let mut farm = Farm::start_with(1, 2, Duration::from_secs(2));
    let store = Store::start_groups(farm.root.path(), "", Options::default(), groups);
    let input = farm.path("input");
    let keys: Vec<String> = (0..lines).map(|line| format!("{line:06}")).collect();
    let text: String = keys.iter().map(|key| format!("{key}\tvalue of {key}\n")).collect();
    fs::write(&input, &text).expect("an input");
    let mut of_first: Vec<&String> = keys.iter().filter(|key| reduce_of(key, 2) == 0).collect();
    // In each slot a fence is set up and taken down for each round.
    let both = ["killed", "stopped"];
    let rounds = if groups == 1 { &both[..] } else { amount(&both[..], &both[1..]) };
    for (round, &name) in rounds.iter().enumerate() {
        let key_of = |key: &str| format!("{name}/{key}");
        if groups > 1 {
            // They are written slot by slot.
            of_first.sort_by_key(|key| Slot::of(key_of(key).as_bytes()));
        }
        let (first, last) = (of_first[0], of_first[of_first.len() - 1]);
        let value = |key: &str| {
            let found = store.client.get(key_of(key)).expect("read");
            found.map(|found| String::from_utf8(found.value.to_vec()).expect("text"))
        };
        let go = farm.path(&format!("go-{name}"));
        // Who wrote it is in the value. The second reduce keeps the job going.
        let reducer = format!(
            "while [ $mapreduce_task_partition = 1 -a ! -e {} ]; do sleep 0.05; done; \
             sed \"s/$/ $mapreduce_task_attempt_id/\"",
            go.display()
        );
        let mut command = Command::new(kontiki());
        command.args(["mr", "run", "--json", "--quiet", "--mapper", "cat", "--reducer", &reducer]);
        command.args(["--reduces", "2", "--split-size", "300000", "--input"]).arg(&input);
        command.args(["--output", &store.url(0, &key_of("")), "--coordinator", &farm.url()]);
        let mut run = Process::start(command, &farm.path(&format!("run-{name}")));
        until("an output to be begun", LIMIT, || value(first));
        // The one that was added in the round before.
        let writer = round;
        match name {
            "killed" => farm.workers[writer].kill(),
            _ => farm.workers[writer].stop(),
        }
        assert_eq!(value(last), None, "it was cut off before the end");
        let cut_off = value(first).expect("it was begun");
        farm.add_worker();
        until("another attempt to write everything", LIMIT, || {
            value(last).filter(|value| value[15..] != cut_off[15..])
        });
        // The last write of an output is one with the mark, so it is whole.
        if name == "stopped" {
            let known = |farm: &Farm| farm.job().map(|job| job["running"].clone());
            let before = known(&farm);
            farm.workers[writer].go_on();
            std::thread::sleep(Duration::from_secs(2));
            figure("running_before_and_after", format!("{before:?} {:?}", known(&farm)));
        }
        fs::write(&go, "").expect("the other reduce goes on");
        let status = run.wait(LIMIT);
        assert!(status.success(), "{}", run.stderr());
        let report: serde_json::Value = serde_json::from_str(&run.stdout()).expect("JSON");
        assert!(of_maps(&report, "reruns") > 0, "its map outputs were gone: {report}");
        let found = store.read(farm.root.path(), &key_of(""));
        let found = String::from_utf8(found).expect("text");
        let mut writers = [const { BTreeSet::new() }; 2];
        let mut plain = String::new();
        for line in found.lines() {
            let (pair, writer) = line.rsplit_once(' ').expect("a writer");
            let key = pair.split('\t').next().expect("a key");
            writers[reduce_of(key, 2) as usize].insert(writer.to_owned());
            plain += &format!("{pair}\n");
        }
        assert!(plain == text, "{name}: other keys: {report}");
        assert!(writers.iter().all(|writers| writers.len() == 1), "{name}: {writers:?}");
        assert!(!cut_off.ends_with(writers[0].first().expect("one")), "the first one was replaced");
        // Alone again.
        farm.workers[writer].kill();
    }
}

#[test]
fn keys_are_those_of_one_attempt_though_workers_die_or_come_back_late() {
    keys_are_those_of_one_attempt(1);
}

#[test]
fn keys_of_many_groups_are_those_of_one_attempt_though_workers_die_or_come_back_late() {
    keys_are_those_of_one_attempt(3);
}

/// A job that fails, or is wrong from its beginning, leaves no key.
#[test]
fn what_goes_wrong_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::start(folder.path());
    store.fill(&some_pairs(50));
    let check = |arguments: &[&str], expect: &[&str]| {
        let done = job(arguments).output().expect("kontiki runs");
        let said = stderr(&done);
        assert!(!done.status.success(), "{said}");
        for text in expect {
            assert!(said.contains(text), "no {text} in {said}");
        }
        assert_eq!(store.read(folder.path(), "out/"), b"");
    };
    let (input, output) = (store.url(0, "in/"), store.url(0, "out/"));
    check(&["wc", "--input", &store.url(0, "absent/"), "--output", &output], &["there is no key"]);
    check(&["wc", "--input", &input, "--output", &store.url(0, "other/")], &["is not empty"]);
    check(&["wc", "--input", &input, "--output", &store.url(0, "")], &["needs a prefix"]);
    check(&["sort", "--input", &input, "--output", &output], &["name a folder"]);
    check(&["wc", "--input", "kontiki://here/x", "--output", &output], &["HOST:PORT"]);
    check(
        &["wc", "--input", "kontiki://127.0.0.1:1/x", "--output", &output],
        &["cannot reach a store at 127.0.0.1:1"],
    );
    for how in [&[][..], &["--processes"]] {
        let failing = ["--mapper", "cat", "--reducer", "cat; exit 3", "--attempts", "2"];
        let ends = ["--input", &input, "--output", &output];
        check(&[&failing[..], &ends, how].concat(), &["exit"]);
    }
}

/// The password is in the environment, of `mr run` and of its workers.
#[test]
fn a_store_may_ask_for_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("password");
    fs::write(&file, "swordfish\n").expect("written");
    let settings = format!("requirepass-file = {:?}", file.display().to_string());
    let options = Options::default().password("swordfish");
    let store = Store::start_with(folder.path(), &settings, options);
    store.client.set("in/1", "the sea").expect("written");
    let (input, output) = (store.url(0, "in/"), store.url(0, "out/"));
    let arguments = ["wc", "--processes", "--input", &input, "--output", &output];
    let done = job(&arguments).output().expect("kontiki runs");
    assert!(stderr(&done).contains("needs the client password"), "{}", stderr(&done));
    succeed(job(&arguments).env("KONTIKI_PASSWORD_FILE", &file));
    assert!(store.client.get("out/sea").expect("read").is_some());
}

/// The view is of one node. When that dies, the job says so.
#[test]
fn a_job_whose_view_is_gone_fails_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::start(folder.path());
    store.fill(&some_pairs(100));
    let output = folder.path().join("out");
    let mapper = format!("touch {}; sleep 2; cat", folder.path().join("begun").display());
    let arguments = ["--mapper", &mapper, "--reducer", "cat", "--split-size", "200"];
    let mut command = job(&arguments);
    command.args(["--input", &store.url(0, "in/"), "--output"]).arg(&output);
    let mut run = Process::start(command, &folder.path().join("run-log"));
    until("a map to begin", LIMIT, || folder.path().join("begun").exists().then_some(()));
    kill_process(Pid::from_raw(store.pids[0]).expect("a process"), Signal::KILL).expect("killed");
    assert!(!run.wait(LIMIT).success());
    let said = run.stderr();
    assert!(said.contains("as of index") && said.contains(&store.addresses[0]), "{said}");
    assert!(!output.exists(), "nothing is left");
}
