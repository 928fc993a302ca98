//! Ports for programs that are told where to listen.

use std::net::TcpListener;

/// A free port. The ports of outgoing connections are above this range, so that it stays free until the program listens.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::random_range(20_000..32_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
