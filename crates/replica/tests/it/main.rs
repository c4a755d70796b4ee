//! Several nodes' cores that exchange frames in memory, with state machines behind them.

mod bytes_of;
mod news;
mod routing;
mod world;
