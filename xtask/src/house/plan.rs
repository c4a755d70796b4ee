//! The plan of the house: which crate stands on which floor, and which of them are pure.

/// Where a crate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Floor {
    /// It may depend on what stands on lower floors, and on nothing else of the house.
    Number(u8),
    /// Beside the house: it may look at every floor, and only the binary may depend on it.
    Beside,
}

/// One crate of the house.
pub struct Place {
    /// The folder below `crates/`; the package is named `kontiki-` and this.
    pub folder: &'static str,
    pub floor: Floor,
    /// Whether it is a core without I/O, clock, thread and ambient randomness.
    pub pure: bool,
}

const fn core(folder: &'static str, floor: u8) -> Place {
    Place { folder, floor: Floor::Number(floor), pure: true }
}

const fn driver(folder: &'static str, floor: u8) -> Place {
    Place { folder, floor: Floor::Number(floor), pure: false }
}

const fn beside(folder: &'static str) -> Place {
    Place { folder, floor: Floor::Beside, pure: false }
}

/// The whole house, also the floors that are not built yet, from bottom to top.
pub const HOUSE: [Place; 15] = [
    core("types", 0),
    core("raft", 1),
    core("kv", 1),
    core("shard", 1),
    core("schedule", 1),
    core("resp", 1),
    core("replica", 2),
    driver("storage", 2),
    driver("net", 2),
    driver("node", 3),
    driver("client", 3),
    driver("mapreduce", 4),
    driver(BINARY, 5),
    beside("sim"),
    beside("bench"),
];

/// The folder and the name of the binary's package, the one without a prefix.
pub const BINARY: &str = "kontiki";

/// What a core may use from outside the house: none of these does I/O, reads a clock or draws
/// randomness. An addition is a decision, made here.
pub const PURE_DEPENDENCIES: [&str; 3] = ["bytes", "thiserror", "crc32c"];

/// The place of the crate in `folder` (without `crates/`).
pub fn place(folder: &str) -> Option<&'static Place> {
    HOUSE.iter().find(|place| place.folder == folder)
}

/// The place of the package called `name`.
pub fn place_of_package(name: &str) -> Option<&'static Place> {
    HOUSE.iter().find(|place| package_name(place.folder) == name)
}

/// The name of the package in `folder`.
pub fn package_name(folder: &str) -> String {
    if folder == BINARY { BINARY.to_string() } else { format!("kontiki-{folder}") }
}
