//! Which seeds a simulation runs with, and how a failing one is run again.

use std::env;

/// Runs `scenario` once per seed, from 1 to `default`, or to what the environment variable
/// `KONTIKI_SEEDS` says; or only with the seed that `KONTIKI_SEED` names. Each seed is printed before its run, and a run that panics ends
/// with the line that repeats it.
pub fn each_seed(name: &str, default: u64, mut scenario: impl FnMut(u64)) {
    let only = env::var("KONTIKI_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or_else(|| 1..=count("KONTIKI_SEEDS", default), |seed| seed..=seed);
    for seed in seeds {
        println!("{name}: seed {seed}");
        let _replay = Replay { name, seed };
        scenario(seed);
    }
}

/// The number in the environment variable `name`, or `default`.
pub fn count(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

struct Replay<'a> {
    name: &'a str,
    seed: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { name, seed } = self;
            println!("replay: KONTIKI_SEED={seed} cargo test -p kontiki-sim --test it {name}");
        }
    }
}
