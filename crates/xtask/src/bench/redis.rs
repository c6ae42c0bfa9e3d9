//! A Redis for the sidecars of a bench: Debian's, empty, and only in memory, so that what is measured is not a disk.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result};

use super::calls::Target;
use super::load;
use super::process::{self, Process};

/// A running server; gone when dropped.
pub(super) struct Redis {
    pub port: u16,
    _process: Process,
}

impl Redis {
    pub fn start(folder: &Path) -> Result<Self> {
        let port = process::port()?;
        let args = [
            ("--bind", "127.0.0.1"),
            ("--port", &port.to_string()),
            ("--dir", &folder.display().to_string()),
            ("--save", ""),
            ("--appendonly", "no"),
        ];
        let args: Vec<String> = args
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
            .collect();
        let path = std::env::var("PATH").unwrap_or_default();
        let program = std::env::split_paths(OsStr::new(&path))
            .map(|folder| folder.join("redis-server"))
            .find(|program| program.is_file())
            .context("redis-server is missing: it is in the Debian package redis-server")?;
        let log = folder.join("redis.log");
        let mut process = Process::start(&program, &args, &[].into(), &log)?;
        let ping = Target::redis(port, &[vec!["PING".to_owned()]]);
        process.ready_when(|| load::once(&ping).is_ok())?;
        Ok(Redis {
            port,
            _process: process,
        })
    }
}
