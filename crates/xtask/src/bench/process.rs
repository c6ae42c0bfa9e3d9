//! A measured program: started on loopback ports, watched through `/proc`, killed at the end.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A running program.
pub(super) struct Process {
    child: Child,
    name: String,
    logs: PathBuf,
    started: Instant,
}

/// Memory of a process in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Resident.
    pub resident: u64,
    /// Resident and not backed by a file: what it really costs.
    pub anonymous: u64,
    /// Resident, with shared pages divided by their users.
    pub proportional: u64,
    /// Most that was ever resident.
    pub peak: u64,
}

impl Memory {
    /// What a process occupies now.
    pub fn of(pid: u32) -> Result<Self> {
        let proc = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(proc.join("status"))?;
        // Older kernels have no such file.
        let rollup = std::fs::read_to_string(proc.join("smaps_rollup")).unwrap_or_default();
        Ok(Memory {
            resident: kib(&status, "VmRSS:").context("VmRSS is missing")?,
            anonymous: kib(&status, "RssAnon:").context("RssAnon is missing")?,
            peak: kib(&status, "VmHWM:").unwrap_or(0),
            proportional: kib(&rollup, "Pss:").unwrap_or(0),
        })
    }
}

/// KiB in the unit of the results.
pub(super) fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}

impl Process {
    /// Starts a program with nothing in its environment but `env`, as a container would.
    pub fn start(
        path: &Path,
        args: &[String],
        env: &BTreeMap<String, String>,
        logs: &Path,
    ) -> Result<Self> {
        let name = path
            .file_name()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let log = std::fs::File::create(logs)?;
        let mut command = Command::new(path);
        command.args(args).env_clear().envs(env);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", path.display()))?;
        Ok(Process {
            child,
            name,
            logs: logs.to_owned(),
            started,
        })
    }

    /// Waits until `path` on a loopback port answers with 2xx, and gives the time since the start.
    pub fn ready(&mut self, port: u16, path: &str) -> Result<Duration> {
        self.ready_when(|| matches!(status(port, path), Ok(200..=299)))
    }

    /// Waits until a condition holds, and gives the time since the start.
    pub fn ready_when(&mut self, condition: impl Fn() -> bool) -> Result<Duration> {
        while self.started.elapsed() < READY {
            if condition() {
                return Ok(self.started.elapsed());
            }
            if let Some(end) = self.child.try_wait()? {
                bail!(
                    "{} ended with {end} before it was ready, and last said {}",
                    self.name,
                    self.last_words()
                );
            }
            pause(Duration::from_millis(1));
        }
        bail!("{} was not ready within {READY:?}", self.name)
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.logs).unwrap_or_default();
        log.lines().next_back().unwrap_or("nothing").to_owned()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        let asked = Command::new("sh")
            .args(["-c", "kill -s TERM \"$0\"", &pid])
            .status()?;
        ensure!(asked.success(), "cannot stop {}", self.name);
        self.child.wait()?;
        Ok(())
    }

    /// Since when it runs.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What it occupies now.
    pub fn memory(&self) -> Result<Memory> {
        Memory::of(self.child.id())
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let ticks = ticks(&stat).context("/proc/<pid>/stat is malformed")?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way nobody is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub(super) fn port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Status of a GET without any HTTP library, so that polling costs next to nothing.
pub(super) fn status(port: u16, path: &str) -> Result<u16> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    let text = std::str::from_utf8(&head)?;
    ensure!(text.starts_with("HTTP/1."), "no HTTP");
    Ok(text[9..].parse()?)
}

/// Waits without a busy loop. A bench paces itself by the clock; there is no condition to wait for.
pub(super) fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time; the name before them may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// How long a program may take to start.
const READY: Duration = Duration::from_secs(60);

/// Unit of CPU time in `/proc`; the same on every Linux machine.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        assert_eq!(
            kib("VmRSS:\t  1234 kB\nRssAnon: 7 kB\n", "RssAnon:"),
            Some(7)
        );
        assert_eq!(kib("", "VmRSS:"), None);
        let stat = "1 (a ) b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("1"), None);
    }
}
