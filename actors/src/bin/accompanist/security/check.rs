//! `accompanist security check`: whether a node's folder is correct, and whether a running system refuses what it
//! must.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use accompanist::contract::Exposure;
use accompanist::transport::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, ZenohConfig, probe};
use accompanist::{Member, NodeId, SEAL_KEY_FILE, SealSecrets};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rcgen::{KeyPair, PublicKeyData};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::Authority;
use super::folder::{Folder, NodeFiles};
use super::{MEMBERS_FILE, Place, ZENOH_FILE, access, say};

/// A certificate that is valid for fewer days should be renewed.
const DAYS_LEFT_WARN: i64 = 30;
const SECONDS_PER_DAY: i64 = 86_400;

#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    place: Place,
    /// The node or router; without it, all that have a folder.
    name: Option<String>,
    /// The address of a node or router of the running system, such as tls/bank.example:7447: tries there what it must
    /// refuse, with the node's own certificate and with others.
    #[arg(long, requires = "name")]
    connect: Option<String>,
    /// How long each of these tries listens.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    time: Duration,
}

pub(crate) fn run(Check { place, name, connect, time }: &Check) -> Result<ExitCode> {
    let folder = Folder::new(&place.folder);
    let members = folder.members()?;
    let of_all = access(members.get());
    let names: Vec<NodeId> = match name {
        Some(name) => vec![NodeId::new(name)?],
        None => of_all.members.iter().chain(&of_all.routers).cloned().collect(),
    };
    let mut report = Report::default();
    for name in &names {
        let of_node = folder.node(name);
        if !of_node.path(CERTIFICATE_FILE).exists() {
            report.note(name, "certificate", Err(anyhow::anyhow!("there is none: use `add-node`, or `renew`")));
            continue;
        }
        report.note(name, "rights of its files", rights(&of_node));
        report.note(name, "certificate", certificate(&of_node, name));
        report.note(name, "key", key(&of_node));
        if of_all.members.contains(name) {
            report.note(name, "seal keys", seal_keys(&of_node, members.get().get(name)));
        }
        let written = || -> Result<String> {
            let (zenoh, members) = (of_node.read(ZENOH_FILE)?, of_node.read(MEMBERS_FILE)?);
            ensure!(
                zenoh == NodeFiles::read(&of_node)?.zenoh(&of_all, name) && members == folder.members()?.text(),
                "the members have changed since: call `renew` for any node, and copy the folders"
            );
            Ok("as the members are now".into())
        };
        report.note(name, "access rules and members", written());
        report.note(name, "exposure", exposure(&of_node));
    }
    if let (Some(name), Some(connect)) = (names.first(), connect) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let tries = Tries { folder: &folder, name, connect, time: *time, namespace: &members.get().system };
        runtime.block_on(tries.all(&mut report))?;
    }
    say(&format!("{} checks, {} failed", report.count, report.failed));
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Report {
    count: u32,
    failed: u32,
}

impl Report {
    fn note(&mut self, name: &NodeId, what: &str, found: Result<String>) {
        self.count += 1;
        match found {
            Ok(found) => say(&format!("ok      {name}: {what}: {found}")),
            Err(error) => {
                self.failed += 1;
                say(&format!("FAILED  {name}: {what}: {error:#}"));
            }
        }
    }
}

fn rights(of_node: &Folder) -> Result<String> {
    #[cfg(unix)]
    for path in [of_node.root().to_owned(), of_node.path(KEY_FILE), of_node.path(SEAL_KEY_FILE)] {
        use std::os::unix::fs::PermissionsExt;
        if !path.exists() {
            continue; // A router has no seal key, and a node that does not seal need not have one.
        }
        let mode = std::fs::metadata(&path)?.permissions().mode() & 0o777;
        let path = path.display();
        ensure!(mode.trailing_zeros() >= 6, "others can use `{path}` (mode {mode:o}): `chmod go= {path}`");
    }
    Ok("its owner alone".into())
}

fn certificate(of_node: &Folder, name: &NodeId) -> Result<String> {
    let (own, authority) = (of_node.read(CERTIFICATE_FILE)?, of_node.read(CA_FILE)?);
    let (_, own) = parse_x509_pem(own.as_bytes()).context("it is no PEM file")?;
    let (_, authority) = parse_x509_pem(authority.as_bytes()).context("the authority's is no PEM file")?;
    let own = own.parse_x509().context("it is no certificate")?;
    let authority = authority.parse_x509().context("the authority's is no certificate")?;
    let common_name = own.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    ensure!(common_name == name.as_str(), "it is that of `{common_name}`");
    own.verify_signature(Some(authority.public_key())).context("another authority has signed it: `renew` makes one")?;
    let days = |certificate: &X509Certificate<'_>| {
        certificate.validity().time_to_expiration().map_or(-1, |left| left.whole_seconds() / SECONDS_PER_DAY)
    };
    match days(&own).min(days(&authority)) {
        left if left < 0 => bail!("it, or the authority's, is expired: `accompanist security renew {name}`"),
        left if left < DAYS_LEFT_WARN => bail!("it expires in {left} days: `accompanist security renew {name}`"),
        left => Ok(format!("good for {left} days")),
    }
}

fn key(of_node: &Folder) -> Result<String> {
    let key = KeyPair::from_pem(&of_node.read(KEY_FILE)?).context("it cannot be read")?;
    let certificate = of_node.read(CERTIFICATE_FILE)?;
    let (_, pem) = parse_x509_pem(certificate.as_bytes())?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents)?;
    ensure!(
        certificate.public_key().subject_public_key.data.as_ref() == key.der_bytes(),
        "it is not that of the certificate: `renew` makes both"
    );
    Ok("that of the certificate".into())
}

