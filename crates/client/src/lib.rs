//! The native Kontiki client: routing, retries and exactly-once sessions
