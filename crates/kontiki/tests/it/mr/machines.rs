//! Workers that share no folder for map output, as two machines do not.

use std::fs;
use std::time::Duration;

use super::farm::{Farm, of_maps};
use super::{figure, nothing_half_written, sorted, union};

const MAPS: u64 = 8;

/// The first worker has all map outputs but one when it is killed, and its disk is gone. The second
/// one makes them again.
#[test]
fn maps_of_a_dead_machine_run_again_elsewhere() {
    let mut farm = Farm::start(1, Duration::from_secs(2));
    let input = farm.path("input");
    fs::create_dir(&input).expect("a folder");
    let mut text = String::new();
    for file in 0..MAPS {
        let lines: String =
            (0..100).map(|line| format!("{:04} of {file}\n", line * 61 % 997)).collect();
        fs::write(input.join(format!("f{file}")), &lines).expect("an input");
        text.push_str(&lines);
    }
    let go = farm.path("go");
    let mapper = format!(
        "case $mapreduce_map_input_file in */f7) while [ ! -e '{}' ]; do sleep 0.02; done;; esac; cat",
        go.display()
    );
    let mut run = farm
        .run("out", ["--mapper", &mapper, "--reducer", "cat", "--input", &input.to_string_lossy()]);
    farm.maps_done(MAPS - 1);
    farm.add_worker();
    farm.workers[0].kill();
    fs::remove_dir_all(farm.folder(0)).expect("its disk");
    fs::write(&go, "").expect("the last map goes on");
    let report = run.done();
    assert!(union(&run.output) == sorted(text.as_bytes()), "another output: {report}");
    nothing_half_written(&run.output);
    assert_eq!(of_maps(&report, "reruns"), MAPS - 1, "{report}");
    figure("maps_run_again", MAPS - 1);
}

/// Both have map outputs, and each reduce gets those of the other over the network.
#[test]
fn reducers_fetch_from_another_machine() {
    let farm = Farm::start(2, Duration::from_secs(10));
    let input = farm.path("input");
    let text: String = (0..2000).map(|line| format!("{:05} line\n", line * 7919 % 9973)).collect();
    fs::write(&input, &text).expect("an input");
    let arguments =
        ["--mapper", "sleep 0.1; cat", "--reducer", "cat", "--split-size", "1500", "--input"];
    let mut run = farm.run("out", arguments.into_iter().chain([&*input.to_string_lossy()]));
    // Each has something, and neither everything, before the reduces begin.
    super::until("both to hold map outputs", super::farm::LIMIT, || {
        let holds = |worker| {
            let jobs =
                fs::read_dir(farm.folder(worker).join("jobs")).into_iter().flatten().flatten();
            jobs.flat_map(|job| fs::read_dir(job.path()).into_iter().flatten()).count() > 0
        };
        (holds(0) && holds(1)).then_some(())
    });
    let report = run.done();
    assert!(union(&run.output) == sorted(text.as_bytes()), "another output: {report}");
    let counters = report["counters"].as_array().expect("counters");
    let fetched = counters.iter().find(|counter| counter["name"] == "reduce_fetched_bytes");
    let stored = counters.iter().find(|counter| counter["name"] == "map_stored_bytes");
    let sum = |counter: Option<&serde_json::Value>| counter.and_then(|c| c["sum"].as_u64());
    assert!(sum(fetched) > Some(0) && sum(fetched) <= sum(stored), "{report}");
    figure("bytes_fetched", sum(fetched).unwrap_or_default());
}
