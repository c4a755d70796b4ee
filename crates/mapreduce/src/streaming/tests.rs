//! Commands against a shell's own pipe.

use std::process::Command;

use super::*;
use crate::input::list;
use crate::task::commit;

fn commands(mapper: &str, combiner: Option<&str>, reducer: &str) -> Streaming {
    let combiner = combiner.map(str::to_owned);
    Streaming::new(Commands { combiner, ..Commands::new(mapper, reducer) })
}

fn attempt(folder: &Path, reduces: u32, memory_bytes: u64) -> Attempt {
    Attempt {
        job: 1,
        attempt: 1,
        reduces,
        memory_bytes,
        folder: folder.to_owned(),
        skip: Vec::new(),
    }
}

fn run(
    program: &Streaming,
    input: &Path,
    split_bytes: u64,
    reduces: u32,
) -> Result<(Vec<u8>, Counters), TaskError> {
    let folder = tempfile::tempdir().unwrap();
    let attempt = attempt(folder.path(), reduces, 1 << 18);
    let tasks = plan(&list(&[input.to_str().unwrap()]).unwrap(), split_bytes);
    let mut counters = Counters::default();
    let mut paths = Vec::new();
    for task in &tasks {
        let output = program.map(task, &attempt, &Unwatched)?;
        counters.add_all(&output.counters);
        paths.push(output.file);
    }
    let fetch = LocalFetch::new(paths);
    let mut all = Vec::new();
    for number in 0..reduces {
        let task = ReduceTask { number, maps: tasks.len() as u32 };
        let output = program.reduce(task, &fetch, &attempt, &Unwatched)?;
        counters.add_all(&output.counters);
        let path = commit(&output.file, folder.path(), number).unwrap();
        all.extend(fs::read(path).unwrap());
    }
    Ok((all, counters))
}

fn sorted(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> =
        bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    lines
}

fn input() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.txt");
    let lines: String =
        (0..20_000).map(|n| format!("w{} and x{} and\n", n % 97, n % 1013)).collect();
    fs::write(&path, lines + "no newline at the end").unwrap();
    (folder, path)
}

const MAPPER: &str = r#"tr ' ' '\n' | awk '{ print $0 "\t1" }'"#;
const REDUCER: &str = r#"awk -F'\t' '
    $1 != last { if (NR > 1) print last "\t" sum; last = $1; sum = 0 }
    { sum += $2 }
    END { if (NR > 0) print last "\t" sum }'"#;

#[test]
fn a_shell_pipe_gives_the_same() {
    let (_folder, path) = input();
    let pipe = format!("cat {} | {MAPPER} | LC_ALL=C sort | {REDUCER}", path.display());
    let expect = Command::new("/bin/sh").args(["-c", &pipe]).output().unwrap().stdout;
    assert!(expect.len() > 1000);
    for combiner in [None, Some(REDUCER)] {
        let program = commands(MAPPER, combiner, REDUCER);
        let (found, _) = run(&program, &path, 100_000, 3).unwrap();
        assert!(sorted(&found) == sorted(&expect), "combiner {combiner:?}");
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        program.sequential(&list(&[path.to_str().unwrap()]).unwrap(), &output).unwrap();
        assert!(sorted(&fs::read(output).unwrap()) == sorted(&expect));
    }
}

#[test]
fn lines_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    let bytes = b"no tab\nkey\tvalue\ttwo\n\tno key\n\nkey\t\n\xff\xfe\tbytes\n";
    fs::write(&path, bytes).unwrap();
    let (found, _) = run(&commands("cat", None, "cat"), &path, 1 << 20, 1).unwrap();
    assert_eq!(sorted(&found), sorted(bytes));
    assert!(found.ends_with(b"key\tvalue\ttwo\nkey\t\nno tab\n\xff\xfe\tbytes\n"));
}

