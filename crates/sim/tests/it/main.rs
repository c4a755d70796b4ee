//! Simulations that run as tests. `KONTIKI_SEED=N` runs one seed only.

mod chaos;
mod differences;
mod farm;
mod labs;
mod linearizability;
mod power_loss;
mod store;
mod swarm;
mod timeline;
