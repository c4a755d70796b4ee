//! What users run, as processes.

mod mr;
