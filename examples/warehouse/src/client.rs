//! The other end of the order desk: places orders and reads answers.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use warehouse::Order;

use crate::wire::Answer;

/// A connection to the order desk.
pub(crate) struct Client {
    answers: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reader, orders) = stream.into_split();
        Ok(Self { answers: BufReader::new(reader).lines(), orders })
    }

    pub(crate) async fn place(&mut self, order: &Order) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        self.orders.write_all(&line).await
    }

    /// The next answer; an error when the desk has gone. Cancel-safe.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let line = self.answers.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_str(&line)?)
    }
}
