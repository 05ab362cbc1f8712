//! The files of `accompanist security`: mode 0600, in folders of mode 0700, replaced as a whole since running nodes
//! read them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use accompanist::transport::ZenohAccess;
use accompanist::{Members, NodeId, SealSecrets};
use anyhow::{Context, Result};
use toml_edit::{DocumentMut, Item, Table};

use super::authority::{self, Authority};
use super::{MEMBERS_FILE, ZENOH_FILE};

/// A folder, and the operations on it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    pub(super) fn root(&self) -> &Path {
        &self.0
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the folder of a node or router.
    pub(super) fn node(&self, name: &NodeId) -> Self {
        Self(self.path(name.as_str()))
    }

    pub(super) fn create(&self) -> Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.0).with_context(|| format!("`{}` cannot be made", self.0.display()))
    }

    pub(super) fn read(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        fs::read_to_string(&path).with_context(|| {
            format!(
                "`{}` cannot be read: is `--folder` right, and was `accompanist security init` called?",
                path.display()
            )
        })
    }

    /// Replaces a file as a whole.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        let written = || -> std::io::Result<()> {
            let _ = fs::remove_file(&new); // The remains of a call that was cut off, perhaps with another mode.
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        written().with_context(|| format!("`{}` cannot be written", path.display()))
    }

    pub(super) fn authority(&self) -> Result<Authority> {
        Authority::read(self.read(authority::CERTIFICATE)?, &self.read(authority::KEY)?)
    }

    pub(super) fn members(&self) -> Result<MembersFile> {
        MembersFile::read(&self.path(MEMBERS_FILE).display().to_string(), self.read(MEMBERS_FILE)?)
    }
}

/// The members file, with its editors' comments.
pub(super) struct MembersFile {
    name: String,
    text: String,
    members: Members,
}

impl MembersFile {
    fn read(name: &str, text: String) -> Result<Self> {
        let members = Members::from_toml(name, &text)?;
        Ok(Self { name: name.to_owned(), text, members })
    }

    pub(super) fn get(&self) -> &Members {
        &self.members
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Edits the file in memory; the result must be a valid members file.
    pub(super) fn edit(&mut self, edit: impl FnOnce(&mut DocumentMut) -> Result<()>) -> Result<()> {
        let mut document: DocumentMut = self.text.parse()?;
        edit(&mut document)?;
        *self = Self::read(&self.name, document.to_string())?;
        Ok(())
    }
}

/// Returns the value of these keys in the members file.
pub(super) fn seal_keys(secrets: &SealSecrets) -> Item {
    toml_edit::value(secrets.public_keys().iter().map(ToString::to_string).collect::<toml_edit::Array>())
}

/// Creates a table without a header line.
pub(super) fn implicit_table() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// The settings in the Zenoh file of a node besides the rules: they are preserved when the rules are rewritten.
pub(super) struct NodeFiles {
    /// The path of the node's folder on its machine.
    pub(super) path: PathBuf,
    pub(super) listen: Vec<String>,
    pub(super) connect: Vec<String>,
}

impl NodeFiles {
    /// Writes a file without rules, which [`super::update`] completes.
    pub(super) fn write(&self, of_node: &Folder) -> Result<()> {
        let nobody = ZenohAccess { namespace: String::new(), members: Vec::new(), routers: Vec::new() };
        of_node.write(ZENOH_FILE, &self.zenoh(&nobody, &NodeId::new("nobody")?))
    }

    pub(super) fn read(of_node: &Folder) -> Result<Self> {
        let text = of_node.read(ZENOH_FILE)?;
        let path = of_node.path(ZENOH_FILE);
        let config: serde_json::Value = serde_json::from_str(&text)
            .with_context(|| format!("`{}` is not as `accompanist security` has written it", path.display()))?;
        let list = |pointer: &str| {
            let endpoints = config.pointer(pointer).and_then(serde_json::Value::as_array).into_iter().flatten();
            endpoints.filter_map(|endpoint| endpoint.as_str().map(str::to_owned)).collect()
        };
        let authority = config.pointer("/transport/link/tls/root_ca_certificate");
        let authority = authority.and_then(serde_json::Value::as_str).unwrap_or_default();
        let folder = Path::new(authority).parent().unwrap_or(of_node.root()).to_owned();
        Ok(Self { path: folder, listen: list("/listen/endpoints"), connect: list("/connect/endpoints") })
    }

    pub(super) fn zenoh(&self, access: &ZenohAccess, name: &NodeId) -> String {
        if access.routers.contains(name) {
            access.router_file(name, &self.path, &self.listen, &self.connect)
        } else {
            access.node_file(name, &self.path, &self.listen, &self.connect)
        }
    }
}
