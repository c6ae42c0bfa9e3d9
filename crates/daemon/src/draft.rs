//! Files that are replaced as a whole: written beside their place first, so that no reader sees half of one, and no crash
//! leaves one.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that is on disk beside its place. Of several, all can be written before the first is put in place.
#[derive(Debug)]
#[must_use = "it is in nobody's way until it is put in place"]
pub struct Draft {
    beside: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Writes a file that nobody else can read. What an earlier attempt has left beside is replaced.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(path: &Path, content: &[u8]) -> io::Result<Self> {
        fs::create_dir_all(folder(path))?;
        let mut beside = OsString::from(path);
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        Ok(Self {
            beside,
            path: path.to_owned(),
        })
    }

    /// Puts it in place: a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn place(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)
    }
}

/// Replaces one file as a whole; on return no crash brings the old one back.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    Draft::write(path, content)?.place()?;
    fs::File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// For the owner alone.
const MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/file");
        replace(&path, b"first").unwrap();
        let draft = Draft::write(&path, b"lost").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        drop(draft);
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        let names = fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(names.count(), 1, "nothing is left beside");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }
}
