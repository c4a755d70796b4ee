//! Word count and index of the fixture, against what an independent program says
//! (`bench/mr/words.py`).

use kontiki_mapreduce::apps::{Indexer, WordCount};
use kontiki_mapreduce::task::Compiled;

use super::{FIXTURE, folder_with, run_tasks, sequential, sorted, tasks};

const COUNTS: &[u8] = include_bytes!("fixture-wc.txt");
const INDEX: &[u8] = include_bytes!("fixture-index.txt");

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_fixture_has_the_words_that_an_independent_program_finds() {
    let (folder, files) = folder_with(FIXTURE);
    let (outputs, _) = run_tasks(&Compiled(WordCount), &tasks(&files, 1 << 20), 10);
    assert_eq!(shown(&sorted(&outputs)), shown(COUNTS));
    let found = sequential(&Compiled(WordCount), &files);
    assert_eq!(shown(&sorted(&[found])), shown(COUNTS));
    // The index names the file as it was spelled.
    let spelled = folder.path().join("in.txt").to_str().unwrap().to_owned();
    let expect = shown(INDEX).replace("fixture.txt", &spelled);
    let (outputs, _) = run_tasks(&Compiled(Indexer), &tasks(&files, 1 << 20), 10);
    assert_eq!(shown(&sorted(&outputs)), expect);
    let found = sequential(&Compiled(Indexer), &files);
    assert_eq!(shown(&sorted(&[found])), expect);
}

#[test]
fn each_word_is_in_the_output_of_its_reduce() {
    let (_folder, files) = folder_with(b"alpha beta gamma delta epsilon zeta eta theta iota kappa");
    let (outputs, _) = run_tasks(&Compiled(WordCount), &tasks(&files, 1 << 20), 10);
    // FNV-1a of the word, without its sign bit, modulo 10.
    for (reduce, output) in outputs.iter().enumerate() {
        let text = shown(output);
        for line in text.lines() {
            let word = line.split(' ').next().unwrap();
            let hash = word.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
            assert_eq!((hash & 0x7fff_ffff) as usize % 10, reduce, "{word}");
        }
    }
}
