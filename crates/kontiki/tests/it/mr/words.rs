//! Word count and index against the engine's own run in one thread and an independent program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{amount, figure, kontiki, random, union};

/// What a user's folder may hold: ends of lines of two kinds, bytes that are no text, letters of
/// many scripts, marks and digits that are none, and no last newline.
const FIXTURE: &[u8] = "It's a test\r\nstra\u{df}e na\u{ef}ve \u{3b1}\u{3b2}\u{3b3} \u{434}\u{43e}\u{43c}\0\
    \u{5d0}\u{5d1} \u{6c9}\u{634}\u{645} \u{4e2d}\u{6587} \u{b2}x \u{2160}I e\u{301}t 12ab34\r\n\n\ta b  c"
    .as_bytes();

/// Folder of books, if there is one; what `mr gen` makes otherwise.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match std::env::var_os("KONTIKI_BOOKS") {
        Some(books) => {
            let entries = fs::read_dir(books).expect("the books");
            entries.map(|entry| entry.expect("a book").path()).collect()
        }
        None => {
            let mut generate = Command::new(kontiki());
            generate.args([
                "mr",
                "gen",
                "text",
                "--size",
                amount("3MiB", "100KiB"),
                "--files",
                "3",
            ]);
            generate.arg("--output").arg(folder.join("text"));
            assert!(generate.status().expect("kontiki runs").success());
            (0..3).map(|number| folder.join(format!("text/part-{number}"))).collect()
        }
    };
    let odd = folder.join("odd");
    fs::write(&odd, [FIXTURE, b" bad\xffbyte\xc3 \xf0\x9f end"].concat()).expect("a file");
    files.push(odd);
    files.sort();
    files
}

fn run(app: &str, files: &[PathBuf], how: &[&str], output: &Path) -> Vec<u8> {
    let mut command = Command::new(kontiki());
    command.args(["mr", "run", app, "--quiet"]).args(how).arg("--output").arg(output);
    let done = command.arg("--input").args(files).output().expect("kontiki runs");
    assert!(done.status.success(), "{app} {how:?}: {}", String::from_utf8_lossy(&done.stderr));
    union(output)
}

#[test]
fn any_splits_give_what_an_independent_program_gives() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = inputs(folder.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/mr/words.py");
    let largest = files.iter().map(|file| fs::metadata(file).expect("a file").len()).max();
    let (mut runs, sizes) = (0, amount(64, 3));
    for (app, name) in [("wc", "wc"), ("indexer", "index")] {
        let independent = Command::new("python3").arg(&script).arg(name).args(&files).output();
        let independent = independent.expect("python3 runs");
        assert!(independent.status.success());
        let output = folder.path().join(format!("{app}-sequential"));
        let alone = run(app, &files, &["--sequential"], &output);
        assert!(alone == independent.stdout, "{app}: not what words.py gives");
        for size in 0..sizes {
            // From a few lines to whole files, each order of magnitude as often.
            let split = (largest.unwrap_or(1) >> random(10)).max(100) + random(1000);
            let split = split.to_string();
            let output = folder.path().join(format!("{app}-{size}"));
            let mut how = vec!["--split-size", &split, "--workers", "2"];
            if size % 3 == 0 {
                how.push("--processes");
            }
            assert!(run(app, &files, &how, &output) == alone, "{app}: another output, {how:?}");
            fs::remove_dir_all(&output).expect("removed");
            runs += 1;
        }
    }
    figure("runs", runs);
}
