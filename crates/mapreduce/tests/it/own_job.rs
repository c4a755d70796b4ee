//! The example of a job of one's own, as it is documented.

use std::path::{Path, PathBuf};
use std::process::Command;

#[expect(dead_code, reason = "the example's main is for the command line")]
#[path = "../../examples/own_job.rs"]
mod example;

use kontiki_mapreduce::task::Compiled;

use super::{folder_with, run_tasks, sequential, tasks};

#[test]
fn the_documented_example_finds_the_longest_line_of_each_first_word() {
    let (_folder, files) = folder_with(b"b one\na x\nb three\n\na xyz\nb seven\na");
    let program = Compiled(example::LongestLine);
    let expect = "a 5 a xyz\nb 7 b seven\n";
    assert_eq!(String::from_utf8(sequential(&program, &files)).unwrap(), expect);
    for split_bytes in [1, 9, 1000] {
        let (outputs, _) = run_tasks(&program, &tasks(&files, split_bytes), 1);
        assert_eq!(String::from_utf8(outputs.concat()).unwrap(), expect);
    }
}

/// The example's program, as it is now: `cargo test --test it` alone does not build it.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        name => name.unwrap(),
    };
    let build = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-p", "kontiki-mapreduce", "--example", "own_job"])
        .args(["--profile", name, "--target-dir"])
        .arg(profile.parent().unwrap())
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    profile.join("examples/own_job")
}

#[test]
fn the_example_is_driver_worker_and_local_runner() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.txt");
    std::fs::write(&input, "b one\na x\nb three\n\na xyz\nb seven\na").unwrap();
    let program = program();
    for (name, how) in [("threads", &[][..]), ("processes", &["--processes", "2"])] {
        let output = folder.path().join(name);
        let run = Command::new(&program).args(how).arg(&output).arg(&input).output().unwrap();
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        let mut files: Vec<_> =
            std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 4, "{files:?}");
        let parts: Vec<String> =
            files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        let all = parts.concat();
        let mut lines: Vec<&str> = all.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["a 5 a xyz", "b 7 b seven"], "{name}");
    }
}
