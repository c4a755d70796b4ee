//! A running Kontiki node: threads, sockets, timers and disks around the pure replica
