//! Cores through their public interface: several of them exchange frames in memory, with state
//! machines behind them.

mod bytes_of;
mod news;
mod quiet;
mod retire;
mod routing;
mod world;
