//! Pictures in documents, kept in step with the programs that they show.
//!
//! This module knows no choreography: it compares texts, and writes them if it is told to.

use std::path::Path;

use accompanist_core::testing::Diagram;

/// The environment variable that makes a test write the pictures which it would otherwise compare.
const UPDATE: &str = "ACCOMPANIST_DIAGRAMS";

/// Fails a test whose diagram is no longer the one in a document, such as a README: the block in the language of
/// Mermaid that follows the line `<!-- diagram: NAME -->`. With `ACCOMPANIST_DIAGRAMS=update` in the environment, the
/// document is changed instead.
///
/// ```
/// use accompanist::testing::{Diagram, TestSetup, keep_diagram};
/// # use accompanist::prelude::*;
/// # #[derive(Clone, Copy)] struct Shop;
/// # impl Role for Shop { const NAME: &'static str = "shop"; type Service = (); }
/// # #[derive(Clone, Copy)] struct Bank;
/// # impl Role for Bank { const NAME: &'static str = "bank"; type Service = (); }
/// # struct Pay;
/// # impl Choreography for Pay {
/// #     const NAME: &'static str = "pay"; type Roles = (Shop, Bank);
/// #     type Input = At<Shop, u32>; type Output = At<Shop, u32>;
/// #     async fn run(&self, ctx: &Context<Self::Roles>, n: At<Shop, u32>) -> Result<At<Shop, u32>, Abort> {
/// #         ctx.comm(Shop, Bank, &n).await?;
/// #         Ok(n)
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let folder = tempfile::tempdir().unwrap();
/// # let readme = folder.path().join("README.md");
/// # let picture = Diagram::of(Pay, 75, TestSetup::new(Services::new())).await.unwrap().mermaid();
/// # std::fs::write(&readme, format!("# Pay\n\n<!-- diagram: pay -->\n```mermaid\n{picture}```\n")).unwrap();
/// let diagram = Diagram::of(Pay, 75, TestSetup::new(Services::new())).await.unwrap();
/// keep_diagram(readme, "pay", &diagram); // In a test: concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")
/// # }
/// ```
///
/// # Panics
/// If the picture differs, if there is no such block, or if the document cannot be read or written.
#[track_caller]
#[expect(clippy::panic, reason = "fails the test that asks for it")]
pub fn keep_diagram(document: impl AsRef<Path>, name: &str, diagram: &Diagram) {
    if let Err(reason) = keep(document.as_ref(), name, &diagram.mermaid(), updates()) {
        panic!("{}: {reason}", document.as_ref().display());
    }
}

/// Fails a test whose diagram is no longer the image in a file: as [`keep_diagram`], for [`Diagram::svg`]. A file that
/// does not exist is written with `ACCOMPANIST_DIAGRAMS=update`, too.
///
/// # Panics
/// If the image differs, or if the file cannot be read or written.
#[track_caller]
#[expect(clippy::panic, reason = "fails the test that asks for it")]
pub fn keep_svg(file: impl AsRef<Path>, diagram: &Diagram) {
    let (file, wanted) = (file.as_ref(), diagram.svg());
    let ended = match std::fs::read_to_string(file) {
        Ok(found) if found == wanted => Ok(()),
        _ if updates() => std::fs::write(file, wanted).map_err(|error| error.to_string()),
        Ok(_) => Err(differs("the image")),
        Err(error) => Err(format!("{error}: run the test with {UPDATE}=update to write it")),
    };
    if let Err(reason) = ended {
        panic!("{}: {reason}", file.display());
    }
}

fn updates() -> bool {
    std::env::var(UPDATE).is_ok_and(|word| word == "update")
}

fn differs(what: &str) -> String {
    format!("{what} is not what the program does: run the test with {UPDATE}=update, and look at the difference")
}

fn keep(document: &Path, name: &str, mermaid: &str, updates: bool) -> Result<(), String> {
    let text = std::fs::read_to_string(document).map_err(|error| error.to_string())?;
    let (before, block, after) = split(&text, name)?;
    if block == mermaid {
        return Ok(());
    }
    if !updates {
        return Err(differs(&format!("diagram `{name}`")));
    }
    std::fs::write(document, [before, mermaid, after].concat()).map_err(|error| error.to_string())
}

/// Splits a document at the content of the block with this name.
fn split<'a>(text: &'a str, name: &str) -> Result<(&'a str, &'a str, &'a str), String> {
    let marker = format!("<!-- diagram: {name} -->\n```mermaid\n");
    let lacks =
        || format!("there is no diagram `{name}`: add the line <!-- diagram: {name} --> and a mermaid block below it");
    let begin = text.find(&marker).ok_or_else(lacks)? + marker.len();
    let (before, rest) = text.split_at(begin);
    let end = if rest.starts_with("```") { 0 } else { rest.find("\n```").ok_or_else(lacks)? + 1 };
    let (block, after) = rest.split_at(end);
    Ok((before, block, after))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn document(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    #[test]
    fn only_the_named_block_is_compared_and_changed() {
        let text = "one\n<!-- diagram: a -->\n```mermaid\nold a\n```\n<!-- diagram: b -->\n```mermaid\n```\nend\n";
        let file = document(text);
        let read = || std::fs::read_to_string(&file).unwrap();
        keep(file.path(), "a", "old a\n", false).unwrap();
        let differs = keep(file.path(), "a", "new a\n", false).unwrap_err();
        assert!(differs.contains("diagram `a`") && differs.contains("ACCOMPANIST_DIAGRAMS=update"), "{differs}");
        assert_eq!(read(), text);
        keep(file.path(), "a", "new a\n", true).unwrap();
        keep(file.path(), "b", "new b\n", true).unwrap();
        assert_eq!(read(), text.replace("old a", "new a").replace("b -->\n```mermaid\n", "b -->\n```mermaid\nnew b\n"));
    }

    #[test]
    fn a_document_without_the_block_is_told_what_to_add() {
        for text in ["", "<!-- diagram: b -->\n```mermaid\n```\n", "<!-- diagram: a -->\n```mermaid\nopen"] {
            let error = keep(document(text).path(), "a", "new", true).unwrap_err();
            assert!(error.contains("add the line <!-- diagram: a -->"), "{error}");
        }
    }
}
