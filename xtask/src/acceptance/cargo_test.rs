//! Items that are tests of cargo: a full run makes them in release, CI runs them with all tests and
//! only looks here that they are among them.

use anyhow::{Result, ensure};
use std::time::Duration;

use crate::acceptance::{Context, Figures};
use crate::program::Program;

/// A test by its package and name.
pub(super) struct CargoTest {
    pub(super) package: &'static str,
    pub(super) name: &'static str,
}

const LIMIT: Duration = Duration::from_secs(18 * 60);

impl CargoTest {
    pub(super) fn run(&self, context: &Context) -> Result<Figures> {
        self.run_with(context, &[])
    }

    /// As [`CargoTest::run`], with settings in the environment.
    pub(super) fn run_with(
        &self,
        context: &Context,
        environment: &[(&str, &str)],
    ) -> Result<Figures> {
        let profile: &[&str] = if context.small { &[] } else { &["--release"] };
        let listing: &[&str] = if context.small { &["--list"] } else { &[] };
        let mut cargo = Program::new("cargo");
        for (key, value) in environment {
            cargo = cargo.env(key, value);
        }
        let said = cargo
            .args(["test", "--locked", "-p", self.package])
            .args(profile)
            .args([self.name, "--"])
            .args(listing)
            .in_directory(&context.root)
            .output_within(LIMIT)?;
        let found = if context.small { listed(&said) } else { passed(&said) };
        ensure!(found > 0, "{} has no test {}", self.package, self.name);
        let how = if context.small { "listed; cargo test runs them" } else { "run in release" };
        Ok(Figures::from_iter([
            ("tests".to_string(), found.into()),
            ("how".to_string(), how.into()),
        ]))
    }
}

pub(super) fn listed(said: &str) -> usize {
    said.lines().filter(|line| line.ends_with(": test")).count()
}

pub(super) fn passed(said: &str) -> usize {
    let results = said.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    let counts = results.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    counts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted() {
        assert_eq!(listed("a::power_loss: test\nb: benchmark\n\n1 test, 1 benchmark\n"), 1);
        let said = "test result: ok. 2 passed; 0 failed\ntest result: ok. 1 passed; 0 failed\n";
        assert_eq!(passed(said), 3);
    }
}
