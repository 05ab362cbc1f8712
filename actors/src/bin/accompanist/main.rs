//! The command line, for operators: shows the nodes and sessions of a running system, acts on them, checks a
//! configuration, and manages certificates, access control and members.
//!
//! It exits with 0 if all is well, 1 if something failed or was refused, 2 if it is used wrongly, and 3 if no node
//! answers.

mod act;
mod connect;
mod nodes;
#[cfg(feature = "security")]
mod security;
mod sessions;
mod text;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use accompanist::admin::{AuditRequest, NodeAction, PartAction, ReadReply, ReadRequest};
use accompanist::timeline::{Timeline, Values};
use accompanist::{Config, NodeError, NodeId};
use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};
use serde::Serialize;

use self::act::Which;
use self::connect::{ByNode, Client, Connection};
use self::nodes::Nodes;
use self::sessions::Filter;
use self::text::{line, row, table};

/// No node has answered.
const NOBODY: u8 = 3;
/// The pause between two views of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(version, about = "For operators of Accompanist nodes")]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON: what the nodes reply, unshortened.
    #[arg(long, global = true)]
    json: bool,
    /// Show it again every two seconds, until interrupted.
    #[arg(long, global = true)]
    watch: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the nodes: what each plays, how much is open, and whether it sees the others.
    Nodes,
    /// Checks a running system: nodes that are away, clocks, releases, databases, sessions in trouble. Exits with 1 if
    /// it finds something.
    Doctor,
    /// Lists open sessions, each with the part that most needs help.
    Sessions {
        #[command(flatten)]
        filter: Filter,
        /// The most parts of sessions from each node.
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Shows one session at all its roles: state, what each waits for and on whom, steps, journal.
    Show {
        /// The session, by its id or the beginning of it.
        session: String,
        /// Also list the records on disk.
        #[arg(long)]
        journal: bool,
    },
    /// Shows what happened in one session at all its roles, in causal order: also of a closed one, as far as it is
    /// kept.
    Trace {
        /// The session, by its id; the beginning of it is enough for an open one.
        session: String,
        /// Print a Mermaid sequence diagram.
        #[arg(long, group = "drawing")]
        mermaid: bool,
        /// Print an SVG picture.
        #[arg(long, group = "drawing")]
        svg: bool,
        /// Show users' values, too, which may be confidential; otherwise only the names of their types and fields.
        #[arg(long)]
        values: bool,
    },
    /// Writes the records of one session at all its roles into a file, for a developer's machine.
    Export {
        /// The session, by its id; the beginning of it is enough for an open one.
        session: String,
        /// The file.
        file: PathBuf,
    },
    /// Aborts running sessions; everything that is committed is compensated.
    Cancel {
        #[command(flatten)]
        which: Which,
        /// The reason, which all roles see.
        #[arg(long)]
        reason: String,
    },
    /// Tries steps that need an operator again.
    Retry(Which),
    /// Counts steps that need an operator as compensated, once somebody has compensated them by hand.
    Resolve(Which),
    /// Lets stopped parts try again, once the cause is removed.
    Resume(Which),
    /// Aborts sessions from stopped parts, which replay what is on disk and compensate.
    Abort {
        #[command(flatten)]
        which: Which,
        /// The reason, which all roles see.
        #[arg(long)]
        reason: String,
    },
    /// Ends stopped parts without their program, and lists what has to be compensated by hand. The last resort.
    Terminate {
        #[command(flatten)]
        which: Which,
        /// The reason, which all roles see.
        #[arg(long)]
        reason: String,
    },
    /// Lets stopped channels to durable actors go on without the message that is in the way.
    Skip(Which),
    /// Lets a node take no new sessions.
    Drain {
        /// The node.
        node: NodeId,
    },
    /// Lets a node take new sessions again.
    Undrain {
        /// The node.
        node: NodeId,
    },
    /// Takes a drained node out for good.
    Leave {
        /// The node.
        node: NodeId,
    },
    /// Lets a node give another one no new sessions.
    Cordon {
        /// The node that is told.
        #[arg(long)]
        at: NodeId,
        /// The other node.
        node: NodeId,
        /// Give it new sessions again.
        #[arg(long)]
        undo: bool,
    },
    /// Lets a node forget another one that is lost for good.
    Forget {
        /// The node that is told.
        #[arg(long)]
        at: NodeId,
        /// The lost node.
        node: NodeId,
    },
    /// Lists the messages that could not be handled, or handles or discards one.
    DeadLetters {
        /// The node of the message to handle or discard.
        #[arg(long, requires = "which")]
        at: Option<NodeId>,
        /// Handle this one again.
        #[arg(long, group = "which", requires = "at")]
        replay: Option<u64>,
        /// Discard this one.
        #[arg(long, group = "which", requires = "at")]
        discard: Option<u64>,
    },
    /// Lists what operators have changed, the latest first.
    Audit {
        /// The most entries from each node.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Reads a configuration as a node would, with this environment; prints all mistakes in it, or the resulting
    /// supervision tree.
    ///
    /// Names of roles, choreographies and groups are only known to the service: it checks them at its start. A
    /// configuration file of Zenoh that is named is read, too; nothing is opened.
    CheckConfig {
        /// The file, such as accompanist.toml.
        file: PathBuf,
    },
    /// Creates, renews and checks what nodes need to trust each other: certificates, access control, members.
    #[cfg(feature = "security")]
    #[command(subcommand)]
    Security(security::Command),
    /// Prints a script that completes commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
}

/// What a command prints, and whether all is well.
struct Output {
    text: String,
    warnings: Vec<String>,
    code: u8,
}

impl Output {
    fn new(text: String) -> Self {
        Self { text, warnings: Vec::new(), code: 0 }
    }

    /// The values as JSON, or as text.
    fn of(json: bool, values: &impl Serialize, text: impl FnOnce() -> String) -> Result<Self> {
        Ok(Self::new(if json { serde_json::to_string_pretty(values)? + "\n" } else { text() }))
    }

    fn warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }

    fn failed(self, failed: bool) -> Self {
        Self { code: if failed { 1 } else { self.code }, ..self }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One connection, however often something is shown.
    let mut client = None;
    loop {
        let output = match run(&arguments, &mut client) {
            Ok(output) => output,
            Err(error) => {
                eprintln!("{error:#}");
                return ExitCode::FAILURE;
            }
        };
        if arguments.watch {
            print!("\u{1b}[2J\u{1b}[H");
        }
        print!("{}", output.text);
        for warning in &output.warnings {
            eprintln!("warning: {}", line(warning, 400));
        }
        if !arguments.watch {
            return ExitCode::from(output.code);
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

fn run(arguments: &Arguments, client: &mut Option<Client>) -> Result<Output> {
    match &arguments.command {
        Command::CheckConfig { file } => Ok(Output::new(check(file)?.settings.supervision.to_string())),
        #[cfg(feature = "security")]
        Command::Security(command) => {
            let code = security::run(command)?;
            Ok(Output { text: String::new(), warnings: Vec::new(), code: u8::from(code != ExitCode::SUCCESS) })
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "accompanist", &mut script);
            Ok(Output::new(String::from_utf8(script)?))
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Arguments::command()).render(&mut page)?;
            Ok(Output::new(String::from_utf8(page)?))
        }
        command => {
            let client = match client {
                Some(client) => client,
                None => client.insert(arguments.connection.open()?),
            };
            ask(client, command, arguments.json)
        }
    }
}

/// Carries out a command that concerns a running system.
fn ask(client: &Client, command: &Command, json: bool) -> Result<Output> {
    match command {
        Command::Nodes | Command::Doctor => {
            let nodes = Nodes::ask(client)?;
            if nodes.here.is_empty() {
                return Ok(nobody(nodes.warnings()));
            }
            if matches!(command, Command::Nodes) {
                return Ok(Output::of(json, &nodes.here, || nodes.text())?.warnings(nodes.warnings()));
            }
            let findings = nodes.findings();
            let text = || match findings.as_slice() {
                [] => format!("{} nodes answer, and all is well\n", nodes.here.len()),
                _ => format!("- {}\n", findings.join("\n- ")),
            };
            Ok(Output::of(json, &findings, text)?.failed(!findings.is_empty()))
        }
        Command::Sessions { filter, limit } => {
            let (parts, warnings) = sessions::find(client, &filter.to_request(), *limit)?;
            if parts.is_empty() && client.read(None, &ReadRequest::Node)?.is_empty() {
                return Ok(nobody(warnings));
            }
            Ok(Output::of(json, &parts, || sessions::text(&parts))?.warnings(warnings))
        }
        Command::Show { session, journal } => {
            let session = sessions::resolve(client, session)?;
            let (parts, warnings) = sessions::parts_of(client, &session)?;
            let none = parts.is_empty();
            let text = || match parts.as_slice() {
                [] => format!("session {session} is not open at any node that answers\n"),
                parts => sessions::show(parts, *journal),
            };
            Ok(Output::of(json, &parts, text)?.warnings(warnings).failed(none))
        }
        Command::Trace { session, mermaid, svg, values } => {
            let (export, warnings) = trace::collect(client, &sessions::resolve(client, session)?)?;
            let timeline = Timeline::of(&export, if *values { Values::Shown } else { Values::Shapes });
            let text = || match (mermaid, svg) {
                (true, _) => timeline.mermaid(),
                (_, true) => timeline.svg(),
                _ => timeline.text(text::style()),
            };
            Ok(Output::of(json, &export, text)?.warnings(warnings))
        }
        Command::Export { session, file } => {
            let (export, warnings) = trace::collect(client, &sessions::resolve(client, session)?)?;
            std::fs::write(file, export.to_bytes()?)
                .with_context(|| format!("`{}` cannot be written", file.display()))?;
            let text = format!("the records of {} roles are in `{}`\n", export.parts.len(), file.display());
            Ok(Output::new(text).warnings(warnings))
        }
        Command::Cancel { which, reason } => act(client, which, &PartAction::Cancel { reason: reason.clone() }, json),
        Command::Abort { which, reason } => act(client, which, &PartAction::Abort { reason: reason.clone() }, json),
        Command::Terminate { which, reason } => {
            act(client, which, &PartAction::Terminate { reason: reason.clone() }, json)
        }
        Command::Retry(which) => act(client, which, &PartAction::Retry, json),
        Command::Resolve(which) => act(client, which, &PartAction::Resolve, json),
        Command::Resume(which) => act(client, which, &PartAction::Resume, json),
        Command::Skip(which) => act(client, which, &PartAction::SkipMessage, json),
        Command::Drain { node } => on_node(client, node, NodeAction::Drain),
        Command::Undrain { node } => on_node(client, node, NodeAction::Undrain),
        Command::Leave { node } => on_node(client, node, NodeAction::Leave),
        Command::Cordon { at, node, undo: false } => on_node(client, at, NodeAction::Cordon { node: node.to_string() }),
        Command::Cordon { at, node, undo: true } => {
            on_node(client, at, NodeAction::Uncordon { node: node.to_string() })
        }
        Command::Forget { at, node } => on_node(client, at, NodeAction::Forget { node: node.to_string() }),
        Command::DeadLetters { at: Some(at), replay: Some(number), .. } => {
            on_node(client, at, NodeAction::ReplayDeadLetter { number: *number })
        }
        Command::DeadLetters { at: Some(at), discard: Some(number), .. } => {
            on_node(client, at, NodeAction::DiscardDeadLetter { number: *number })
        }
        Command::DeadLetters { .. } => dead_letters(client, json),
        Command::Audit { limit } => audit(client, *limit, json),
        // Answered without a connection.
        _ => Ok(Output::new(String::new())),
    }
}

fn nobody(mut warnings: Vec<String>) -> Output {
    if warnings.is_empty() {
        warnings.push("no node answers: check the address and the namespace, or wait longer (`--wait`)".to_owned());
    }
    Output { text: String::new(), warnings, code: NOBODY }
}

fn act(client: &Client, which: &Which, action: &PartAction, json: bool) -> Result<Output> {
    let acted = act::on_sessions(client, which, action)?;
    let failed = acted.failed();
    Ok(Output::of(json, &acted.parts, || acted.text(which.is_dry_run()))?.warnings(acted.warnings).failed(failed))
}

fn on_node(client: &Client, node: &NodeId, action: NodeAction) -> Result<Output> {
    act::on_node(client, node, action)?;
    Ok(Output::new("done\n".to_owned()))
}

fn dead_letters(client: &Client, json: bool) -> Result<Output> {
    let (found, warnings) = client.read_all(&ReadRequest::DeadLetters, |reply| match reply {
        ReadReply::DeadLetters(letters) => Some(letters),
        _ => None,
    })?;
    let letters = with_nodes(found);
    let text = || {
        let mut rows = vec![row(["NODE", "NUMBER", "FROM", "SESSION", "ROLE", "TIMES", "WHY"])];
        rows.extend(letters.iter().map(|(node, letter)| {
            let (number, times) = (letter.number.to_string(), letter.times.to_string());
            let (role, why) = (letter.role_index.to_string(), line(&letter.reason, 160));
            vec![node.clone(), number, letter.from.clone(), letter.session.clone(), role, times, why]
        }));
        table(&rows)
    };
    Ok(Output::of(json, &letters, text)?.warnings(warnings))
}

/// Gives each item of a node's list the node's name.
fn with_nodes<T>(lists: ByNode<Vec<T>>) -> ByNode<T> {
    let named = |(node, list): (String, Vec<T>)| list.into_iter().map(move |item| (node.clone(), item));
    lists.into_iter().flat_map(named).collect()
}

fn audit(client: &Client, limit: usize, json: bool) -> Result<Output> {
    let request = ReadRequest::Audit(AuditRequest { before: None, limit: Some(limit) });
    let (found, warnings) = client.read_all(&request, |reply| match reply {
        ReadReply::Audit(page) => Some(page.entries),
        _ => None,
    })?;
    let mut entries = with_nodes(found);
    entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.unix_ms));
    let text = || {
        let mut rows = vec![row(["WHEN", "NODE", "WHO", "WHAT", "RESULT"])];
        rows.extend(entries.iter().map(|(node, entry)| {
            let when = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(entry.unix_ms));
            let by = entry.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
            let result = entry.result.as_deref().unwrap_or("under way, or cut off");
            let who = line(&format!("{}{by}", entry.caller), 60);
            vec![when.to_string(), node.clone(), who, line(&act::in_words(&entry.request), 160), line(result, 160)]
        }));
        table(&rows)
    };
    Ok(Output::of(json, &entries, text)?.warnings(warnings))
}

/// Checks all that can be checked without opening anything.
fn check(file: &Path) -> Result<Config, NodeError> {
    let config = Config::load(file)?;
    if let Some(zenoh) = &config.zenoh {
        zenoh.check_exposure()?;
    }
    Ok(config)
}
