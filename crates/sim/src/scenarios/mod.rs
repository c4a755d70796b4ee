//! Stories that a cluster is put through, with what must hold in the end.

mod load;
mod power_loss;
mod registers;
mod trouble;

pub use load::{LOST, Load};
pub use power_loss::{Forgets, PowerLoss, Survived};
pub use registers::Registers;
pub use trouble::Trouble;
