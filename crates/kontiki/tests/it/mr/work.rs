//! A job that is worth disturbing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::farm::{Farm, Run};
use super::{amount, is_full, kontiki, nothing_half_written, sorted, union};

/// A job that lasts: a gibibyte of words for the released program; in the small form lines whose
/// maps take their time, since an unoptimised program is not worth waiting for.
pub(super) struct Work {
    input: PathBuf,
    expected: Vec<u8>,
}

impl Work {
    pub(super) fn new(folder: &Path) -> Self {
        let input = folder.join("input");
        if is_full() {
            return Self::words(input, "1GiB");
        }
        let mut text = String::new();
        for number in 0..4000 {
            writeln!(text, "{:05} line", number * 7919 % 10_000).expect("memory");
        }
        std::fs::write(&input, &text).expect("an input");
        let expected = sorted(text.as_bytes());
        Self { input, expected }
    }

    fn words(input: PathBuf, size: &str) -> Self {
        let mut generate = Command::new(kontiki());
        generate.args(["mr", "gen", "text", "--size", size, "--output"]).arg(&input);
        assert!(generate.status().expect("kontiki runs").success());
        let output = input.with_file_name("expected");
        let mut alone = Command::new(kontiki());
        alone.args(["mr", "run", "wc", "--quiet", "--sequential", "--input"]).arg(&input);
        assert!(alone.arg("--output").arg(&output).status().expect("kontiki runs").success());
        Self { input, expected: union(&output) }
    }

    fn arguments(&self) -> Vec<String> {
        let input = self.input.to_string_lossy().into_owned();
        let job: &[&str] = amount(
            &["wc", "--split-size", "16MiB"],
            &["--mapper", "sleep 0.15; cat", "--reducer", "sleep 0.1; cat", "--split-size", "1000"],
        );
        let mut arguments: Vec<String> = job.iter().map(|word| (*word).to_owned()).collect();
        arguments.extend(["--input".to_owned(), input]);
        arguments
    }

    pub(super) fn run(&self, farm: &Farm, name: &str) -> Run {
        farm.run(name, self.arguments())
    }

    /// Waits for the end of the run; what it says of itself.
    pub(super) fn check(&self, run: &mut Run) -> Value {
        let report = run.done();
        assert!(union(&run.output) == self.expected, "another output: {report}");
        nothing_half_written(&run.output);
        report
    }
}
