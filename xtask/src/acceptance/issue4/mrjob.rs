//! Item 5b: a word count of mrjob's own examples as the commands of a job.

use anyhow::{Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

use crate::acceptance::{Context, Figures, needs};
use crate::program::Program;

const INSTALL_MAX: Duration = Duration::from_secs(300);
const RUN_MAX: Duration = Duration::from_secs(180);

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["python3"])?;
    let python = installed(context)?;
    let (input, output) = (context.scratch.join("input"), context.scratch.join("output"));
    let size = context.amount("4MiB", "64KiB");
    Program::new(&context.binary)
        .args(["mr", "gen", "text", "--size", size, "--files", "2", "--output"])
        .args([&input])
        .output_within(RUN_MAX)?;
    let command = |step: &str| {
        let module = "-m mrjob.examples.mr_word_freq_count --step-num=0";
        format!("{} {module} {step}", python.display())
    };
    let files = format!("{}/part-0 {}/part-1", input.display(), input.display());
    // What the same commands give one after the other.
    let pipeline = format!(
        "cat {files} | {} | LC_ALL=C sort | {} | LC_ALL=C sort",
        command("--mapper"),
        command("--reducer")
    );
    let expected = Program::new("sh").args(["-c", &pipeline]).output_within(RUN_MAX)?;
    Program::new(&context.binary)
        .args(["mr", "run", "--processes", "--workers", "2", "--reduces", "3", "--quiet"])
        .args(["--split-size", context.amount("1MiB", "20KiB")])
        .args(["--mapper", &command("--mapper"), "--combiner", &command("--combiner")])
        .args(["--reducer", &command("--reducer")])
        .args(["--input".as_ref(), input.as_os_str(), "--output".as_ref(), output.as_os_str()])
        .output_within(RUN_MAX)?;
    let union = format!("cat {}/mr-out-* | LC_ALL=C sort", output.display());
    let found = Program::new("sh").args(["-c", &union]).output_within(RUN_MAX)?;
    ensure!(found == expected, "another output than the same commands in a shell");
    ensure!(!found.is_empty(), "there is no output");
    Ok(Figures::from_iter([("lines".to_owned(), found.lines().count().into())]))
}

/// The interpreter of a virtual environment with mrjob, which stays between runs.
fn installed(context: &Context) -> Result<PathBuf> {
    let home = context.scratch.with_file_name("client-mrjob");
    let python = home.join("bin/python");
    if !python.exists() {
        Program::new("python3").args(["-m", "venv"]).args([&home]).output_within(INSTALL_MAX)?;
    }
    let requirements = context.root.join("tests/clients/mrjob/requirements.txt");
    Program::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .args([&requirements])
        .output_within(INSTALL_MAX)?;
    Ok(python)
}
