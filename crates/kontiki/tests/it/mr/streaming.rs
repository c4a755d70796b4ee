//! Commands give what they give in a shell.

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
