//! How fast bare cores are simulated: five nodes, without work and with a proposal each 100 ms, all
//! properties checked. Prints cluster-hours per second of wall-clock time, on one thread.
//!
//! `cargo run --release -p kontiki-sim --example raft_speed`

use std::time::Instant;

use kontiki_sim::raft_cluster::speed;

fn main() {
    for (name, load) in [("idle", false), ("a proposal each 100 ms", true)] {
        let hours = if load { 10 } else { 50 };
        let begun = Instant::now();
        match speed::run(1, hours, load) {
            Ok(commands) => {
                let seconds = begun.elapsed().as_secs_f64();
                let rate = f64::from(hours) / seconds;
                println!("{name}: {rate:.1} cluster-hours per second, {commands} commands");
            }
            Err(violation) => println!("{name}: {violation}"),
        }
    }
}
