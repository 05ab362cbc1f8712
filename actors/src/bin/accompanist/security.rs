//! `accompanist security`: one folder holds a system's authority, its members, and a folder for each node with
//! everything that the node needs, which is copied to its machine.
//!
//! ```text
//! security/ca.pem  ca.key.pem  members.toml
//! security/shop/ca.pem  certificate.pem  key.pem  seal.key  zenoh.json5  members.toml
//! ```

mod authority;
mod check;
mod folder;

use std::path::PathBuf;
use std::process::ExitCode;

use accompanist::transport::{CA_FILE, CERTIFICATE_FILE, KEY_FILE, ZenohAccess};
use accompanist::{Members, NodeId, SEAL_KEY_FILE, SealSecrets};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};

use self::authority::Authority;
use self::folder::{Folder, MembersFile, NodeFiles};

/// The name of the Zenoh configuration file in a node's folder.
const ZENOH_FILE: &str = "zenoh.json5";
/// The name of the members file.
const MEMBERS_FILE: &str = "members.toml";
/// The key of a node's public seal keys in the members file.
const SEAL_KEYS: &str = "seal_keys";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Creates the authority of a new system, and an empty list of members.
    Init(Init),
    /// Creates a node's certificate and configuration, and adds the node to the members and to the access rules of
    /// all others.
    AddNode(AddNode),
    /// Creates the certificate and configuration of a Zenoh router between the nodes.
    AddRouter(AddRouter),
    /// Creates a new certificate and key for a node or router, and the next seal key of a node.
    Renew(Renew),
    /// Removes a node or router from the members and from all access rules.
    Revoke(Named),
    /// Checks the folder of a node, or of all; with `--connect`, also tries on a running system what it must refuse.
    Check(check::Check),
}

#[derive(Args)]
struct Place {
    /// The folder of the authority, the members, and the nodes' folders.
    #[arg(long, default_value = "security")]
    folder: PathBuf,
}

#[derive(Args)]
pub(crate) struct Init {
    #[command(flatten)]
    place: Place,
    /// The system's name: the namespace of its nodes (`ZenohConfig::namespace`).
    #[arg(long, default_value = "accompanist")]
    system: String,
    /// For how many days the authority's certificate is valid.
    #[arg(long, default_value_t = 3_650)]
    days: u32,
}

#[derive(Args)]
struct Links {
    /// For how many days the certificate is valid.
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// The address to listen on, such as tls/0.0.0.0:7447. May be left to the node's program.
    #[arg(long)]
    listen: Vec<String>,
    /// The address to connect to, such as tls/bank.example:7447. May be left to the node's program.
    #[arg(long)]
    connect: Vec<String>,
    /// The path of the folder on the node's machine, if it differs from where it is created.
    #[arg(long)]
    path: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct AddNode {
    #[command(flatten)]
    place: Place,
    /// The node's name.
    name: String,
    /// A role that the node may play; "*" is any.
    #[arg(long = "role")]
    roles: Vec<String>,
    /// A choreography that the node may start; "*" is any.
    #[arg(long = "start")]
    starts: Vec<String>,
    /// Makes an operator's commands on this node about other nodes (`forget`) valid everywhere.
    #[arg(long)]
    operator: bool,
    #[command(flatten)]
    links: Links,
}

#[derive(Args)]
pub(crate) struct AddRouter {
    #[command(flatten)]
    place: Place,
    /// The router's name.
    name: String,
    #[command(flatten)]
    links: Links,
}

#[derive(Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    place: Place,
    /// The node or router.
    name: String,
    /// For how many days the new certificate is valid.
    #[arg(long, default_value_t = 365)]
    days: u32,
}

#[derive(Args)]
pub(crate) struct Named {
    #[command(flatten)]
    place: Place,
    /// The node or router.
    name: String,
}

pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Init(init) => self::init(init),
        Command::AddNode(node) => add_node(node),
        Command::AddRouter(router) => add_router(router),
        Command::Renew(renew) => self::renew(renew),
        Command::Revoke(named) => revoke(named),
        Command::Check(check) => return check::run(check),
    }?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "a command line")]
fn say(line: &str) {
    println!("{line}");
}

/// Checks that a name may be used in a certificate. For outgoing connections Zenoh trusts the public authorities of
/// the web besides its own, so the name must not be one for which they issue certificates.
fn certificate_name(name: &str) -> Result<NodeId> {
    ensure!(
        !name.contains('.'),
        "`{name}` has a dot: a public authority of the web could give somebody a certificate of that name; take a name \
         without"
    );
    Ok(NodeId::new(name)?)
}

