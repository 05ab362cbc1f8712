//! Temporal: a server that keeps the history of each workflow, and a worker, here, that asks it for tasks.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use temporalio_client::{
    Client, ClientOptions, Connection, ConnectionOptions, WorkflowGetResultOptions, WorkflowStartOptions,
};
use temporalio_macros::{activities, workflow, workflow_methods};
use temporalio_sdk::activities::{ActivityContext, ActivityError};
use temporalio_sdk::runtime::RuntimeOptions;
use temporalio_sdk::{ActivityOptions, Runtime, Worker, WorkerOptions, WorkflowContext, WorkflowResult};

use crate::saga::{Answer, Order, Outcome, Services, Step};
use crate::server::{Server, free};

/// The queue that the worker asks.
const QUEUE: &str = "orders";
/// How long a step may take.
const STEP_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Temporal {
    client: Client,
    stop: Box<dyn Fn() + Send + Sync>,
    worker: JoinHandle<Result<()>>,
    _server: Server,
}

#[workflow]
#[derive(Default)]
struct PlaceOrder;

#[workflow_methods]
impl PlaceOrder {
    #[run]
    async fn run(ctx: &mut WorkflowContext<Self>, order: Order) -> WorkflowResult<Outcome> {
        let mut done = Vec::new();
        for step in Step::ALL {
            let options = ActivityOptions::start_to_close_timeout(STEP_MAX);
            let answer = ctx.execute_activity(Steps::call, (step, order.clone()), options).await?;
            if answer == Answer::Refused {
                for step in done.into_iter().rev() {
                    let options = ActivityOptions::start_to_close_timeout(STEP_MAX);
                    ctx.execute_activity(Steps::undo, (step, order.clone()), options).await?;
                }
                return Ok(Outcome::Refused);
            }
            done.push(step);
        }
        Ok(Outcome::Shipped)
    }
}

struct Steps(Services);

#[activities]
impl Steps {
    #[activity]
    async fn call(self: Arc<Self>, _ctx: ActivityContext, task: (Step, Order)) -> Result<Answer, ActivityError> {
        let (step, order) = task;
        Ok(self.0.call(step, &order).await?)
    }

    #[activity]
    async fn undo(self: Arc<Self>, _ctx: ActivityContext, task: (Step, Order)) -> Result<Answer, ActivityError> {
        let (step, order) = task;
        Ok(self.0.undo(step, &order).await?)
    }
}

/// As it comes, or with its limits on polling raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tuning {
    Shipped,
    Tuned,
}

/// What [`Tuning::Tuned`] sets to [`POLLS`] per second: how often the queues of the server ask its store.
const LIMITS: [&str; 3] = [
    "history.transferProcessorMaxPollRPS",
    "history.timerProcessorMaxPollRPS",
    "history.visibilityProcessorMaxPollRPS",
];
const POLLS: u32 = 5_000;

impl Temporal {
    pub(crate) async fn start(services: Services, folder: &Path, program: &Path, tuning: Tuning) -> Result<Self> {
        let address = free()?;
        let mut command = Command::new(program);
        command.args(["server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", &address.port().to_string()]);
        command.arg("--db-filename").arg(folder.join("temporal.db")).args(["--sqlite-pragma", "synchronous=full"]);
        if tuning == Tuning::Tuned {
            command.args(["--sqlite-pragma", "journal_mode=wal"]);
            for limit in LIMITS {
                command.args(["--dynamic-config-value", &format!("{limit}={POLLS}")]);
            }
        }
        let mut server = Server::start(&mut command, &folder.join("temporal.log"))?;
        let target: url::Url = format!("http://{address}").parse()?;
        server.listens(address).await?;
        // It listens before it knows the namespace that it makes for itself.
        let reaches = async || {
            let mut command = Command::new(program);
            command.args(["operator", "namespace", "describe", "default", "--address", &address.to_string()]);
            command.output().is_ok_and(|output| output.status.success())
        };
        server.until(reaches).await?;
        let connection = Connection::connect(ConnectionOptions::new(target).build()).await?;
        let client = Client::new(connection, ClientOptions::new("default").build())?;

        let (ready, stop) = tokio::sync::oneshot::channel();
        let of_worker = client.clone();
        // A thread of its own: the worker is bound to one.
        let worker = std::thread::spawn(move || work(services, of_worker, ready));
        match stop.await {
            Ok(stop) => Ok(Self { client, stop, worker, _server: server }),
            Err(_) => Err(worker.join().map_or_else(
                |_| anyhow!("the worker has panicked"),
                |ended| match ended {
                    Err(error) => error,
                    Ok(()) => anyhow!("the worker has ended"),
                },
            )),
        }
    }

    pub(crate) async fn order(&self, order: Order) -> Result<Outcome> {
        let options = WorkflowStartOptions::new(QUEUE, format!("order-{}", order.number)).build();
        let handle = self.client.start_workflow(PlaceOrder::run, order, options).await?;
        Ok(handle.get_result(WorkflowGetResultOptions::default()).await?)
    }

    pub(crate) fn end(self) -> Result<()> {
        (self.stop)();
        self.worker.join().map_err(|_| anyhow!("the worker has panicked"))?
    }
}

type Stop = Box<dyn Fn() + Send + Sync>;

/// The worker, until it is stopped with what it gives to `ready`.
fn work(services: Services, client: Client, ready: tokio::sync::oneshot::Sender<Stop>) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(async {
        let runtime = Runtime::from_current_tokio(RuntimeOptions::default())?;
        let options = WorkerOptions::new(QUEUE).register_workflow::<PlaceOrder>()?.register_activities(Steps(services));
        let mut worker = Worker::new(&runtime, client, options.build())?;
        let _ = ready.send(Box::new(worker.shutdown_handle()));
        worker.run().await?;
        Ok(())
    })
}

/// Which version it is.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().context("temporal cannot be run")?;
    Ok(format!("temporalio-sdk 1.1.1, {}", String::from_utf8_lossy(&output.stdout).trim()))
}
