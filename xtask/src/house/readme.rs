//! The commands in the documents: each program is one that a reader has, each command exists.
//!
//! That they do what is written beside them is tried by `cargo xtask acceptance 2 --item 11`.

use super::Finding;
use crate::tree::Tree;

const DOCUMENTS: [&str; 2] = ["README.md", "ARCHITECTURE.md"];

/// The info strings of fenced blocks that hold commands.
const LANGUAGES: [&str; 3] = ["sh", "bash", "console"];

/// Programs that a reader has, or is told to install.
const PROGRAMS: [&str; 12] = [
    "cargo",
    "git",
    "cd",
    "bash",
    "kontiki",
    "redis-cli",
    "redis-benchmark",
    "kill",
    "curl",
    "python3",
    "pip",
    "apt-get",
];

/// What `kontiki` understands (DESIGN §8: a contract).
const KONTIKI: [&str; 11] =
    ["up", "node", "get", "set", "append", "del", "cluster", "config", "bench", "sim", "chaos"];

/// What `kontiki cluster` understands.
const CLUSTER: [&str; 14] = [
    "status",
    "transfer",
    "add-replica",
    "remove-replica",
    "slots",
    "query",
    "join",
    "leave",
    "move",
    "rebalance",
    "add-node",
    "drain",
    "remove-node",
    "enable-sharding",
];

/// What of `cargo` is used in the documents.
const CARGO: [&str; 6] = ["build", "run", "test", "install", "xtask", "add"];

const XTASK: [&str; 6] = ["check", "fix", "acceptance", "tables", "deps", "help"];

const HINT: &str = "write it as the program understands it, or add it to xtask/src/house/readme.rs";

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    let documents = DOCUMENTS.iter().filter_map(|path| Some((*path, tree.text(path)?)));
    let mut findings = Vec::new();
    for (path, text) in documents {
        for (line, command) in commands(text) {
            if let Err(what) = understand(&command) {
                findings.push(Finding::at(path, line, what, HINT));
            }
        }
    }
    findings
}

/// Every command of the fenced blocks with its line: all lines of a `sh` block, those after a
/// prompt in a `console` block.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut language: Option<&str> = None;
    let mut continued = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            language = if language.is_some() { None } else { Some(info.trim()) };
            continue;
        }
        let command = match language {
            Some("console") => line.strip_prefix("$ "),
            Some(language) if LANGUAGES.contains(&language) => Some(line),
            _ => None,
        };
        let Some(command) = command.map(str::trim).filter(|line| !line.is_empty()) else {
            continue;
        };
        if command.starts_with('#') {
            continue;
        }
        match found.last_mut() {
            Some((_, before)) if continued => {
                before.pop();
                before.push_str(command);
            }
            _ => found.push((number + 1, command.to_string())),
        }
        continued = command.ends_with('\\');
    }
    found
}

/// Whether every program of a command line (`a | b && c`) and its first words are known.
fn understand(line: &str) -> Result<(), String> {
    let line = line.split(" #").next().unwrap_or_default();
    for command in line.split("&&").flat_map(|part| part.split(['|', ';'])) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let words: Vec<&str> = words.into_iter().skip_while(|word| is_assignment(word)).collect();
        let Some((program, rest)) = words.split_first() else { continue };
        let program = program.strip_prefix("./target/release/").unwrap_or(program);
        let program = program.strip_prefix("target/release/").unwrap_or(program);
        if !PROGRAMS.contains(&program) {
            return Err(format!("an unknown program `{program}`"));
        }
        match program {
            "cargo" => cargo(rest)?,
            "kontiki" => kontiki(rest)?,
            _ => {}
        }
    }
    Ok(())
}

/// `NAME=value` before a command.
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    })
}

fn cargo(rest: &[&str]) -> Result<(), String> {
    let command = one_of(rest.first(), &CARGO, "cargo")?;
    match command {
        "xtask" => one_of(rest.get(1), &XTASK, "cargo xtask").map(drop),
        "run" => match rest.iter().position(|word| *word == "--") {
            Some(at) if !rest.contains(&"--example") => kontiki(&rest[at + 1..]),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn kontiki(rest: &[&str]) -> Result<(), String> {
    if matches!(rest.first(), Some(&"--help" | &"--version")) {
        return Ok(());
    }
    match one_of(rest.first(), &KONTIKI, "kontiki")? {
        "cluster" => one_of(rest.get(1), &CLUSTER, "kontiki cluster").map(drop),
        _ => Ok(()),
    }
}

fn one_of<'a>(word: Option<&&'a str>, known: &[&str], of: &str) -> Result<&'a str, String> {
    match word {
        Some(word) if known.contains(word) => Ok(word),
        Some(word) => Err(format!("`{of}` has no command `{word}`")),
        None => Err(format!("`{of}` without a command")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(block: &str, expect: &[&str]) {
        let found = inspect(&Tree::of(&[("README.md", block)]));
        let found: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(found, expect, "in {block}");
    }

    #[test]
    fn known_commands_pass() {
        check(
            "```console\n$ cargo run --release -- up --nodes 3\nready\n$ redis-cli -p 7001 GET k\n```",
            &[],
        );
        check(
            "```sh\ncd kontiki && cargo xtask check   # the gate\nCI=true bash .ci/run\n```",
            &[],
        );
        check("```text\nwhatever this is\n```\nand `prose`", &[]);
        check("```sh\nkontiki cluster status \\\n  --json\n```", &[]);
    }

    #[test]
    fn unknown_commands_are_found() {
        check("```sh\nmake install\n```", &["an unknown program `make`"]);
        check("```sh\ncargo xtask polish\n```", &["`cargo xtask` has no command `polish`"]);
        check(
            "```console\n$ cargo run --release -- start\n```",
            &["`kontiki` has no command `start`"],
        );
        check("```sh\nkontiki cluster nap\n```", &["`kontiki cluster` has no command `nap`"]);
        check("```sh\nls | kontiki\n```", &["an unknown program `ls`"]);
    }

    #[test]
    fn the_list_of_this_tools_commands_is_true() {
        assert_eq!(XTASK, crate::COMMANDS);
    }
}
