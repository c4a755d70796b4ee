//! The shared log, the state engines and snapshot files of a Kontiki node