fn init(Init { place, system, days }: &Init) -> Result<()> {
    let folder = Folder::new(&place.folder);
    ensure!(
        !folder.path(authority::CERTIFICATE).exists(),
        "`{}` has an authority already: its members would not trust another one",
        place.folder.display()
    );
    let authority = Authority::new(system, *days)?;
    folder.create()?;
    folder.write(authority::KEY, &authority.key_pem())?;
    folder.write(authority::CERTIFICATE, authority.certificate_pem())?;
    let head = "# Who may do what. `accompanist security` adds to it; roles, starts and operator are yours to edit.\n";
    folder.write(MEMBERS_FILE, &format!("{head}system = {}\n", toml_edit::Value::from(system.as_str())))?;
    say(&format!("{}: the authority of system `{system}`; keep `{}` off line", place.folder.display(), authority::KEY));
    Ok(())
}

fn add_node(AddNode { place, name, roles, starts, operator, links }: &AddNode) -> Result<()> {
    let node = certificate_name(name)?;
    let folder = Folder::new(&place.folder);
    let mut members = folder.members()?;
    let secrets = SealSecrets::generate()?;
    members.edit(|document| {
        let mut table = toml_edit::Table::new();
        for (key, names) in [("roles", roles), ("starts", starts)] {
            if !names.is_empty() {
                table.insert(key, toml_edit::value(names.iter().collect::<toml_edit::Array>()));
            }
        }
        if *operator {
            table.insert("operator", toml_edit::value(true));
        }
        table.insert(SEAL_KEYS, folder::seal_keys(&secrets));
        let nodes = document.entry("nodes").or_insert_with(folder::implicit_table);
        let nodes = nodes.as_table_mut().context("`nodes` of the members file is no table")?;
        ensure!(!nodes.contains_key(name), "`{name}` is a member already: use `renew` for a new certificate");
        nodes.insert(name, toml_edit::Item::Table(table));
        Ok(())
    })?;
    add(&folder, &node, links)?;
    folder.node(&node).write(SEAL_KEY_FILE, &secrets.to_text())?;
    // Written last: after an earlier failure nobody is a member without a certificate.
    folder.write(MEMBERS_FILE, members.text())?;
    update(&folder)?;
    let files = folder.path(name);
    say(&format!("{}: copy it to the node's machine, and give it", files.display()));
    say(&format!(
        "    ZenohConfig::new().config_file(\"{0}/{ZENOH_FILE}\").namespace({1:?})",
        files.display(),
        members.get().system
    ));
    say(&format!("    Node::builder(..).members_file(\"{}/{MEMBERS_FILE}\")", files.display()));
    say(&format!("    .seal_key_file(\"{}/{SEAL_KEY_FILE}\"), if all nodes of the system seal", files.display()));
    say("the folders of all other nodes have changed, too: copy them as well, the nodes read them again by themselves");
    Ok(())
}

fn add_router(AddRouter { place, name, links }: &AddRouter) -> Result<()> {
    let router = certificate_name(name)?;
    let folder = Folder::new(&place.folder);
    let mut members = folder.members()?;
    ensure!(!members.get().nodes.contains_key(name), "`{name}` is a node");
    members.edit(|document| {
        let routers = document.entry("routers").or_insert(toml_edit::value(toml_edit::Array::new()));
        let routers = routers.as_array_mut().context("`routers` of the members file is no list")?;
        ensure!(!routers.iter().any(|known| known.as_str() == Some(name)), "`{name}` is a router already");
        routers.push(name.as_str());
        Ok(())
    })?;
    add(&folder, &router, links)?;
    folder.write(MEMBERS_FILE, members.text())?;
    update(&folder)?;
    say(&format!(
        "{}: copy it to the router's machine, and start `zenohd --config {ZENOH_FILE}` there",
        folder.path(name).display()
    ));
    Ok(())
}

/// Creates certificate, key and links of a new node or router; [`update`] adds the rest.
fn add(folder: &Folder, name: &NodeId, Links { days, listen, connect, path }: &Links) -> Result<()> {
    let authority = folder.authority()?;
    let of_node = folder.node(name);
    of_node.create()?;
    write_certificate(&of_node, &authority, name, *days)?;
    let path = match path {
        Some(path) => path.clone(),
        None => std::path::absolute(of_node.root())?,
    };
    NodeFiles { path, listen: listen.clone(), connect: connect.clone() }.write(&of_node)
}

