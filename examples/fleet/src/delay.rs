//! A slow line between two processes: every byte arrives a set time after it was sent, in order.
//!
//! A proxy on the loopback interface, one thread for each end of each direction: a thread's sleep is exact to some tens
//! of microseconds, a timer of tokio to a millisecond. The delay is that of the way, not of the line's speed: as much
//! as one likes may be under way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

/// Pieces that may be under way in one direction; whoever sends more waits.
const PIECES_MAX: usize = 4_096;
/// The largest piece.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// See the module's documentation. When it is dropped it takes no more connections, and those it has end with what they
/// are sent next.
#[derive(Debug)]
pub struct DelayLine {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl DelayLine {
    /// Listens on a free port; what connects there is connected to `to`, with `delay` each way.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start(to: SocketAddr, delay: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("a delay line finds no free port")?;
        let address = listener.local_addr().context("a delay line has no address")?;
        let ended = Arc::new(AtomicBool::new(false));
        let is_over = ended.clone();
        thread::spawn(move || {
            for accepted in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever connects while nobody listens at the other end is disconnected, and tries again.
                if let (Ok(near), Ok(far)) = (accepted, TcpStream::connect(to)) {
                    let _ = connect(&near, &far, delay, &is_over);
                }
            }
        });
        Ok(Self { address, ended })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address); // Wakes the thread that accepts.
    }
}

fn connect(near: &TcpStream, far: &TcpStream, delay: Duration, ended: &Arc<AtomicBool>) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    for (from, to) in [(near, far), (far, near)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        let (pieces, due) = sync_channel::<(Instant, Vec<u8>)>(PIECES_MAX);
        let ended = ended.clone();
        thread::spawn(move || {
            take_in(&mut from, &pieces, delay);
            drop(pieces); // All that was taken in is still handed on.
        });
        thread::spawn(move || {
            for (at, piece) in due {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if ended.load(Ordering::SeqCst) || to.write_all(&piece).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both); // It may be closed already.
        });
    }
    Ok(())
}

fn take_in(from: &mut TcpStream, pieces: &SyncSender<(Instant, Vec<u8>)>, delay: Duration) {
    let mut buffer = vec![0; PIECE_BYTES_MAX];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let piece = buffer.get(..length).unwrap_or_default().to_vec();
        if pieces.send((Instant::now() + delay, piece)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    /// Says back what it hears, once.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut word = [0; 5];
            stream.read_exact(&mut word).expect("a word");
            stream.write_all(&word).expect("it is heard");
        });
        address
    }

    #[test]
    fn bytes_arrive_complete_and_delayed_and_so_does_the_end() {
        let delay = Duration::from_millis(20);
        let line = DelayLine::start(echo(), delay).expect("a line");
        let mut stream = TcpStream::connect(line.address()).expect("a connection");
        let sent = Instant::now();
        stream.write_all(b"hello").expect("it is sent");
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).expect("the word, and then the end");
        assert_eq!(heard, b"hello");
        assert!(sent.elapsed() >= 2 * delay, "a sleep is never shorter than asked for");
    }

    #[test]
    fn an_unreachable_peer_ends_the_connection() {
        let nowhere = TcpListener::bind(("127.0.0.1", 0)).and_then(|held| held.local_addr()).expect("a free port");
        let line = DelayLine::start(nowhere, Duration::ZERO).expect("a line");
        let mut stream = TcpStream::connect(line.address()).expect("a connection");
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}
