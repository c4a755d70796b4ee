//! get, set, append and del: the native client on the command line.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use kontiki_client::{ClusterStatus, Error, Options, blocking::Client};

use crate::UnknownOutcome;
use crate::cli::{AddressArgs, KeyArgs, KeyValueArgs};

/// How to reach the cluster behind the address.
pub(crate) fn options(address: &AddressArgs) -> Options {
    let seconds = address.timeout.clamp(0.001, 86_400.0);
    let options = Options { timeout: Duration::from_secs_f64(seconds), ..Options::default() };
    match &address.password {
        Some(password) => options.password(password.as_bytes()),
        None => options,
    }
}

/// Connects to the cluster behind the address.
pub(crate) fn connect(address: &AddressArgs) -> Result<Client> {
    Client::connect([&address.addr], options(address))
        .map_err(told)
        .with_context(|| out_of_reach(address))
}

/// What the node at the address, and no other, knows of the cluster; also without a majority.
pub(crate) fn cluster_status(address: &AddressArgs) -> Result<ClusterStatus> {
    operators(address)?.cluster_status().map_err(told).with_context(|| out_of_reach(address))
}

/// A client of the node at the address, and no other.
pub(crate) fn operators(address: &AddressArgs) -> Result<Client> {
    Client::for_operators([&address.addr], options(address)).map_err(told)
}

fn out_of_reach(address: &AddressArgs) -> String {
    format!(
        "cannot reach a cluster at {}\nhint: give the gRPC address of a node by --addr or \
         KONTIKI_ADDR; `kontiki up` prints them",
        address.addr
    )
}

/// An error of the client, with the exit code that fits.
pub(crate) fn told(error: Error) -> anyhow::Error {
    match &error {
        Error::Unknown { .. } => UnknownOutcome(error.to_string()).into(),
        _ => error.into(),
    }
}

pub(crate) fn get(args: &KeyArgs) -> Result<()> {
    let found = connect(&args.address)?.get(&args.key).map_err(told)?;
    let found = found.with_context(|| format!("the key {:?} does not exist", args.key))?;
    let mut out = std::io::stdout().lock();
    out.write_all(&found.value)?;
    out.write_all(b"\n")?;
    Ok(())
}

pub(crate) fn set(args: &KeyValueArgs) -> Result<()> {
    let value = value(&args.value)?;
    connect(&args.address)?.set(&args.key, value).map_err(told)?;
    println!("OK");
    Ok(())
}

pub(crate) fn append(args: &KeyValueArgs) -> Result<()> {
    let value = value(&args.value)?;
    let length = connect(&args.address)?.append(&args.key, value).map_err(told)?;
    println!("{length}");
    Ok(())
}

pub(crate) fn del(args: &KeyArgs) -> Result<()> {
    let found = connect(&args.address)?.delete(&args.key).map_err(told)?;
    println!("{}", u8::from(found));
    Ok(())
}

fn value(given: &str) -> Result<Vec<u8>> {
    if given != "-" {
        return Ok(given.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read the value from stdin")?;
    Ok(bytes)
}
