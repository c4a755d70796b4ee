//! Noise against the sockets of a node.
