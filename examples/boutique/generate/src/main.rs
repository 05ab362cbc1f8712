//! Compiles the gRPC interfaces of the boutique into `src/generated`, by a compiler in Rust: it needs no `protoc`.
//!
//! `cargo run --manifest-path examples/boutique/generate/Cargo.toml` writes the files. With `-- --check` it writes
//! nothing, and fails if they are not what it would write.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const INTERFACES: [&str; 2] = ["hipstershop.proto", "reversal.proto"];
const GENERATED: [&str; 2] = ["hipstershop.rs", "accompanist.boutique.rs"];

fn main() -> Result<(), Box<dyn Error>> {
    let check = env::args().skip(1).any(|argument| argument == "--check");
    let boutique = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let scratch = env::temp_dir().join(format!("boutique-generate-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let result = generate(&boutique.join("proto"), &scratch)
        .and_then(|()| if check { compare(&boutique, &scratch) } else { copy(&boutique, &scratch) });
    fs::remove_dir_all(&scratch)?;
    result
}

fn generate(interfaces: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(INTERFACES, [interfaces])?;
    // The choreography sends these types, too.
    tonic_prost_build::configure()
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .out_dir(folder)
        .compile_fds(descriptors)?;
    Ok(())
}

fn generated(boutique: &Path, name: &str) -> PathBuf {
    boutique.join("src/generated").join(name)
}

fn copy(boutique: &Path, made: &Path) -> Result<(), Box<dyn Error>> {
    for name in GENERATED {
        fs::copy(made.join(name), generated(boutique, name))?;
    }
    Ok(())
}

fn compare(boutique: &Path, made: &Path) -> Result<(), Box<dyn Error>> {
    for name in GENERATED {
        if fs::read(made.join(name))? != fs::read(generated(boutique, name))? {
            return Err(format!("src/generated/{name} is not what proto/ says: run this without --check").into());
        }
    }
    println!("the generated interfaces are current");
    Ok(())
}
