//! Item 5: what the course's suite of persistence demands: in the simulator, scenario by scenario,
//! and of real processes that are killed with their disks or without.

use anyhow::{Result, ensure};
use std::time::Duration;

use super::faults::{await_check, check_tolerance, readmit, small_cluster, write};
use crate::acceptance::client::Reply;
use crate::acceptance::{Context, Figures, wait};
use crate::program::Program;

/// The scenarios of the suite.
const SCENARIOS: usize = 15;
/// For how long nothing must be answered where there is no majority that remembers.
const SILENCE: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(10 * 60);

pub(super) fn run(context: &Context) -> Result<Figures> {
    let mut figures = Figures::new();
    figures.insert("scenarios".to_string(), scenarios(context)?.into());
    figures.insert("processes".to_string(), processes(context)?.into());
    Ok(figures)
}

/// Each scenario of the simulator, with several seeds.
fn scenarios(context: &Context) -> Result<usize> {
    let kontiki = || Program::new(&context.binary).in_directory(&context.scratch);
    let listed = kontiki().args(["sim", "--list"]).output()?;
    let named: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("lab-diskv-"))
        .collect();
    ensure!(named.len() == SCENARIOS, "{} scenarios instead of {SCENARIOS}", named.len());
    let seeds = context.amount("10", "1");
    for name in &named {
        kontiki().args(["sim", "--scenario", name, "--seeds", seeds]).output_within(LIMIT)?;
    }
    Ok(named.len())
}

/// Real nodes: all killed and started again; each in turn; each in turn with its disk; and a
/// majority without memory answers nothing.
fn processes(context: &Context) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let mut cluster = small_cluster(context)?;
    write(&mut cluster.client(0)?, 1)?;
    // Test5BasicPersistence, Test5OneRestart.
    for node in 0..3 {
        cluster.kill(node)?;
    }
    for node in 0..3 {
        cluster.restart(context, node)?;
    }
    await_check(&cluster, 2, 1)?;
    done.push("all killed and started again".to_string());
    let mut round = 1;
    for node in 0..context.amount(3, 1) {
        cluster.kill(node)?;
        let other = (node + 1) % 3;
        wait::until("writes of the other two", LIMIT, || {
            Ok(cluster.client(other).and_then(|mut client| write(&mut client, round + 1)).ok())
        })?;
        round += 1;
        cluster.restart(context, node)?;
        await_check(&cluster, node, round)?;
    }
    done.push("each killed in turn".to_string());
    // Test5OneLostDisk, and what the last tests of the suite ask of who has come back.
    for node in 0..context.amount(3, 1) {
        cluster.kill(node)?;
        readmit(context, &mut cluster, node, (node + 1) % 3)?;
        check_tolerance(context, &mut cluster, node, round)?;
        round += 1;
    }
    done.push("each killed in turn with its disk".to_string());
    // Test5RejoinMix1: one that remembers, two with lost disks.
    for node in [1, 2] {
        cluster.kill(node)?;
        let directory = cluster.nodes()[node].directory()?;
        std::fs::remove_dir_all(&directory)?;
        std::fs::create_dir_all(&directory)?;
    }
    for node in [1, 2] {
        cluster.rejoin(context, node, 0)?;
    }
    wait::let_pass(SILENCE);
    for node in 0..3 {
        let said = cluster.client(node)?.call(&["GET", "key:1"])?;
        ensure!(matches!(said, Reply::Error(_)), "node {} answered {said:?}", node + 1);
    }
    done.push("two of three lost: silent".to_string());
    Ok(done)
}
