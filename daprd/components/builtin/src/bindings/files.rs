//! `bindings.localstorage`: files below a folder. Names may have folders; they never lead out of it, by dots or by links.

mod inside;

use std::{
    io::ErrorKind as IoKind,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use component::{
    Component, Error, ErrorKind, Metadata, OutputBinding, Result,
    bindings::{InvokeRequest, InvokeResponse},
};
use tokio::{fs, task};
use uuid::Uuid;
use values::json;

/// Largest file that is read, in bytes: it is held in memory.
const MAX_FILE: u64 = 100 << 20;

/// Most files of one listing.
const MOST_LISTED: usize = 100_000;

/// Below these the system keeps what is not for apps: the kernel's own, and secrets of the pod. Q-localstorage-secrets
const REFUSED: [&str; 5] = ["/proc", "/sys", "/boot", "/var/run/secrets", "/run/secrets"];

component::metadata! {
    /// What the binding is opened with.
    pub struct Settings {
        /// The folder; it is made if it is not there.
        root: PathBuf => "rootPath";
    }
}

/// Files of this machine.
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folder.
    ///
    /// # Errors
    /// Where it is none, or none that may be used.
    pub async fn open(metadata: &Metadata) -> Result<Self> {
        let Settings { root } = Settings::read(metadata)?;
        let invalid = |problem: String| Error::invalid_metadata("rootPath", problem);
        let unusable = |error: std::io::Error| invalid(format!("{}: {error}", root.display()));
        let root = std::path::absolute(&root).map_err(unusable)?;
        // Before anything is made, and as what it really is after that.
        check(&root).map_err(invalid)?;
        check(&existing(&root).await).map_err(invalid)?;
        fs::create_dir_all(&root).await.map_err(unusable)?;
        let root = fs::canonicalize(&root).await.map_err(unusable)?;
        check(&root).map_err(invalid)?;
        Ok(Self { root })
    }

    async fn inside(&self, name: &str) -> Result<PathBuf> {
        let (root, path) = (self.root.clone(), name.to_owned());
        let found = task::spawn_blocking(move || inside::join(&root, &path)).await;
        let found =
            found.map_err(|error| Error::internal("a path could not be looked at", error))?;
        found.map_err(|error| {
            failed(
                format!("error getting absolute path for file {name}"),
                error,
            )
        })
    }

    async fn create(&self, name: &str, data: &Bytes) -> Result<Bytes> {
        let path = self.inside(name).await?;
        if let Some(folder) = path.parent() {
            let made = fs::create_dir_all(folder).await;
            made.map_err(|error| {
                failed(
                    format!("error creating directory {}", folder.display()),
                    error,
                )
            })?;
        }
        // Never half a file under its name, whatever fills up or goes away meanwhile.
        let draft = path.with_file_name(format!(".{}.part", Uuid::new_v4()));
        let written = async {
            fs::write(&draft, content(data)).await?;
            fs::rename(&draft, &path).await
        };
        if let Err(error) = written.await {
            let _ = fs::remove_file(&draft).await;
            let what = format!("error writing to file {}", path.display());
            return Err(failed(what, error));
        }
        let relative = path.strip_prefix(&self.root).unwrap_or(&path);
        let name = json::quote(&relative.to_string_lossy());
        Ok(Bytes::from(format!("{{\"fileName\":{name}}}")))
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let path = self.inside(name).await?;
        let unread = |error: std::io::Error| match error.kind() {
            IoKind::NotFound => Error::new(
                ErrorKind::NotFound,
                format!("file not found: {}", path.display()),
            ),
            _ => failed(format!("error reading file {}", path.display()), error),
        };
        let size = fs::metadata(&path).await.map_err(unread)?.len();
        if size > MAX_FILE {
            let problem = format!("{} is larger than {MAX_FILE} bytes", path.display());
            return Err(Error::invalid_request(problem));
        }
        fs::read(&path).await.map(Bytes::from).map_err(unread)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let path = self.inside(name).await?;
        let deleted = match fs::symlink_metadata(&path).await {
            _ if path == self.root => Err(IoKind::InvalidInput.into()),
            Ok(found) if found.is_dir() => fs::remove_dir(&path).await,
            _ => fs::remove_file(&path).await,
        };
        deleted.map_err(|error| failed(format!("error deleting file {}", path.display()), error))
    }

    async fn list(&self, name: &str) -> Result<Bytes> {
        let path = self.inside(name).await?;
        let folder = path.clone();
        let listed = task::spawn_blocking(move || list(&folder)).await;
        let listed =
            listed.map_err(|error| Error::internal("a folder could not be listed", error))?;
        let files = listed.map_err(|error| {
            failed(
                format!("error listing files in the directory {}", path.display()),
                error,
            )
        })?;
        if files.is_empty() {
            // Compat: Q-localstorage-empty: a folder without files is null.
            return Ok(Bytes::from_static(b"null"));
        }
        let files = files
            .iter()
            .map(|file| json::quote(&file.to_string_lossy()));
        let files: Vec<String> = files.collect();
        Ok(Bytes::from(format!("[{}]", files.join(","))))
    }
}

fn check(path: &Path) -> Result<(), String> {
    match REFUSED.iter().any(|refused| path.starts_with(refused)) {
        true => Err("points to a disallowed location".to_owned()),
        false => Ok(()),
    }
}

