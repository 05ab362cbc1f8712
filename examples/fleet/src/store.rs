//! What an operator may say of a node's store at its start, as arguments of each process.

use std::path::Path;

use accompanist::NodeBuilder;
use anyhow::Context as _;
use clap::Args;

/// Whether a node begins anew, or goes on with an older copy of its store.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct StoreArguments {
    /// Begin anew with an empty store: what this node had is lost for good. Say it once
    #[arg(long)]
    fresh: bool,
    /// Go on with an older copy of the store: what this node has done since is lost. Say it once
    #[arg(long)]
    accept_restore: bool,
}

impl StoreArguments {
    /// Tells the builder of the node.
    #[must_use]
    pub fn given_to(self, builder: NodeBuilder) -> NodeBuilder {
        let builder = if self.fresh { builder.fresh() } else { builder };
        if self.accept_restore { builder.accept_restore() } else { builder }
    }
}

/// Makes a data folder for this user alone.
///
/// # Errors
/// What the system says, with the folder.
pub fn make_data_folder(data: &Path) -> anyhow::Result<()> {
    accompanist::store::private_folder(data)
        .with_context(|| format!("the data folder {} cannot be used", data.display()))
}
