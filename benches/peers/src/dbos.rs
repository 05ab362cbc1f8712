//! DBOS: a library that keeps the steps of a workflow in `PostgreSQL`.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use dbos::{Config, DBOS, StepOptions, WorkflowRef, step_with};
use serde::{Deserialize, Serialize};

use crate::saga::{Answer, Order, Outcome, Services, Step};
use crate::server::{Server, free};

pub(crate) struct Dbos {
    library: DBOS,
    place: WorkflowRef<Order, Outcome, Trouble>,
    _server: Server,
}

/// A service that cannot be reached: the step is tried again.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{0}")]
pub(crate) struct Trouble(String);

impl Dbos {
    pub(crate) async fn start(services: Services, folder: &Path) -> Result<Self> {
        let (server, url) = postgres(folder).await?;
        let library = DBOS::new(Config {
            app_version: Some("1".to_owned()),
            max_connections: CONNECTIONS,
            ..Config::new("peers", url)
        });
        let place = library.register_workflow("place-order", move |order| place(services.clone(), order));
        let place = place.map_err(|error| anyhow!("{error}"))?;
        library.launch().await.map_err(|error| anyhow!("{error}"))?;
        Ok(Self { library, place, _server: server })
    }

    pub(crate) async fn order(&self, order: Order) -> Result<Outcome> {
        self.place.run(order).await.map_err(|error| anyhow!("{error}"))
    }

    pub(crate) async fn end(self) {
        self.library.shutdown().await;
    }
}

/// Connections to the database. With 10, the default, and with 64 it is as quick, within 5 %.
const CONNECTIONS: u32 = 20;

async fn place(services: Services, order: Order) -> dbos::Result<Outcome, Trouble> {
    let mut done = Vec::new();
    for step in Step::ALL {
        let call = || async { said(services.call(step, &order).await) };
        if step_with(step.name(), again(), call).await? == Answer::Refused {
            for step in done.into_iter().rev() {
                let undo = || async { said(services.undo(step, &order).await) };
                step_with(step.undo_name(), again(), undo).await?;
            }
            return Ok(Outcome::Refused);
        }
        done.push(step);
    }
    Ok(Outcome::Shipped)
}

fn said(answer: Result<Answer>) -> dbos::Result<Answer, Trouble> {
    answer.map_err(|error| Trouble(format!("{error:#}")).into())
}

fn again() -> StepOptions<Trouble> {
    StepOptions { max_attempts: 10, ..StepOptions::default() }
}

/// A server of its own, as `initdb` sets it up: `fsync` and `synchronous_commit` are on. Gives its address, too.
async fn postgres(folder: &Path) -> Result<(Server, String)> {
    let (programs, data, address) = (programs()?, folder.join("data"), free()?);
    let owner = owner()?;
    if let Some((user, group)) = owner {
        chown(folder, Some(user), Some(group))?;
    }
    let program = |name: &str| {
        let mut command = Command::new(programs.join(name));
        command.current_dir(folder).arg("-D").arg(&data);
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        command
    };
    let initdb =
        program("initdb").args(["--auth=trust", "--username=postgres", "--locale=C", "--encoding=UTF8"]).output()?;
    ensure!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
    let port = address.port().to_string();
    let mut command = program("postgres");
    command.args(["-h", "127.0.0.1", "-p", &port, "-k"]).arg(folder);
    let mut server = Server::start(&mut command, &folder.join("postgres.log"))?;
    let ready = || Command::new(programs.join("pg_isready")).args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
    server.until(async || ready().is_ok_and(|status| status.success())).await?;
    let made = Command::new(programs.join("createdb"))
        .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "peers"])
        .status()?;
    ensure!(made.success(), "createdb has failed");
    Ok((server, format!("postgres://postgres@127.0.0.1:{port}/peers?sslmode=disable")))
}

/// Where the programs of the server are: below Debian's folder, or in `PATH`.
fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = versions.map(|version| version.path().join("bin")).chain(std::env::split_paths(&path));
    let found = folders.find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    found.context("PostgreSQL is not installed (apt-get install postgresql)")
}

/// The server does not run as root: then it runs as the user of its package.
fn owner() -> Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let user = users.lines().find_map(|line| line.strip_prefix("postgres:")).context("there is no user postgres")?;
    let mut ids = user.split(':').skip(1).map(str::parse);
    match (ids.next(), ids.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok(Some((user, group))),
        _ => Err(anyhow!("the line of the user postgres cannot be read: {user}")),
    }
}

/// Which version it is.
pub(crate) fn version() -> Result<String> {
    let output = Command::new(programs()?.join("postgres")).arg("--version").stderr(Stdio::null()).output()?;
    Ok(format!("dbos 0.5.0, {}", String::from_utf8_lossy(&output.stdout).trim()))
}
