//! Simulations that run as tests. `KONTIKI_SEED=N` runs one seed only.

mod power_loss;
