//! Map output that rots between its maps and its reduces.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::farm::{Farm, LIMIT, of_maps};
use super::{amount, figure, nothing_half_written, random, sorted, union, until};

const MAPS: usize = 6;

/// Finished shuffle files of a worker's latest job.
fn shuffle_files(worker: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let jobs = list(&worker.join("jobs"));
    let files = jobs.iter().flat_map(|job| list(job));
    files
        .filter(|path| path.extension().is_none() && path.with_extension("counters").exists())
        .collect()
}

/// Flips a byte, makes a range of zeros, or cuts the end off.
fn damage(path: &Path) -> String {
    let mut bytes = fs::read(path).expect("a shuffle file");
    let at = random(bytes.len() as u64) as usize;
    let what = match random(3) {
        0 => {
            bytes[at] ^= 1 << random(8);
            "flipped"
        }
        1 => {
            let end = (at + 1 + random(64) as usize).min(bytes.len());
            bytes[at..end].fill(0);
            "zeros"
        }
        _ => {
            bytes.truncate(at);
            "cut"
        }
    };
    fs::write(path, bytes).expect("a shuffle file");
    format!("{what} at {at}")
}

/// Each time all maps but one are done; their files are damaged; then the last one may end.
#[test]
fn damaged_map_output_is_made_again_and_never_used() {
    let farm = Farm::start(2, Duration::from_secs(10));
    let input = farm.path("input");
    fs::create_dir(&input).expect("a folder");
    let mut text = String::new();
    for file in 0..MAPS {
        let lines: Vec<String> = (0..40)
            .map(|line| format!("key-{:03}\tvalue {file}-{line}\n", line * 37 % 101))
            .collect();
        fs::write(input.join(format!("f{file}")), lines.concat()).expect("an input");
        text.push_str(&lines.concat());
    }
    let expected = sorted(text.as_bytes());
    let (mut runs_again, trials) = (0, amount(300, 8));
    for trial in 0..trials {
        let go = farm.path("go");
        let _ = fs::remove_file(&go);
        let last = format!("f{}", MAPS - 1);
        let mapper = format!(
            "case $mapreduce_map_input_file in */{last}) while [ ! -e '{}' ]; do sleep 0.02; done;; \
             esac; cat",
            go.display()
        );
        let name = format!("out-{trial}");
        let mut run = farm.run(
            &name,
            [
                "--mapper",
                &mapper,
                "--reducer",
                "cat",
                "--reduces",
                "3",
                "--input",
                &input.to_string_lossy(),
            ],
        );
        let files = until("map outputs", LIMIT, || {
            let mut files = shuffle_files(&farm.folder(0));
            files.extend(shuffle_files(&farm.folder(1)));
            (files.len() == MAPS - 1).then_some(files)
        });
        // One of them, or all.
        let chosen = random(files.len() as u64 + 1) as usize;
        let hurt =
            files.iter().enumerate().filter(|(at, _)| chosen == files.len() || *at == chosen);
        let done: Vec<String> = hurt.map(|(_, path)| damage(path)).collect();
        fs::write(&go, "").expect("the last map goes on");
        let status = run.process.wait(LIMIT);
        if status.success() {
            assert!(union(&run.output) == expected, "another output after {done:?}");
            runs_again += of_maps(&run.done(), "reruns");
        } else {
            assert!(union(&run.output).is_empty(), "output of a job that failed, {done:?}");
        }
        nothing_half_written(&run.output);
        // The workers look every five seconds which jobs are over.
        for worker in [0, 1] {
            let _ = fs::remove_dir_all(farm.folder(worker).join("jobs"));
            fs::create_dir(farm.folder(worker).join("jobs")).expect("a folder");
        }
    }
    assert!(runs_again > 0, "no damage was noticed in {trials} runs");
    figure("runs_with_damage", trials);
    figure("maps_run_again", runs_again);
}
