//! Commands give what they give in a shell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{kontiki, sorted, union};

const PYTHON_MAPPER: &str = "import re, sys
for line in sys.stdin.buffer:
    for word in re.findall(rb'[A-Za-z]+', line):
        sys.stdout.buffer.write(word + b'\\t1\\n')
sys.stderr.write('reporter:counter:words,lines seen,1\\n')
";

const PYTHON_REDUCER: &str = "import sys
word, count = None, 0
for line in sys.stdin.buffer:
    key, value = line.rstrip(b'\\n').split(b'\\t')
    if key != word:
        if word is not None:
            print(word.decode(), count, sep='\\t')
        word, count = key, 0
    count += int(value)
if word is not None:
    print(word.decode(), count, sep='\\t')
";

const AWK_MAPPER: &str = "awk '{ for (i = 1; i <= NF; i++) print length($i) \"\\t\" $i }'";
const AWK_REDUCER: &str =
    "awk -F '\\t' '{ seen[$1]++ } END { for (l in seen) print l \"\\t\" seen[l] }'";

/// The same commands in a shell.
fn pipeline(input: &Path, mapper: &str, reducer: &str) -> Vec<u8> {
    let script = format!("cat {}/* | {mapper} | LC_ALL=C sort | {reducer}", input.display());
    let done = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    sorted(&done.stdout)
}

fn check(folder: &Path, name: &str, mapper: &str, reducer: &str) {
    let input = folder.join("input");
    let expected = pipeline(&input, mapper, reducer);
    assert!(!expected.is_empty());
    for how in [&["--workers", "2"][..], &["--workers", "2", "--processes"]] {
        let output = folder.join(format!("{name}-{}", how.len()));
        let mut run = Command::new(kontiki());
        run.args(["mr", "run", "--mapper", mapper, "--reducer", reducer, "--split-size", "5000"]);
        run.args(how).arg("--quiet").arg("--input").arg(&input).arg("--output").arg(&output);
        let done = run.output().expect("kontiki runs");
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(union(&output) == expected, "{name} {how:?}: not what the shell gives");
    }
}

fn input() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut generate = Command::new(kontiki());
    generate.args(["mr", "gen", "text", "--size", "20KiB", "--files", "2", "--output"]);
    assert!(generate.arg(folder.path().join("input")).status().expect("kontiki runs").success());
    folder
}

#[test]
fn python_gives_what_it_gives_in_a_shell() {
    let folder = input();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a script");
        format!("python3 {}", path.display())
    };
    let mapper = file("map.py", PYTHON_MAPPER);
    let reducer = file("reduce.py", PYTHON_REDUCER);
    check(folder.path(), "python", &mapper, &reducer);
}

#[test]
fn awk_gives_what_it_gives_in_a_shell() {
    let folder = input();
    check(folder.path(), "awk", AWK_MAPPER, AWK_REDUCER);
}

fn run(arguments: &[&str], output: &Path) -> std::process::Output {
    let mut run = Command::new(kontiki());
    run.args(["mr", "run", "--quiet"]).args(arguments).arg("--output").arg(output);
    run.output().expect("kontiki runs")
}

