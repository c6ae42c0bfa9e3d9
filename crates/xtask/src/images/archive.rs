//! The archive of one image: a layer of what every program needs, a layer with the program, and the configuration.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// An image of one program.
pub struct Image {
    /// Name and tag.
    pub name: String,
    /// The program; it gets its own file name, in the root folder.
    pub program: PathBuf,
    /// Whom it runs as.
    pub user: u32,
    pub start: Start,
}

/// How the program's path stands in the image. The injector gives the sidecar `/daprd` and its flags as arguments
/// (contract 4.5), so an entrypoint there would come on top.
#[derive(Clone, Copy)]
pub enum Start {
    Command,
    Entrypoint,
}

impl Image {
    /// Writes the archive and returns the image's id, the digest of its configuration.
    pub fn write(&self, archive: &Path) -> Result<String> {
        let program = self.program.display();
        let name = self.program.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{program} has no file name"))?;
        let content = std::fs::read(&self.program).with_context(|| format!("read {program}"))?;
        let below = layer(&foundation(&self.program, self.user)?)?;
        let above = layer(&BTreeMap::from([(
            name.to_owned(),
            Entry::file(content, 0o755),
        )]))?;
        let start = match self.start {
            Start::Command => "Cmd",
            Start::Entrypoint => "Entrypoint",
        };
        let mut config = json!({
            "User": format!("{0}:{0}", self.user),
            "Env": ["PATH=/", format!("SSL_CERT_FILE={CA_BUNDLE}")],
            "WorkingDir": "/",
        });
        config[start] = json!([format!("/{name}")]);
        let layers = [below, above];
        let (id, bytes) = archive_of(&self.name, config, &layers)?;
        write_whole(archive, &bytes)?;
        Ok(format!("sha256:{id}"))
    }
}

/// A file or folder of a layer.
struct Entry {
    content: Option<Vec<u8>>,
    mode: u32,
}

impl Entry {
    fn file(content: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self {
            content: Some(content.into()),
            mode,
        }
    }

    fn folder(mode: u32) -> Self {
        Self {
            content: None,
            mode,
        }
    }
}

/// What stands under the program: the same for programs with the same libraries, so a node keeps it once.
fn foundation(program: &Path, user: u32) -> Result<BTreeMap<String, Entry>> {
    let bundle = std::fs::read(CA_BUNDLE)
        .with_context(|| format!("read {CA_BUNDLE}, which Debian's ca-certificates installs"))?;
    let mut files = BTreeMap::from([
        (
            "etc/passwd".to_owned(),
            Entry::file(format!("dapr:x:{user}:{user}::/:/\n"), 0o644),
        ),
        (
            "etc/group".to_owned(),
            Entry::file(format!("dapr:x:{user}:\n"), 0o644),
        ),
        // glibc asks DNS only if it is told to
        (
            "etc/nsswitch.conf".to_owned(),
            Entry::file("hosts: files dns\n", 0o644),
        ),
        (
            CA_BUNDLE.trim_start_matches('/').to_owned(),
            Entry::file(bundle, 0o644),
        ),
        ("tmp/".to_owned(), Entry::folder(0o1777)),
    ]);
    for library in libraries(program)? {
        let content = std::fs::read(&library).with_context(|| format!("read {library}"))?;
        files.insert(
            library.trim_start_matches('/').to_owned(),
            Entry::file(content, 0o755),
        );
    }
    Ok(files)
}

/// The shared libraries of a program and the loader that finds them, by the paths the loader looks at.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if text.contains("statically linked")
        || format!("{text}{complaint}").contains("not a dynamic executable")
    {
        return Ok(Vec::new());
    }
    ensure!(
        output.status.success(),
        "ldd {}: {}",
        program.display(),
        complaint.trim()
    );
    parse_ldd(&text).with_context(|| format!("ldd {}", program.display()))
}

fn parse_ldd(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let named = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = named.split_once(" (").map_or(named, |(path, _)| path);
        if path == "not found" {
            bail!("{line}");
        }
        // the kernel's own page has a name and no path
        if path.starts_with('/') {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

/// A layer is a tar file of its entries, with the folders above them.
fn layer(entries: &BTreeMap<String, Entry>) -> Result<Vec<u8>> {
    let mut folders = BTreeMap::new();
    for path in entries.keys() {
        for (at, _) in path.trim_end_matches('/').match_indices('/') {
            folders.entry(&path[..=at]).or_insert(0o755);
        }
    }
    let mut all: BTreeMap<&str, Option<&Entry>> =
        folders.into_keys().map(|path| (path, None)).collect();
    all.extend(
        entries
            .iter()
            .map(|(path, entry)| (path.as_str(), Some(entry))),
    );
    let mut tar = tar::Builder::new(Vec::new());
    for (path, entry) in all {
        let content = entry.and_then(|entry| entry.content.as_deref());
        append(
            &mut tar,
            path,
            content,
            entry.map_or(0o755, |entry| entry.mode),
        )?;
    }
    Ok(tar.into_inner()?)
}

/// A path that ends in a slash is a folder. No time, no owner: those would be this machine's.
fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    content: Option<&[u8]>,
    mode: u32,
) -> Result<()> {
    let content = content.unwrap_or_default();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(if path.ends_with('/') {
        tar::EntryType::Directory
    } else {
        tar::EntryType::Regular
    });
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, path, content)
        .with_context(|| format!("pack {path}"))
}

