//! The one gate: what has to hold before anything lands, and the rewriting twin that mends it.

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::program::Program;
use crate::tree::Tree;
use crate::{dependencies, house, tables};

/// One part of the gate.
struct Step {
    name: &'static str,
    run: fn(&Path) -> Result<bool>,
    /// What to do when it fails.
    mend: &'static str,
}

/// The whole gate, the quick parts first.
const STEPS: [Step; 8] = [
    Step { name: "format", run: format, mend: "cargo xtask fix" },
    Step { name: "house", run: keeps_house_rules, mend: "each finding has its hint above" },
    Step { name: "tables", run: |root| tables::run(root, true), mend: "cargo xtask tables" },
    Step {
        name: "dependencies",
        run: |root| dependencies::run(root, true),
        mend: "cargo xtask deps",
    },
    Step { name: "lints", run: lints, mend: "cargo xtask fix, and by hand what is left" },
    Step { name: "docs", run: docs, mend: "mend the doc comments that rustdoc names above" },
    Step { name: "package", run: package, mend: "make both crates complete for publication" },
    Step { name: "tests", run: tests, mend: "cargo test -p CRATE TEST shows one of them alone" },
];

/// `cargo xtask check`: runs the chosen steps to the end and says which failed.
pub fn check(root: &Path, arguments: &[String]) -> Result<bool> {
    let chosen = choose(arguments)?;
    let mut failed = Vec::new();
    for step in chosen {
        println!("check: {}", step.name);
        let started = Instant::now();
        if !(step.run)(root)? {
            println!("check: {} FAILED\n  hint: {}", step.name, step.mend);
            failed.push(step.name);
        }
        println!("check: {} took {:.1} s", step.name, started.elapsed().as_secs_f32());
    }
    match failed.as_slice() {
        [] => println!("check: all is well"),
        names => println!("check: failed: {}", names.join(", ")),
    }
    Ok(failed.is_empty())
}

/// `cargo xtask fix`: everything that can be mended without thinking.
pub fn fix(root: &Path) -> Result<bool> {
    let clippy =
        ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
    let mended = cargo(root).args(clippy).passes()?;
    let formatted = cargo(root).args(["fmt", "--all"]).passes()?;
    let listed = dependencies::run(root, false)?;
    let rendered = tables::run(root, false)?;
    Ok(mended && formatted && listed && rendered)
}

fn choose(arguments: &[String]) -> Result<Vec<&'static Step>> {
    let mut chosen: Vec<&Step> = STEPS.iter().collect();
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let names: Vec<&str> =
            rest.next().map(|list| list.split(',').collect()).unwrap_or_default();
        if let Some(unknown) =
            names.iter().find(|name| STEPS.iter().all(|step| step.name != **name))
        {
            let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            bail!("the gate has no step `{unknown}`\nhint: its steps are {}", known.join(", "));
        }
        match flag.as_str() {
            "--only" if !names.is_empty() => chosen.retain(|step| names.contains(&step.name)),
            "--skip" if !names.is_empty() => chosen.retain(|step| !names.contains(&step.name)),
            _ => bail!("unknown argument `{flag}`\nhint: --only STEP[,STEP] or --skip STEP[,STEP]"),
        }
    }
    Ok(chosen)
}

fn cargo(root: &Path) -> Program {
    Program::new("cargo").in_directory(root)
}

fn format(root: &Path) -> Result<bool> {
    cargo(root).args(["fmt", "--all", "--check"]).passes()
}

fn lints(root: &Path) -> Result<bool> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--"];
    cargo(root).args(clippy).args(["-D", "warnings"]).passes()
}

/// Private items are left out: what they say is for readers of the source.
fn docs(root: &Path) -> Result<bool> {
    let doc = ["doc", "--workspace", "--no-deps", "--locked", "--quiet"];
    cargo(root).args(doc).env("RUSTDOCFLAGS", "-D warnings").passes()
}

fn tests(root: &Path) -> Result<bool> {
    cargo(root).args(["test", "--workspace", "--locked", "--quiet"]).passes()
}

/// The two crates that others may embed are complete without the rest of the tree.
fn package(root: &Path) -> Result<bool> {
    forget_unpacked_crates()?;
    let crates = ["package", "-p", "kontiki-types", "-p", "kontiki-raft"];
    cargo(root).args(crates).args(["--locked", "--allow-dirty", "--quiet"]).passes()
}

/// Cargo keeps what it has unpacked of a packaged crate by its version, which for ours means an
/// earlier state of the tree.
fn forget_unpacked_crates() -> Result<()> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    });
    let Some(home) = home else { return Ok(()) };
    for kept in ["registry/src", "registry/cache"] {
        for registry in entries(&home.join(kept)) {
            for unpacked in entries(&registry) {
                let name = unpacked.file_name().unwrap_or_default().to_string_lossy();
                if !name.starts_with("kontiki-") {
                    continue;
                }
                if unpacked.is_dir() {
                    std::fs::remove_dir_all(&unpacked)?;
                } else {
                    std::fs::remove_file(&unpacked)?;
                }
            }
        }
    }
    Ok(())
}

/// What is in a folder; nothing if there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(folder).into_iter().flatten();
    read.flatten().map(|entry| entry.path()).collect()
}

fn keeps_house_rules(root: &Path) -> Result<bool> {
    let findings = house::inspect(&Tree::read(root)?);
    for finding in &findings {
        println!("{finding}");
    }
    Ok(findings.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(arguments: &[&str]) -> Vec<&'static str> {
        let arguments: Vec<String> = arguments.iter().map(|word| word.to_string()).collect();
        choose(&arguments).expect("known steps").into_iter().map(|step| step.name).collect()
    }

    #[test]
    fn steps_are_chosen() {
        assert_eq!(names(&[]).len(), STEPS.len());
        assert_eq!(names(&["--only", "house,format"]), ["format", "house"]);
        assert!(!names(&["--skip", "tests"]).contains(&"tests"));
    }

    #[test]
    fn unknown_steps_are_refused() {
        for arguments in [["--only", "polish"], ["--also", "format"]] {
            assert!(choose(&arguments.map(String::from)).is_err());
        }
    }
}
