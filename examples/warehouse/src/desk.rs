//! The order desk: where the warehouse's process takes orders, over a loopback port.
//!
//! An order's id is its idempotency key: whoever lost the connection sends the order again and gets the answers
//! of the one session there is.

use std::sync::Arc;
use std::time::Duration;

use accompanist::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use warehouse::{Order, Outcome, Shipment, Warehouse};

use crate::wire::{Answer, LINE_BYTES_MAX};

/// Orders of one connection that are under way; more wait in the socket.
const ORDERS_IN_FLIGHT_MAX: usize = 4_096;
/// Answers that wait for a slow reader; more make their orders wait.
const ANSWERS_WAITING_MAX: usize = 1_024;
/// The pause before an order that could not be started is tried again.
const START_RETRY_DELAY: Duration = Duration::from_millis(200);

/// A choreography that the desk can start.
pub(crate) trait OrderSaga:
    Choreography<Input = At<Warehouse, Order>, Output = At<Warehouse, Shipment>> + Copy
{
}
impl<C> OrderSaga for C where C: Choreography<Input = At<Warehouse, Order>, Output = At<Warehouse, Shipment>> + Copy {}

/// Takes orders until the process ends.
pub(crate) async fn serve<C: OrderSaga>(listener: TcpListener, node: Node, saga: C) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // An answer is one small write: it would wait 40 ms for an acknowledgement of the one before. A socket
                // that cannot be told so works as well.
                let _ = stream.set_nodelay(true);
                tokio::spawn(attend(stream, node.clone(), saga));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(START_RETRY_DELAY).await;
            }
        }
    }
}

async fn attend<C: OrderSaga>(stream: TcpStream, node: Node, saga: C) {
    let (reader, mut writer) = stream.into_split();
    let (answers, mut waiting) = mpsc::channel::<Answer>(ANSWERS_WAITING_MAX);
    tokio::spawn(async move {
        while let Some(answer) = waiting.recv().await {
            let Ok(mut line) = serde_json::to_vec(&answer) else { continue };
            line.push(b'\n');
            if writer.write_all(&line).await.is_err() {
                return; // Who ordered has gone, and will ask again.
            }
        }
    });
    let places = Arc::new(Semaphore::new(ORDERS_IN_FLIGHT_MAX));
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match serde_json::from_slice::<Order>(&line) {
            Ok(order) => {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let (node, answers) = (node.clone(), answers.clone());
                tokio::spawn(async move {
                    fulfil(&node, saga, order, &answers).await;
                    drop(place);
                });
            }
            Err(error) => {
                let reason = format!("this is no order: {error}");
                let _ = answers.send(Answer::Failed { id: String::new(), reason }).await;
                return;
            }
        }
    }
}

/// Follows one order to its end. A reader who has gone changes nothing.
async fn fulfil<C: OrderSaga>(node: &Node, saga: C, order: Order, answers: &mpsc::Sender<Answer>) {
    let id = order.id.clone();
    let session = loop {
        match node.start(saga, order.clone()).key(&id).await {
            Ok(session) => break session,
            Err(StartError::NodeStopped) => return,
            Err(error @ StartError::OtherInput { .. }) => {
                let _ = answers.send(Answer::Failed { id, reason: error.to_string() }).await; // Who ordered may have gone.
                return;
            }
            Err(error) => {
                tracing::warn!(%error, order = id, "not started yet");
                tokio::time::sleep(START_RETRY_DELAY).await;
            }
        }
    };
    tracing::debug!(order = id, session = %session.id(), "started, or known from before");
    let _ = answers.send(Answer::Accepted { id: id.clone() }).await;
    let output = match session.output().await {
        Ok(shipment) => Answer::Output { id: id.clone(), outcome: Outcome::Completed, detail: shipment.tracking },
        Err(SessionError::Aborted(abort)) => {
            Answer::Output { id: id.clone(), outcome: Outcome::Compensated, detail: abort.to_string() }
        }
        Err(SessionError::NodeStopped) => return,
        Err(error) => Answer::Failed { id: id.clone(), reason: error.to_string() },
    };
    tracing::debug!(?output);
    let _ = answers.send(output).await;
    let settled = match session.settled().await {
        Ok(_) => Answer::Settled { id, outcome: Outcome::Completed },
        Err(SessionError::Aborted(_)) => Answer::Settled { id, outcome: Outcome::Compensated },
        Err(SessionError::NodeStopped) => return,
        Err(error) => Answer::Failed { id, reason: error.to_string() },
    };
    tracing::debug!(?settled);
    let _ = answers.send(settled).await;
}