fn write_certificate(of_node: &Folder, authority: &Authority, name: &NodeId, days: u32) -> Result<()> {
    let (certificate, key) = authority.issue(name.as_str(), days)?;
    of_node.write(KEY_FILE, &key)?;
    of_node.write(CERTIFICATE_FILE, &certificate)?;
    of_node.write(CA_FILE, authority.certificate_pem())
}

/// Writes into each folder what depends on who the members are.
fn update(folder: &Folder) -> Result<()> {
    let members = folder.members()?;
    let access = access(members.get());
    let names = access.members.iter().chain(&access.routers);
    for name in names {
        let of_node = folder.node(name);
        if !of_node.path(CERTIFICATE_FILE).exists() {
            continue; // Somebody has added the name to the list, and created no certificate yet.
        }
        let files = NodeFiles::read(&of_node)?;
        of_node.write(ZENOH_FILE, &files.zenoh(&access, name))?;
        of_node.write(MEMBERS_FILE, members.text())?;
    }
    Ok(())
}

/// Returns the nodes and routers to which the access rules apply.
fn access(members: &Members) -> ZenohAccess {
    ZenohAccess {
        namespace: members.system.clone(),
        members: members.names().collect(),
        routers: members.routers.iter().filter_map(|name| NodeId::new(name).ok()).collect(),
    }
}

fn renew(Renew { place, name, days }: &Renew) -> Result<()> {
    let folder = Folder::new(&place.folder);
    let (node, mut members) = (certificate_name(name)?, folder.members()?);
    let access = access(members.get());
    ensure!(
        access.members.contains(&node) || access.routers.contains(&node),
        "`{name}` is no member: use `add-node`, or `add-router`"
    );
    write_certificate(&folder.node(&node), &folder.authority()?, &node, *days)?;
    let is_node = access.members.contains(&node);
    if is_node {
        renew_seal_keys(&folder, &node, &mut members)?;
    }
    update(&folder)?;
    say(&format!("{}: copy it to its machine, the node reads it again by itself", folder.path(name).display()));
    if is_node {
        say("the seal keys in the folders of all other nodes have changed, too: copy them before you renew this one \
             again");
    }
    Ok(())
}

/// Renews a node's seal keys: the next key becomes the one in use, and a new key follows it. Nodes with the old files
/// and nodes with the new files can exchange sealed packets.
fn renew_seal_keys(folder: &Folder, node: &NodeId, members: &mut MembersFile) -> Result<()> {
    let of_node = folder.node(node);
    let secrets = if of_node.path(SEAL_KEY_FILE).exists() {
        let secrets = SealSecrets::load(of_node.path(SEAL_KEY_FILE))?;
        let listed = members.get().get(node).map(|member| member.seal_keys.as_slice()).unwrap_or_default();
        // If they differ, an earlier call was cut off between writing the two files.
        if listed == secrets.public_keys() { secrets.renewed()? } else { secrets }
    } else {
        SealSecrets::generate()?
    };
    of_node.write(SEAL_KEY_FILE, &secrets.to_text())?;
    members.edit(|document| {
        let table = document.get_mut("nodes").and_then(|nodes| nodes.as_table_like_mut()?.get_mut(node.as_str()));
        let table = table.and_then(|table| table.as_table_like_mut()).context("it has no table in the members file")?;
        table.insert(SEAL_KEYS, folder::seal_keys(&secrets));
        Ok(())
    })?;
    folder.write(MEMBERS_FILE, members.text())
}

fn revoke(Named { place, name }: &Named) -> Result<()> {
    let folder = Folder::new(&place.folder);
    let mut members = folder.members()?;
    members.edit(|document| {
        if let Some(routers) = document.get_mut("routers").and_then(|item| item.as_array_mut()) {
            let before = routers.len();
            routers.retain(|known| known.as_str() != Some(name));
            if routers.len() < before {
                return Ok(());
            }
        }
        let node = document.get_mut("nodes").and_then(|nodes| nodes.as_table_like_mut()?.get_mut(name));
        let Some(node) = node.and_then(|node| node.as_table_like_mut()) else { bail!("`{name}` is no member") };
        node.insert("revoked", toml_edit::value(true));
        Ok(())
    })?;
    folder.write(MEMBERS_FILE, members.text())?;
    update(&folder)?;
    say(&format!(
        "`{name}` is revoked: copy the folders of all others to their machines, where it holds within seconds"
    ));
    Ok(())
}