#[test]
fn a_command_that_fails_fails_the_attempt_with_what_it_said() {
    let (_folder, path) = input();
    for program in [
        commands("cat >/dev/null; echo broken >&2; exit 3", None, "cat"),
        commands("cat", None, "head -n 1; echo broken >&2; exit 3"),
        commands("cat", Some("echo broken >&2; exit 3"), "cat"),
    ] {
        let error = run(&program, &path, 1 << 30, 1).unwrap_err();
        let TaskError::User { message, .. } = &error else { panic!("{error}") };
        assert!(message.contains("exit status: 3: broken"), "{message}");
    }
    let error = run(&commands("no-such-command-here", None, "cat"), &path, 1 << 30, 1);
    assert!(error.unwrap_err().to_string().contains("127"));
}

#[test]
fn a_command_need_not_read_everything() {
    let (_folder, path) = input();
    let (found, _) = run(&commands("head -n 1", None, "cat"), &path, 1 << 30, 1).unwrap();
    assert_eq!(found, b"w0 and x0 and\n");
}

#[test]
fn counters_on_stderr_are_counted_over_all_tasks() {
    let (_folder, path) = input();
    let mapper =
        "awk '{ print } END { print \"reporter:counter:lines,read,\" NR > \"/dev/stderr\" }'";
    let (_, counters) = run(&commands(mapper, None, "cat"), &path, 50_000, 2).unwrap();
    assert_eq!(counters.get("lines", "read"), 20_001);
}

#[test]
fn commands_know_their_task() {
    let (_folder, path) = input();
    let mapper = "cat >/dev/null; echo $mapreduce_map_input_file $mapreduce_task_partition \
                  $mapreduce_task_ismap $mapreduce_map_input_start";
    let (found, _) = run(&commands(mapper, None, "cat"), &path, 200_000, 1).unwrap();
    let name = path.display();
    assert_eq!(
        String::from_utf8(found).unwrap(),
        format!("{name} 0 true 0\n{name} 1 true 200000\n")
    );
}

struct Late(std::time::Instant);

impl Monitor for Late {
    fn advanced(&self, _amount: u64) {}

    fn is_cancelled(&self) -> bool {
        self.0.elapsed() > std::time::Duration::from_millis(200)
    }
}

#[test]
fn a_command_that_hangs_is_killed_when_the_attempt_is_cancelled() {
    let (_folder, path) = input();
    let folder = tempfile::tempdir().unwrap();
    let tasks = plan(&list(&[path.to_str().unwrap()]).unwrap(), 1 << 30);
    let start = std::time::Instant::now();
    let program = commands("sleep 1000; true", None, "cat");
    let attempt = attempt(folder.path(), 1, 1 << 20);
    let error = program.map(&tasks[0], &attempt, &Late(start)).unwrap_err();
    assert!(matches!(error, TaskError::Cancelled), "{error}");
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn a_missing_command_is_found_before_it_runs() {
    assert!(check_command("cat -n").is_ok());
    assert!(check_command("A=1 cat").is_ok());
    assert!(check_command("no-such-command-here -x").unwrap_err().contains("no-such-command-here"));
    assert!(check_command(" ").is_err());
}

#[test]
fn a_record_that_kills_a_command_is_found_by_probing_and_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    fs::write(&path, "a\nb\ndie\nc").unwrap();
    let mapper = "while read line; do [ \"$line\" != die ] || exit 9; echo $line; done";
    let program = commands(mapper, None, "cat");
    let tasks = plan(&list(&[path.to_str().unwrap()]).unwrap(), 1000);
    let work = tempfile::tempdir().unwrap();
    let mut attempt = attempt(work.path(), 1, 1 << 20);
    let error = program.map(&tasks[0], &attempt, &Unwatched).unwrap_err();
    let TaskError::User { suspects: Some(suspects), .. } = &error else { panic!("{error}") };
    assert!(suspects.contains(&2), "{suspects:?}");
    let probe = |records| program.probe(&tasks[0], records, &attempt, &Unwatched).is_ok();
    assert!(probe(0..2) && probe(3..4) && !probe(2..3));
    attempt.skip = vec![2];
    let output = program.map(&tasks[0], &attempt, &Unwatched).unwrap();
    assert_eq!(output.figures.records, 3);
    assert_eq!(fs::read(output.skipped.unwrap()).unwrap(), b"die\n");
}