fn seal_keys(of_node: &Folder, member: Option<&Member>) -> Result<String> {
    let listed = member.map(|member| member.seal_keys.as_slice()).unwrap_or_default();
    if !of_node.path(SEAL_KEY_FILE).exists() {
        ensure!(listed.is_empty(), "the members file has some, and the folder none: `renew` makes both");
        return Ok("none: it cannot seal what it sends".into());
    }
    let own = SealSecrets::load(of_node.path(SEAL_KEY_FILE))?.public_keys();
    ensure!(own == listed, "they are not those in the members file: `renew` writes them there");
    Ok("those in the members file".into())
}

/// Returns how a node with this file could be reached; the node's program may set where it listens.
fn exposure(of_node: &Folder) -> Result<String> {
    let files = NodeFiles::read(of_node)?;
    let config = ZenohConfig::new().config_file(of_node.path(ZENOH_FILE));
    let config = if files.listen.is_empty() { config.listen("tls/127.0.0.1:0") } else { config };
    let exposure = config.check_exposure()?;
    ensure!(exposure == Exposure::Authenticated, "it is reachable by {exposure:?}");
    Ok("members alone reach it, each in its own name".into())
}

/// The tries on a running system.
struct Tries<'a> {
    folder: &'a Folder,
    name: &'a NodeId,
    connect: &'a str,
    time: Duration,
    namespace: &'a str,
}

impl Tries<'_> {
    async fn all(&self, report: &mut Report) -> Result<()> {
        let Self { name, connect, time, .. } = *self;
        let own = self.folder.node(name).path(ZENOH_FILE);
        let heard = self.probe(ZenohConfig::new().config_file(&own), "all/*").await;
        report.note(
            name,
            "its own certificate",
            match heard {
                Ok(0) => Err(anyhow::anyhow!("is let in, and hears no node within {time:?}: is one running there?")),
                Ok(count) => Ok(format!("is let in, and hears {count} packets to all")),
                Err(error) => Err(error),
            },
        );
        // A node also receives the packets for itself, so each probe names another node.
        for other in access(self.folder.members()?.get()).members.iter().filter(|other| *other != name) {
            let heard = self.probe(ZenohConfig::new().config_file(&own), &format!("node/{other}/*")).await;
            report.note(name, &format!("packets for `{other}` with its certificate"), nothing(&heard));
        }
        let plain = connect.replacen("tls/", "tcp/", 1);
        let stranger = ZenohConfig::new().connect(plain).insecure(true).namespace(self.namespace);
        report.note(name, "a stranger without TLS", nothing(&probe(stranger, "**", time).await.map_err(Into::into)));
        let outside = tempfile::Builder::new().prefix("accompanist-check").tempdir()?;
        let other_authority = Authority::new("stranger", 1)?;
        let impostor = self.impostor(&outside, "impostor", &other_authority, name.as_str())?;
        report.note(name, "its name from another authority", nothing(&self.probe(impostor, "**").await));
        match self.folder.authority() {
            Ok(authority) => {
                let nobody = self.impostor(&outside, "nobody", &authority, "nobody-of-the-members")?;
                report.note(name, "a certificate of no member", nothing(&self.probe(nobody, "**").await));
            }
            Err(_) => say("skipped: a certificate of no member, since the authority's key is not here"),
        }
        Ok(())
    }

    async fn probe(&self, config: ZenohConfig, key: &str) -> Result<u64> {
        let config = config.connect(self.connect).namespace(self.namespace);
        Ok(probe(config, key, self.time).await?)
    }

    /// Creates the configuration of an impostor with this name and authority, which has granted itself all rights.
    fn impostor(
        &self,
        outside: &tempfile::TempDir,
        folder: &str,
        authority: &Authority,
        name: &str,
    ) -> Result<ZenohConfig> {
        let of_node = Folder::new(&outside.path().join(folder));
        of_node.create()?;
        let (certificate, key) = authority.issue(name, 1)?;
        of_node.write(CERTIFICATE_FILE, &certificate)?;
        of_node.write(KEY_FILE, &key)?;
        // The impostor trusts the system that it attacks.
        of_node.write(CA_FILE, &self.folder.read(super::authority::CERTIFICATE)?)?;
        let files = NodeFiles { path: PathBuf::from(of_node.root()), listen: Vec::new(), connect: Vec::new() };
        let everything = super::ZenohAccess {
            namespace: self.namespace.to_owned(),
            members: access(self.folder.members()?.get()).members,
            routers: vec![NodeId::new(name)?],
        };
        of_node
            .write(ZENOH_FILE, &files.zenoh(&everything, &NodeId::new(name)?).replace("\"router\"", "\"client\""))?;
        // The impostor's own rules must not restrict it.
        let text =
            of_node.read(ZENOH_FILE)?.replace("\"default_permission\": \"deny\"", "\"default_permission\": \"allow\"");
        of_node.write(ZENOH_FILE, &text)?;
        Ok(ZenohConfig::new().config_file(of_node.path(ZENOH_FILE)).insecure(true))
    }
}

/// Checks that nothing was received; being refused counts as receiving nothing.
fn nothing(heard: &Result<u64>) -> Result<String> {
    match heard {
        Ok(0) => Ok("hears nothing".into()),
        Ok(count) => bail!("is given {count} packets"),
        Err(_) => Ok("is refused".into()),
    }
}
