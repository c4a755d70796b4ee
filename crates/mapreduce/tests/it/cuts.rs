//! The same output wherever the input is cut.

use kontiki_mapreduce::apps::{Grep, Indexer, Sort, WordCount};
use kontiki_mapreduce::input::{InputFile, MapTask, Part};
use kontiki_mapreduce::task::{Compiled, Program};

use super::{FIXTURE, folder_with, run_tasks, sequential, sorted, tasks};

/// Two tasks: the file up to `at`, and the rest.
fn cut_at(file: &InputFile, at: u64) -> Vec<MapTask> {
    let part = |start, end| Part {
        keys: None,
        file: 0,
        name: file.name.clone(),
        codec: file.codec,
        file_bytes: file.bytes,
        start,
        end,
    };
    vec![
        MapTask { number: 0, parts: vec![part(0, at)] },
        MapTask { number: 1, parts: vec![part(at, file.bytes)] },
    ]
}

fn check(program: &dyn Program, maps: &[MapTask], expect: &[u8], what: &str) {
    let (outputs, summary) = run_tasks(program, maps, 1);
    assert!(sorted(&outputs) == expect, "{what}");
    assert_eq!(summary.map_counts.started, maps.len() as u64, "{what}");
}

#[test]
fn a_cut_at_every_byte_changes_nothing() {
    let (_folder, files) = folder_with(FIXTURE);
    let count = Compiled(WordCount);
    let sort = Compiled(Sort::new(Vec::new()));
    let expect_count = sorted(&[sequential(&count, &files)]);
    let expect_sort = sorted(&[sequential(&sort, &files)]);
    for at in 0..=FIXTURE.len() as u64 {
        let maps = cut_at(&files[0], at);
        check(&count, &maps, &expect_count, &format!("words, cut at {at}"));
        // Every output is synced, so that lines are sorted for every third cut only.
        if at % 3 == 0 {
            check(&sort, &maps, &expect_sort, &format!("lines, cut at {at}"));
        }
    }
}

#[test]
fn every_size_of_splits_gives_the_same() {
    let (_folder, files) = folder_with(FIXTURE);
    let index = Compiled(Indexer);
    let expect = sorted(&[sequential(&index, &files)]);
    for split_bytes in (1..64).chain((64..=FIXTURE.len() as u64).step_by(31)) {
        let maps = tasks(&files, split_bytes);
        check(&index, &maps, &expect, &format!("index, splits of {split_bytes}"));
    }
}

#[test]
fn lines_found_are_in_the_order_of_the_input_whatever_the_splits() {
    let text: String = (0..300).map(|n| format!("line {n} {}\n", ["yes", "no"][n % 2])).collect();
    let (_folder, files) = folder_with(text.as_bytes());
    let expect: String =
        text.lines().filter(|line| line.contains("yes")).map(|line| format!("{line}\n")).collect();
    for split_bytes in [7, 100, 1001, 1 << 20] {
        let maps = tasks(&files, split_bytes);
        let grep = Compiled(Grep::new(b"yes", maps.len() as u32));
        let (outputs, _) = run_tasks(&grep, &maps, 4);
        assert_eq!(String::from_utf8(outputs.concat()).unwrap(), expect, "{split_bytes}");
    }
}
