//! Item 11: README's commands, run as written, answer what is written beside them.
//!
//! They stand in ```` ```console ```` blocks: `$ command`, then its output, where `...` stands for
//! anything. `cargo run --release --` and `target/release/kontiki` mean the released binary; `up` stays
//! running until the end. Commands that build, install or test are left to `.ci/run`.

use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

use crate::acceptance::cluster::{Cluster, fresh_log};
use crate::acceptance::{Context, Figures, needs};
use crate::program::Program;

const COMMAND_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(context: &Context) -> Result<Figures> {
    needs(&["redis-cli"])?;
    let text = std::fs::read_to_string(context.root.join("README.md"))?;
    let mut cluster = None;
    let mut tried = 0;
    for example in examples(&text) {
        let command = in_our_words(&example.command);
        if is_for_ci(&command) {
            continue;
        }
        if let Some(arguments) = command.strip_prefix("kontiki up") {
            cluster = Some(start(context, arguments, &example)?);
        } else {
            let said = shell(context, &command)?;
            ensure!(
                is_as_written(&said, &example.output),
                "README says that `{}` answers\n{}\nbut it answers\n{said}",
                example.command,
                example.output
            );
        }
        tried += 1;
    }
    ensure!(tried > 0, "README has no console examples");
    cluster.map_or(Ok(()), Cluster::stop)?;
    Ok(Figures::from_iter([("commands".to_string(), tried.into())]))
}

struct Example {
    command: String,
    output: String,
}

/// The commands of the `console` blocks, each with the lines up to the next.
fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(info) = line.strip_prefix("```") {
            inside = !inside && info.trim() == "console";
        } else if let Some(command) = line.strip_prefix("$ ").filter(|_| inside) {
            let command = command.split("  #").next().unwrap_or(command).trim();
            found.push(Example { command: command.to_string(), output: String::new() });
        } else if let Some(example) = found.last_mut().filter(|_| inside) {
            example.output.push_str(line);
            example.output.push('\n');
        }
    }
    found
}

fn in_our_words(command: &str) -> String {
    command
        .replace("cargo run --release --", "kontiki")
        .replace("target/release/kontiki", "kontiki")
}

fn is_for_ci(command: &str) -> bool {
    ["cargo ", "git ", "cd ", "bash ", "apt-get ", "pip "]
        .iter()
        .any(|start| command.starts_with(start))
}

fn start(context: &Context, arguments: &str, example: &Example) -> Result<Cluster> {
    let log = fresh_log(context)?;
    let up = Program::new(&context.binary)
        .args(["up"])
        .args(arguments.split_whitespace().filter(|word| *word != "&"))
        .in_directory(&context.scratch)
        .spawn_logged(&log)?;
    let cluster =
        Cluster::await_ready(context, up, &log).context("README's own ports must be free")?;
    let said = std::fs::read_to_string(log.with_extension("out"))?;
    ensure!(is_as_written(&said, &example.output), "up printed\n{said}\nnot\n{}", example.output);
    Ok(cluster)
}

fn shell(context: &Context, command: &str) -> Result<String> {
    let own = context.binary.parent().context("the binary is in a folder")?;
    let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap_or_default());
    let finished = Program::new("sh")
        .args(["-c", command])
        .env("PATH", path)
        // redis-cli then writes as it does for a reader at a terminal.
        .env("FAKETTY", "1")
        .in_directory(&context.scratch)
        .finish_within(COMMAND_MAX)?;
    if !finished.success {
        bail!(
            "README's `{command}` fails ({:?}):\n{}{}",
            finished.code,
            finished.stdout,
            finished.stderr
        );
    }
    Ok(finished.stdout)
}

/// Whether `said` is `written`, with anything where `...` stands, line by line; runs of spaces
/// count as one, and a line of nothing but `...` stands for any number of lines.
fn is_as_written(said: &str, written: &str) -> bool {
    let lines = |text: &str| -> Vec<String> {
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        words.filter(|line| !line.is_empty()).collect()
    };
    lines_match(&lines(said), &lines(written))
}

fn lines_match(said: &[String], written: &[String]) -> bool {
    match written.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=said.len()).any(|skipped| lines_match(&said[skipped..], rest))
        }
        Some((first, rest)) => said
            .split_first()
            .is_some_and(|(line, others)| line_matches(line, first) && lines_match(others, rest)),
    }
}

fn line_matches(said: &str, written: &str) -> bool {
    let parts: Vec<&str> = written.split("...").collect();
    let Some((first, rest)) = parts.split_first() else { return false };
    let Some(mut said) = said.strip_prefix(first) else { return false };
    let Some((last, middle)) = rest.split_last() else { return said.is_empty() };
    for part in middle {
        match said.split_once(part) {
            Some((_, after)) => said = after,
            None => return false,
        }
    }
    said.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_found_with_their_output() {
        let text = "```console\n$ cargo run --release -- up   # starts\nready\n$ redis-cli GET k\n\"v\"\n```\n```sh\n$ no\n```";
        let found = examples(text);
        assert_eq!(found.len(), 2);
        assert_eq!(in_our_words(&found[0].command), "kontiki up");
        assert_eq!(found[1].output, "\"v\"\n");
    }

    #[test]
    fn dots_stand_for_anything() {
        assert!(is_as_written(
            "node 1  pid 77 resp 127.0.0.1:7001\nready\n",
            "node 1 pid ... resp ...:7001\nready"
        ));
        assert!(is_as_written("a\nb\nc\n", "a\n...\nc"));
        assert!(is_as_written("a\n", "...\na\n..."));
        assert!(!is_as_written("a\nb\n", "a"));
        assert!(!is_as_written("node 2", "node 1 ..."));
    }
}
