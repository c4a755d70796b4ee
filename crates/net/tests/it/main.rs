//! Real sockets on loopback: peers, the secured server, TLS.

mod cluster;
mod garbage;
mod peers;
mod security;
mod services;
mod tls;
