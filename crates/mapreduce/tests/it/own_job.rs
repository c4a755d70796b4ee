//! The example of a job of one's own, as it is documented.

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
