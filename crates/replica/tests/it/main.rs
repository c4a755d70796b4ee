//! Tests of a node's core through its public interface.

mod quiet;