#[test]
fn without_reduces_the_output_is_what_the_mappers_write() {
    let (_folder, path) = input();
    let program = commands("cut -d ' ' -f 3; echo reporter:counter:g,runs,1 >&2", None, "");
    let work = tempfile::tempdir().unwrap();
    let mut attempt = attempt(work.path(), 0, 1 << 20);
    let tasks = plan(&list(&[path.to_str().unwrap()]).unwrap(), 100_000);
    let (mut all, mut lines, mut counters) = (Vec::new(), 0, Counters::default());
    for task in &tasks {
        let output = program.map(task, &attempt, &Unwatched).unwrap();
        lines += output.figures.output_records;
        counters.add_all(&output.counters);
        all.extend(fs::read(output.file).unwrap());
    }
    let command = format!("cut -d ' ' -f 3 {}", path.display());
    let expect = Command::new("/bin/sh").args(["-c", &command]).output().unwrap().stdout;
    assert!(tasks.len() > 2 && all == expect, "{} bytes", all.len());
    assert_eq!((lines, counters.get("g", "runs")), (20_001, tasks.len() as i64));
    let alone = work.path().join("alone");
    program.sequential_maps(&list(&[path.to_str().unwrap()]).unwrap(), &alone).unwrap();
    assert!(fs::read(alone).unwrap() == expect);
    attempt.attempt = 2;
    let failing = commands("cat; exit 1", None, "");
    assert!(failing.map(&tasks[0], &attempt, &Unwatched).is_err());
    let left = fs::read_dir(work.path()).unwrap().count();
    assert_eq!(left, tasks.len() + 1, "a failed attempt leaves nothing");
}

#[test]
fn separators_and_key_fields_are_those_of_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    fs::write(&path, "b.2.x.y\na.1.z\nb.2.w\nb.1.v\nalone\n").unwrap();
    let mut program = commands("cat", None, "cat; echo $COLOUR");
    program.commands.fields =
        Fields { map_output: b".".to_vec(), key_fields: 2, reduce_input: b" => ".to_vec() };
    program.commands.environment = vec![("COLOUR".into(), "blue".into())];
    let expect = "a.1 => z\nalone\nb.1 => v\nb.2 => x.y\nb.2 => w\nblue\n";
    let (found, _) = run(&program, &path, 1 << 20, 1).unwrap();
    assert_eq!(String::from_utf8(found).unwrap(), expect);
    let alone = folder.path().join("alone");
    program.sequential(&list(&[path.to_str().unwrap()]).unwrap(), &alone).unwrap();
    assert_eq!(fs::read_to_string(alone).unwrap(), expect);
}

#[derive(Default)]
struct Listener(std::sync::Mutex<Vec<String>>);

impl Monitor for Listener {
    fn advanced(&self, _amount: u64) {}

    fn said(&self, status: &str) {
        self.0.lock().unwrap().push(status.to_owned());
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

#[test]
fn what_a_command_says_of_itself_is_heard() {
    let (_folder, path) = input();
    let tasks = plan(&list(&[path.to_str().unwrap()]).unwrap(), 1 << 30);
    let work = tempfile::tempdir().unwrap();
    let program = commands("cat >/dev/null; echo 'reporter:status:half done' >&2", None, "cat");
    let listener = Listener::default();
    program.map(&tasks[0], &attempt(work.path(), 1, 1 << 20), &listener).unwrap();
    assert_eq!(listener.0.into_inner().unwrap(), ["half done"]);
}