/// A mapper that is found by its bare name and reads a list that came with it, each in a folder of its
/// own: what one attempt writes there, another one does not see.
#[test]
fn files_travel_with_a_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = |name: &str, text: &str| {
        let path = folder.path().join("scripts").join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, text).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&path, mode).expect("set");
        path.to_string_lossy().into_owned()
    };
    let mapper = script(
        "map.sh",
        "#!/bin/sh\nset -e\n[ ! -e mine ]\n: >mine\nsleep 0.1\ngrep -v -x -F -f stop.txt\n",
    );
    let reducer = script("reduce.sh", "#!/bin/sh\nset -e\n[ ! -e mine ]\n: >mine\nuniq\n");
    let stop = script("stop.txt", "the\nand\n");
    let input = folder.path().join("input");
    let words = ["the", "sea", "and", "all", "sea"];
    let text: String = (0..500).map(|number| format!("{}\n", words[number % 5])).collect();
    fs::write(&input, text).expect("written");
    let files = format!("{mapper},{reducer}");
    let input = input.to_string_lossy();
    let job = [
        ["--mapper", "map.sh", "--reducer", "./reduce.sh"],
        ["--combiner", "uniq", "--split-size", "300"],
        ["--files", &files, "--files", &stop],
        ["--input", &input, "--reduces", "3"],
    ];
    let job = job.concat();
    for (name, how) in [
        ("threads", &["--workers", "3"][..]),
        ("processes", &["--workers", "2", "--processes"]),
        ("sequential", &["--sequential"]),
    ] {
        let output = folder.path().join(name);
        let done = run(&[&job, how].concat(), &output);
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(String::from_utf8_lossy(&union(&output)), "all\nsea\n", "{name}");
        let left = fs::read_dir(&output).expect("a folder").flatten();
        assert!(
            left.into_iter().all(|one| one.file_name().to_string_lossy().starts_with("mr-out"))
        );
    }
    let folder = folder.path();
    for (files, expect) in [
        ("absent.sh", "there is no file absent.sh"),
        (&*format!("{stop},{stop}"), "two of --files are called stop.txt"),
        (&*folder.to_string_lossy(), "is not a file"),
    ] {
        let arguments =
            ["--mapper", "cat", "--reducer", "cat", "--input", &input, "--files", files];
        let done = run(&arguments, &folder.join("wrong"));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(expect), "no {expect} in {said}");
        assert!(!folder.join("wrong").exists());
    }
}

/// Keys of two fields: those that agree in the field that was named are in one output, and each
/// output is sorted by the whole key.
#[test]
fn a_partitioner_looks_at_fields() {
    let folder = tempfile::tempdir().expect("a folder");
    let input = folder.path().join("input");
    let text: String = (0..600).map(|at| format!("{}.{}.x\n", at * 7 % 20, at % 30)).collect();
    fs::write(&input, &text).expect("written");
    let input = input.to_string_lossy();
    let job = [
        ["--mapper", "cat", "--reducer", "cat", "--key-fields", "2"],
        ["--map-output-separator", ".", "--reduce-input-separator", ".", "--reduces", "5"],
        ["--split-size", "1000", "--workers", "2", "--input", &input],
    ]
    .concat();
    for (how, field) in [("first-field", 0), ("-k1,1", 0), ("-k2", 1), ("hash", 2)] {
        let output = folder.path().join(how);
        let done = run(&[&job[..], &["--partitioner", how]].concat(), &output);
        assert!(done.status.success(), "{how}: {}", String::from_utf8_lossy(&done.stderr));
        assert!(union(&output) == sorted(text.as_bytes()), "{how}");
        let mut outputs_of = BTreeMap::<String, BTreeSet<usize>>::new();
        for number in 0..5 {
            let found = fs::read_to_string(output.join(format!("mr-out-{number}"))).expect("text");
            assert!(found.lines().is_sorted_by_key(|line| line.rsplit_once('.').map(|cut| cut.0)));
            for line in found.lines() {
                let fields: Vec<&str> = line.split('.').collect();
                outputs_of.entry(fields[field].to_owned()).or_default().insert(number);
            }
        }
        let together = outputs_of.values().all(|outputs| outputs.len() == 1);
        // By the whole key, those of `x` are everywhere.
        assert_eq!(together, how != "hash", "{how}: {outputs_of:?}");
    }
    let wrong = run(&[&job[..], &["--partitioner", "-k0"]].concat(), &folder.path().join("wrong"));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("-kFROM"), "{wrong:?}");
    let built_in = ["wc", "--input", &input, "--partitioner", "first-field"];
    let wrong = run(&built_in, &folder.path().join("wrong"));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--mapper"), "{wrong:?}");
}
