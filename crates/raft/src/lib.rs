//! The Raft consensus core of Kontiki: events in, outputs out, no I/O, clock, thread or ambient randomness
