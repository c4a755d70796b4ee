//! The client against a store that loses answers, has no leader, hangs and lies low.

mod fake;
mod lock;
mod losses;
mod ordinary;
mod sharded;
