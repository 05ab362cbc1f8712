//! A real `PostgreSQL` server of the tests' own: made in a temporary folder, reached by a socket in it, stopped when
//! the last test lets it go.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tempfile::TempDir;

use crate::support::until;

/// Part of the name of the socket; nothing listens on a network.
const PORT: u16 = 5432;

/// Where the programs of the server are, if it is installed. Looked for in `PATH` and where Debian puts them.
static PROGRAMS: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&path).chain(versions.map(|version| version.path().join("bin")));
    let found = folders.into_iter().find_map(|folder| {
        // The programs of one version stay together, wherever a link to one of them is.
        let server = folder.join("postgres").canonicalize().ok()?;
        server.parent().filter(|folder| folder.join("initdb").exists()).map(Path::to_path_buf)
    });
    if found.is_none() {
        // Past the test harness, which hides what a test that passes prints.
        let skipped = b"SKIPPED: PostgreSQL is not installed (apt-get install postgresql)\n";
        std::io::stderr().write_all(skipped).unwrap();
    }
    found
});

/// The server does not run as root: then it runs as the user of its package.
static USER: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let mut ids =
        user.expect("the package has made the user postgres").split(':').skip(1).map(|id| id.parse().unwrap());
    Some((ids.next().unwrap(), ids.next().unwrap()))
});

#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    process: Mutex<Child>,
}

impl Server {
    /// A server of this test alone, or nothing if it is not installed.
    pub async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if let Some((user, group)) = *USER {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let mut initdb = program("initdb", folder.path())?;
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"]);
        let made = initdb.arg(folder.path().join("data")).stdout(Stdio::null()).status().unwrap();
        assert!(made.success(), "initdb: {}", log(folder.path()));
        let process = Mutex::new(serve(folder.path())?);
        let server = Self { folder, process };
        server.answers().await;
        Some(server)
    }

    /// A server that tests share, as long as one of them has it.
    pub async fn shared() -> Option<Arc<Self>> {
        static SHARED: tokio::sync::Mutex<Weak<Server>> = tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::start().await?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// Kills it as a crash would, and starts it again on what is on its disk.
    pub async fn crash_and_restart(&self) {
        self.crash();
        // Its children may still hold the old data for a moment; then it ends, and is started again.
        until("a server after a crash", async || {
            self.serve_if_ended();
            PgConnection::connect_with(&self.options("postgres")).await.is_ok()
        })
        .await;
    }

    /// Kills it as a crash would.
    pub fn crash(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn serve_if_ended(&self) {
        let mut process = self.process.lock().unwrap();
        if process.try_wait().unwrap().is_some() {
            *process = serve(self.folder.path()).unwrap();
        }
    }

    /// A pool on a new database.
    pub async fn database(&self) -> PgPool {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut admin = PgConnection::connect_with(&self.options("postgres")).await.unwrap();
        raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
        PgPoolOptions::new().max_connections(10).connect_lazy_with(self.options(&name))
    }

    fn options(&self, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().socket(self.folder.path()).port(PORT);
        options.ssl_mode(PgSslMode::Disable).username("postgres").database(database)
    }

    async fn answers(&self) {
        until("a server that answers", async || {
            let ended = self.process.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server has ended: {}", log(self.folder.path()));
            PgConnection::connect_with(&self.options("postgres")).await.is_ok()
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Not killed: it would leave a piece of shared memory behind.
        let stop = format!("kill -INT {}", process.id());
        let stopped = Command::new("sh").args(["-c", &stop]).status().is_ok_and(|status| status.success());
        if !stopped {
            let _ = process.kill();
        }
        let _ = process.wait();
    }
}

fn serve(folder: &Path) -> Option<Child> {
    let mut serve = program("postgres", folder)?;
    // A killed process loses nothing of what it has written, so nothing has to be synced here.
    let settings = ["listen_addresses=", "max_connections=500", "fsync=off", "deadlock_timeout=20ms"];
    serve.args(settings.iter().flat_map(|setting| ["-c", setting]));
    serve.args(["-p", &PORT.to_string(), "-k"]).arg(folder).arg("-D").arg(folder.join("data")).stdout(Stdio::null());
    Some(serve.spawn().unwrap())
}

fn program(name: &str, folder: &Path) -> Option<Command> {
    let mut program = Command::new(PROGRAMS.as_ref()?.join(name));
    if let Some((user, group)) = *USER {
        program.uid(user).gid(group);
    }
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    Some({
        program.current_dir(folder).env_clear().stdin(Stdio::null()).stderr(log);
        program
    })
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
