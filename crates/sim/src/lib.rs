//! Deterministic simulation of Kontiki clusters
