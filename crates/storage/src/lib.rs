//! The shared log, the state engines and snapshot files of a Kontiki node
pub mod disk;
pub mod engine;
pub mod log;

/// A random number from the operating system.
///
/// # Errors
/// When the operating system has none to give.
pub fn random_u64() -> std::io::Result<u64> {
    getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))
}
