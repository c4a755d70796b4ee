//! The acceptance runs: what an issue asks to see, tried on the released binary.
//!
//! Each item of the issue's list is a module that drives real processes and stock clients from
//! outside, in bounded time, and returns figures. `--small` is the form that CI runs: the same
//! items with less of everything.

mod cargo_test;
mod client;
mod cluster;
mod cluster_client;
mod issue2;
mod issue3;
mod issue4;
mod issue5;
mod issue6;
mod load;
mod machine;
mod metrics;
mod process_test;
mod report;
mod wait;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::program::{self, Program};
use report::{Entry, Outcome, Report};

/// What an item measured, by name.
type Figures = Map<String, Value>;

/// One item of an issue's list.
struct Item {
    /// As the issue numbers it.
    name: &'static str,
    title: &'static str,
    /// After this the item has failed, and what it started is killed.
    limit: Duration,
    run: fn(&Context) -> Result<Figures>,
}

/// What an item gets to work with.
#[derive(Clone)]
struct Context {
    root: PathBuf,
    /// The released `kontiki`.
    binary: PathBuf,
    /// A folder of its own on the project's disk, empty at the start.
    scratch: PathBuf,
    small: bool,
}

impl Context {
    /// One amount for a full run, another for a small one.
    fn amount<T>(&self, full: T, small: T) -> T {
        if self.small { small } else { full }
    }
}

/// The reason why an item could not be tried here.
#[derive(Debug)]
struct Skip(String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Skips the item unless these programs are installed.
fn needs(programs: &[&str]) -> Result<()> {
    let missing: Vec<&str> =
        programs.iter().copied().filter(|name| !program::is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(anyhow!(Skip(format!(
        "not installed: {} (bash .ci/run installs them)",
        missing.join(", ")
    ))))
}

/// Appends bytes that do not compress, other ones for each seed, until there are `length` or up to
/// seven more.
fn fill_with_noise(value: &mut Vec<u8>, length: usize, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
}

/// `cargo xtask acceptance ISSUE [--item ITEM]... [--small]`.
pub fn run(root: &Path, arguments: &[String]) -> Result<bool> {
    let wanted = Wanted::parse(arguments)?;
    let target = crate::target_directory(root);
    let folder = target.join("acceptance");
    std::fs::create_dir_all(&folder)?;
    program::list_groups_in(folder.join("running"));
    if !Program::new("cargo")
        .args(["build", "--release", "--locked"])
        .in_directory(root)
        .passes()?
    {
        bail!("the binary does not build");
    }
    let file = match wanted.small {
        true => folder.join(format!("issue-{}-small.json", wanted.issue)),
        false => root.join(format!("bench/results/issue-{}.json", wanted.issue)),
    };
    let mut report = Report::open(root, &file, &wanted.issue, wanted.small)?;
    let mut well = true;
    for item in &wanted.items {
        let context = Context {
            root: root.to_path_buf(),
            binary: target.join("release/kontiki"),
            scratch: folder.join(format!("item-{}", item.name)),
            small: wanted.small,
        };
        println!("acceptance: {} {}", item.name, item.title);
        let entry = try_item(item, context, report.commit())?;
        println!("{entry}");
        well &= entry.outcome != Outcome::Failed;
        report.put(entry);
        report.write(&file)?;
    }
    println!("acceptance: {}", file.display());
    Ok(well)
}

/// Runs one item within its time, on a thread that is given up if the time is over.
fn try_item(item: &Item, context: Context, commit: &str) -> Result<Entry> {
    let scratch = context.scratch.clone();
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    }
    std::fs::create_dir_all(&scratch)?;
    let started = Instant::now();
    let (sender, receiver) = channel();
    let work = item.run;
    std::thread::spawn(move || sender.send(work(&context)));
    let result = match receiver.recv_timeout(item.limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => {
            program::end_all_groups();
            Err(anyhow!("took longer than {} s", item.limit.as_secs()))
        }
        Err(RecvTimeoutError::Disconnected) => Err(anyhow!("panicked, see above")),
    };
    let (outcome, figures, reason) = match result {
        Ok(figures) => (Outcome::Passed, figures, None),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(skip) if std::env::var_os("CI").is_none() => {
                (Outcome::Skipped, Figures::new(), Some(skip.to_string()))
            }
            _ => (Outcome::Failed, Figures::new(), Some(format!("{error:#}"))),
        },
    };
    // What a failed item left behind is what one needs to understand it.
    if outcome == Outcome::Passed {
        let _ = std::fs::remove_dir_all(&scratch);
    }
    Ok(Entry {
        item: item.name.to_string(),
        title: item.title.to_string(),
        outcome,
        seconds: (started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        commit: commit.to_string(),
        date: machine::date()?,
        figures,
        reason,
    })
}

/// What the command line asks for.
struct Wanted {
    issue: String,
    items: Vec<&'static Item>,
    small: bool,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Wanted> {
        let Some((issue, rest)) = arguments.split_first() else {
            bail!("which issue?\nhint: cargo xtask acceptance 2");
        };
        let all: &'static [Item] = match issue.as_str() {
            "2" => &issue2::ITEMS,
            "3" => &issue3::ITEMS,
            "4" => &issue4::ITEMS,
            "5" => &issue5::ITEMS,
            "6" => &issue6::ITEMS,
            other => bail!("no acceptance run for issue `{other}`\nhint: there are 2 to 6"),
        };
        let mut names = Vec::new();
        let mut small = false;
        let mut rest = rest.iter();
        while let Some(argument) = rest.next() {
            match (argument.as_str(), rest.as_slice().first()) {
                ("--small", _) => small = true,
                ("--item", Some(name)) => {
                    names.push(name.clone());
                    rest.next();
                }
                _ => bail!("unknown argument `{argument}`\nhint: --item ITEM or --small"),
            }
        }
        let items = choose(all, &names)?;
        Ok(Wanted { issue: issue.clone(), items, small })
    }
}

/// The items with these names (`2` means 2a, 2b, …); all if there are none.
fn choose(all: &'static [Item], names: &[String]) -> Result<Vec<&'static Item>> {
    let is_wanted = |item: &Item, name: &str| {
        item.name == name || item.name.trim_end_matches(|c: char| c.is_ascii_lowercase()) == name
    };
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|item| is_wanted(item, name))) {
        let known: Vec<&str> = all.iter().map(|item| item.name).collect();
        bail!("no item `{unknown}`\nhint: the items are {}", known.join(", "));
    }
    Ok(all
        .iter()
        .filter(|item| names.is_empty() || names.iter().any(|name| is_wanted(item, name)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Wanted> {
        Wanted::parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn items_are_chosen_by_number() {
        let names = |words: &[&str]| -> Vec<&str> {
            parse(words).expect("known").items.iter().map(|item| item.name).collect()
        };
        assert_eq!(names(&["2", "--item", "5"]), ["5"]);
        assert_eq!(names(&["2", "--item", "2"]), ["2a", "2b", "2c", "2d"]);
        assert_eq!(names(&["2", "--small"]).len(), issue2::ITEMS.len());
    }

    #[test]
    fn unknown_items_and_issues_are_refused() {
        assert!(parse(&["2", "--item", "99"]).is_err());
        assert!(parse(&["99"]).is_err());
        assert!(parse(&["2", "--big"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
