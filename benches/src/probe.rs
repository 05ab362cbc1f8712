//! What the wire alone takes: a packet to another process and back, on the same sessions that the nodes use.
//!
//! The echo answers on the network's own thread; the arrival is timed there, too. So no actor and no scheduling
//! of a waiting thread is in the time, other than Zenoh's own.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use accompanist::NodeId;
use accompanist::contract::{Inbox, Transport, Wire};
use accompanist::transport::ZenohTransport;
use anyhow::{Result, bail};

/// Bytes of each packet.
pub(crate) const FRAME_BYTES: usize = 256;
/// First byte of the probe's packets; those of nodes begin with their version.
const MARK: u8 = 0xEC;
const PROBE: &str = "probe";
const ANSWER_WAIT: Duration = Duration::from_millis(500);
/// How often a lost packet is sent again: the connection may not be up yet.
const TRIES: u32 = 40;

fn echo_name(role: &str) -> Result<NodeId> {
    Ok(NodeId::new(format!("echo-{role}"))?)
}

/// Sends back what the probe sends.
struct Echo {
    wire: OnceLock<Arc<dyn Wire>>,
    probe: NodeId,
}

impl Inbox for Echo {
    fn receive(&self, _: &NodeId, packet: &[u8]) {
        if let (Some(wire), Some(&MARK)) = (self.wire.get(), packet.first()) {
            wire.send(&self.probe, packet.to_vec());
        }
    }
}

/// Answers the probe in this process, for as long as the process lives.
pub(crate) async fn answer(transport: &ZenohTransport, role: &str) -> Result<()> {
    let echo = Arc::new(Echo { wire: OnceLock::new(), probe: NodeId::new(PROBE)? });
    let wire = transport.attach(echo_name(role)?, echo.clone()).await?;
    // The two keep each other alive: that is meant.
    let _ = echo.wire.set(wire);
    Ok(())
}

struct Arrivals(Sender<(Instant, Vec<u8>)>);

impl Inbox for Arrivals {
    fn receive(&self, _: &NodeId, packet: &[u8]) {
        if packet.first() == Some(&MARK) {
            let _ = self.0.send((Instant::now(), packet.to_vec())); // Nobody may be waiting any more.
        }
    }
}

/// The measuring end.
pub(crate) struct Probe {
    wire: Arc<dyn Wire>,
    arrivals: Receiver<(Instant, Vec<u8>)>,
    echoes: Vec<NodeId>,
    sent: usize,
}

impl Probe {
    /// Measures to the echoes of `roles`, in turn.
    pub(crate) async fn new(transport: &ZenohTransport, roles: &[&str]) -> Result<Self> {
        let (sender, arrivals) = mpsc::channel();
        let wire = transport.attach(NodeId::new(PROBE)?, Arc::new(Arrivals(sender))).await?;
        let echoes = roles.iter().map(|role| echo_name(role)).collect::<Result<_>>()?;
        Ok(Self { wire, arrivals, echoes, sent: 0 })
    }

    /// Half of a round trip. Blocks.
    pub(crate) fn frame(&mut self) -> Result<Duration> {
        for _ in 0..TRIES {
            let Some(echo) = self.echoes.get(self.sent % self.echoes.len().max(1)) else { break };
            self.sent += 1;
            let mut packet = vec![0; FRAME_BYTES];
            let number = self.sent.to_be_bytes();
            for (byte, from) in packet.iter_mut().zip([MARK].into_iter().chain(number)) {
                *byte = from;
            }
            let (begun, sent) = (Instant::now(), packet.clone());
            self.wire.send(echo, packet);
            while let Ok((arrived, answer)) = self.arrivals.recv_timeout(ANSWER_WAIT) {
                if answer == sent {
                    return Ok(arrived.duration_since(begun) / 2);
                }
            }
        }
        bail!("no answer to {TRIES} packets: is the loopback interface up?")
    }
}
