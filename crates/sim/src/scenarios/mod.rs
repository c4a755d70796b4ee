//! Stories that a cluster is put through, with what must hold in the end.

mod load;
mod power_loss;

pub use load::LOST;
pub use load::Load;
pub use power_loss::{Forgets, PowerLoss, Survived};
