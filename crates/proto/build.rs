//! Compiles `proto/` with protox, so that no `protoc` has to be installed, into messages, clients,
//! servers and the descriptor set that reflection and the JSON mapping read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<()> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");

    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let set = protox::compile(&files, [&root]).context("compiling the proto files")?;
    export(&set, &out.join("descriptors.bin"))?;
    generate(set).context("generating code")
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}

/// Writes the descriptor set that the crate exports: the schema with its deprecations, without comments.
fn export(set: &FileDescriptorSet, path: &Path) -> Result<()> {
    let mut set = set.clone();
    for file in &mut set.file {
        file.source_code_info = None;
    }
    std::fs::write(path, set.encode_to_vec()).with_context(|| format!("writing {}", path.display()))
}

fn generate(mut set: FileDescriptorSet) -> Result<()> {
    for file in &mut set.file {
        undeprecate(file);
    }
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    config.bytes(["."]);
    config.btree_map(["."]);
    tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    Ok(())
}

/// Removes deprecation marks before code generation: they are advice to clients, and whoever serves
/// the old names would only have to silence a warning at every use.
fn undeprecate(file: &mut prost_types::FileDescriptorProto) {
    let messages = file.message_type.iter_mut();
    for message in messages {
        if let Some(options) = &mut message.options {
            options.deprecated = None;
        }
        for options in message
            .field
            .iter_mut()
            .filter_map(|field| field.options.as_mut())
        {
            options.deprecated = None;
        }
    }
    let methods = file
        .service
        .iter_mut()
        .flat_map(|service| &mut service.method);
    for options in methods.filter_map(|method| method.options.as_mut()) {
        options.deprecated = None;
    }
}