/// The docker-archive format: the configuration and the layers, each under its digest, and a manifest.
fn archive_of(name: &str, config: Value, layers: &[Vec<u8>]) -> Result<(String, Vec<u8>)> {
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let epoch = "1970-01-01T00:00:00Z";
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "created": epoch,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": digests.iter().map(|digest| format!("sha256:{digest}")).collect::<Vec<_>>() },
        "history": digests.iter().map(|_| json!({ "created": epoch })).collect::<Vec<_>>(),
    }))?;
    let id = digest(&config);
    let paths: Vec<String> = digests
        .iter()
        .map(|digest| format!("{digest}/layer.tar"))
        .collect();
    let manifest = json!([{ "Config": format!("{id}.json"), "RepoTags": [name], "Layers": paths }]);
    let mut tar = tar::Builder::new(Vec::new());
    append(
        &mut tar,
        "manifest.json",
        Some(&serde_json::to_vec(&manifest)?),
        0o644,
    )?;
    append(&mut tar, &format!("{id}.json"), Some(&config), 0o644)?;
    for (path, layer) in paths.iter().zip(layers) {
        append(&mut tar, path, Some(layer), 0o644)?;
    }
    Ok((id, tar.into_inner()?))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Never leaves half an archive under the name that others import.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let shown = path.display();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let partial = path.with_extension("partial");
    let mut file =
        BufWriter::new(File::create(&partial).with_context(|| format!("write {shown}"))?);
    file.write_all(bytes)
        .and_then(|()| file.flush())
        .with_context(|| format!("write {shown}"))?;
    std::fs::rename(&partial, path).with_context(|| format!("write {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const LDD: &str = "\tlinux-vdso.so.1 (0x00007ffd)\n\
        \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f01)\n\
        \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";

    #[test]
    fn ldd_gives_the_libraries_and_the_loader() {
        let found = parse_ldd(LDD).unwrap();
        assert_eq!(
            found,
            [
                "/lib/x86_64-linux-gnu/libgcc_s.so.1",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert!(parse_ldd("libgone.so.1 => not found").is_err());
    }

    #[test]
    fn a_layer_has_the_folders_above_its_files_first() {
        let entries = BTreeMap::from([
            ("etc/ssl/bundle".to_owned(), Entry::file("x", 0o644)),
            ("tmp/".to_owned(), Entry::folder(0o1777)),
        ]);
        let bytes = layer(&entries).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().display().to_string(),
                    entry.header().mode().unwrap(),
                )
            })
            .collect();
        let paths: Vec<_> = paths
            .iter()
            .map(|(path, mode)| (path.as_str(), *mode))
            .collect();
        assert_eq!(
            paths,
            [
                ("etc/", 0o755),
                ("etc/ssl/", 0o755),
                ("etc/ssl/bundle", 0o644),
                ("tmp/", 0o1777)
            ]
        );
    }

    #[test]
    fn an_image_is_reproducible_and_names_user_and_program() {
        let folder = std::env::temp_dir().join(format!("images-{}", std::process::id()));
        let image = |start| Image {
            name: "localhost/dapr/test:1".into(),
            program: std::env::current_exe().unwrap(),
            user: 65532,
            start,
        };
        let first = image(Start::Command).write(&folder.join("a.tar")).unwrap();
        let second = image(Start::Command).write(&folder.join("b.tar")).unwrap();
        assert_eq!(first, second);
        let bytes = std::fs::read(folder.join("a.tar")).unwrap();
        assert_eq!(bytes, std::fs::read(folder.join("b.tar")).unwrap());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut config = Value::Null;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            if path == format!("{}.json", first.trim_start_matches("sha256:")) {
                let mut text = String::new();
                entry.read_to_string(&mut text).unwrap();
                config = serde_json::from_str(&text).unwrap();
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(config["config"]["User"], "65532:65532");
        let program = std::env::current_exe().unwrap();
        let program = program.file_name().unwrap().to_str().unwrap();
        assert_eq!(config["config"]["Cmd"], json!([format!("/{program}")]));
        assert_eq!(config["config"]["Entrypoint"], Value::Null);
        let other = image(Start::Entrypoint)
            .write(&folder.join("c.tar"))
            .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_ne!(first, other);
    }
}
