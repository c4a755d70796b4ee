//! Benchmarks of Kontiki, side by side with its peers