/// The part of a path that is there, as what it really is, and the rest of it.
async fn existing(path: &Path) -> PathBuf {
    for part in path.ancestors() {
        if let Ok(real) = fs::canonicalize(part).await {
            let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
            return real.join(rest);
        }
    }
    path.to_owned()
}

/// What is written for `data`: the text of a JSON string, and what a base64 text stands for.
fn content(data: &Bytes) -> Bytes {
    let unquoted = std::str::from_utf8(data).ok().and_then(|text| {
        let value = json::first_value(text.trim()).ok()?;
        Some(Bytes::from(json::string(value)?.into_owned()))
    });
    let data = unquoted.unwrap_or_else(|| data.clone());
    STANDARD.decode(&data).map(Bytes::from).unwrap_or(data)
}

/// All files below a folder, in order. Links are told as what they are called, and not followed.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
            if files.len() + folders.len() > MOST_LISTED {
                let problem = format!("there are more than {MOST_LISTED} files");
                return Err(std::io::Error::other(problem));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn failed(what: String, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        IoKind::NotFound => ErrorKind::NotFound,
        IoKind::PermissionDenied => ErrorKind::Unauthorized,
        _ => ErrorKind::InvalidRequest,
    };
    Error::new(kind, what).with_source(error)
}

impl Component for Files {}

#[async_trait]
impl OutputBinding for Files {
    fn operations(&self) -> Vec<String> {
        ["create", "get", "list", "delete"]
            .map(str::to_owned)
            .into()
    }

    async fn invoke(&self, request: &InvokeRequest) -> Result<InvokeResponse> {
        let name = request.metadata.get("fileName").map(String::as_str);
        let name = name.unwrap_or_default();
        let data = match request.operation.as_str() {
            "create" if name.is_empty() => {
                let name = Uuid::new_v4().to_string();
                Some(self.create(&name, &request.data).await?)
            }
            "create" => Some(self.create(name, &request.data).await?),
            "get" => Some(self.get(name).await?),
            "list" => Some(self.list(name).await?),
            "delete" => {
                self.delete(name).await?;
                None
            }
            other => {
                let problem = format!("unsupported operation {other}");
                return Err(Error::invalid_request(problem));
            }
        };
        Ok(InvokeResponse {
            data,
            ..InvokeResponse::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn invoke(files: &Files, operation: &str, name: &str, data: &str) -> Result<String> {
        let request = InvokeRequest {
            operation: operation.to_owned(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: [("fileName".to_owned(), name.to_owned())].into(),
        };
        let answer = files.invoke(&request).await?;
        let data = answer.data.unwrap_or_default();
        Ok(String::from_utf8(data.into()).unwrap())
    }

    async fn open(root: &Path) -> Result<Files> {
        let root = root.to_str().unwrap();
        Files::open(&Metadata::from_iter([("rootPath", root)])).await
    }

    #[tokio::test]
    async fn files_are_written_read_listed_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let files = open(&folder.path().join("new")).await.unwrap();
        assert_eq!(invoke(&files, "list", "", "").await.unwrap(), "null");
        let created = invoke(&files, "create", "a/b.txt", "\"text\"").await;
        // Four letters are base64, too.
        assert_eq!(created.unwrap(), r#"{"fileName":"a/b.txt"}"#);
        let plain = invoke(&files, "create", "c", "{\"a\":1}").await;
        plain.unwrap();
        let read = files.get("a/b.txt").await.unwrap();
        assert_eq!(&read[..], STANDARD.decode("text").unwrap());
        assert_eq!(invoke(&files, "get", "c", "").await.unwrap(), "{\"a\":1}");
        let all = invoke(&files, "list", "", "").await.unwrap();
        let path = |name: &str| json::quote(files.root.join(name).to_str().unwrap());
        assert_eq!(all, format!("[{},{}]", path("a/b.txt"), path("c")));
        invoke(&files, "delete", "c", "").await.unwrap();
        let gone = invoke(&files, "get", "c", "").await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        let named = invoke(&files, "create", "", "x").await.unwrap();
        assert!(named.len() > 36, "{named}");
        assert!(invoke(&files, "delete", "", "").await.is_err());
    }

    #[tokio::test]
    async fn nothing_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        std::fs::write(&outside, "secret").unwrap();
        let files = open(&folder.path().join("root")).await.unwrap();
        std::os::unix::fs::symlink(&outside, files.root.join("link")).unwrap();
        std::os::unix::fs::symlink("../..", files.root.join("up")).unwrap();
        for name in [
            "../outside",
            "a/../../outside",
            "link",
            "up/outside",
            "/../outside",
        ] {
            let error = invoke(&files, "get", name, "").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
        }
        let created = invoke(&files, "create", "../outside", "mine")
            .await
            .unwrap();
        assert_eq!(created, r#"{"fileName":"outside"}"#);
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
    }

    #[tokio::test]
    async fn places_of_the_system_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        for root in [
            "/proc/self",
            "/sys",
            "/var/run/secrets/a",
            link.to_str().unwrap(),
        ] {
            let error = open(Path::new(root)).await.err().unwrap();
            assert!(error.to_string().contains("disallowed"), "{root}: {error}");
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(open(&file).await.is_err());
    }
}
