//! Ports of the loopback interface that are free.

use std::net::TcpListener;

use anyhow::Context;

/// Ports are taken below those that the system gives to outgoing connections: while a process is down, its port is
/// free, and must not be caught by a peer that tries to reconnect.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many ports are tried for each one that is needed.
const TRIES_MAX: u32 = 200;

/// Finds free ports, none twice; each is held until this is dropped.
#[derive(Debug, Default)]
pub struct Ports {
    held: Vec<TcpListener>,
}

impl Ports {
    /// The next one.
    ///
    /// # Errors
    /// When none is free.
    pub fn take(&mut self) -> anyhow::Result<u16> {
        // Not out of a run's seed: two runs of one seed may run side by side.
        let mut tried = (0..TRIES_MAX).map(|_| fastrand::u16(PORTS));
        let free = tried.find_map(|port| Some((port, TcpListener::bind(("127.0.0.1", port)).ok()?)));
        let (port, listener) = free.context("there is no free port on the loopback interface")?;
        self.held.push(listener);
        Ok(port)
    }

    /// The next one, as an endpoint of Zenoh.
    ///
    /// # Errors
    /// As [`Ports::take`].
    pub fn endpoint(&mut self) -> anyhow::Result<String> {
        Ok(format!("tcp/127.0.0.1:{}", self.take()?))
    }
}
