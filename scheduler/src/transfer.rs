//! Moves jobs between stores by a file: `scheduler export FILE` and `scheduler import FILE`.
//!
//! The file has a line of JSON for each job, between one that says what it is and one that says how many there are. What is
//! stored of a job, and how far it has come, are upstream's messages (contract 8.2) in base64; both change stores unread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use prost::Message as _;
use proto::cron::{Counter, StoredJob};
use serde::{Deserialize, Serialize};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio_util::codec::{FramedRead, LinesCodec};

use crate::cron::reading;
use crate::flags;
use crate::names::{self, COUNTERS, JOBS, LEADERSHIP};
use crate::store::embedded::{self, Embedded};
use crate::store::{self, Compare, Op, Range, Txn, etcd};

/// What is done instead of running.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Command {
    /// Write all jobs of the store to a file. What schedulers fire meanwhile may be in it, too; the store in a folder is that
    /// of one that does not run
    Export {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Read jobs from a file into the store. What is there already stays; it may be repeated. Schedulers may run on an etcd
    /// meanwhile
    Import {
        /// The file
        file: PathBuf,
        /// Jobs of the file take the place of others of their names
        #[arg(long)]
        replace: bool,
    },
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    First {
        format: String,
        version: u32,
    },
    Job {
        name: String,
        job: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        counter: Option<String>,
    },
    Last {
        jobs: u64,
    },
}

/// A job to be written.
struct Moved {
    name: String,
    job: Bytes,
    counter: Option<Bytes>,
}

/// What came of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Written,
    /// It was there.
    Same,
    /// Another one has its name, and stays.
    Kept,
}

/// How many of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    written: u64,
    same: u64,
    kept: u64,
}

/// Does what is asked.
///
/// # Errors
/// What was wrong with the store or the file, by the line.
pub(crate) async fn run(command: &Command, options: &flags::Store) -> anyhow::Result<()> {
    if let (Command::Export { .. }, flags::Store::Embedded(options)) = (command, options) {
        ensure_store(&options.folder)?;
    }
    let (store, writer) = open(options)?;
    // The store of this program is open to one: records in it are of one that was killed.
    if writer.is_none() && matches!(command, Command::Export { .. }) {
        let running = store.range(Range::prefix(LEADERSHIP)).await?.entries;
        if !running.is_empty() {
            tracing::warn!(
                "{} schedulers run on this store: what they fire meanwhile may be exported, too",
                running.len()
            );
        }
    }
    match command {
        Command::Export { file } => {
            let jobs = export(&store, file).await?;
            tracing::info!("{jobs} jobs are in {}", file.display());
        }
        Command::Import { file, replace } => {
            let Count {
                written,
                same,
                kept,
            } = import(&store, file, *replace).await?;
            tracing::info!("{written} jobs were written, {same} were there already");
            if kept > 0 {
                tracing::warn!(
                    "{kept} jobs have a name that is taken by another one, and were left out; --replace writes them"
                );
            }
        }
    }
    drop(store);
    if let Some(writer) = writer {
        writer.ended().await?;
    }
    Ok(())
}

fn open(options: &flags::Store) -> anyhow::Result<(store::Shared, Option<embedded::Writer>)> {
    Ok(match options {
        flags::Store::Etcd(options) => (Arc::new(etcd::Etcd::new(options)?), None),
        flags::Store::Embedded(options) => {
            let opened: (Embedded, _) = crate::server::open(&options.folder, options.quota)?;
            (Arc::new(opened.0), Some(opened.1))
        }
    })
}

/// A store that is not there is not made by who wants to read it.
fn ensure_store(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join(crate::server::FILE);
    let size = std::fs::metadata(&file).map_or(0, |file| file.len());
    ensure!(
        size > 0,
        "there is no store in {}: see --etcd-data-dir, or --etcd-client-endpoints for one that runs",
        folder.display()
    );
    Ok(())
}

/// Writes all jobs to a new file; how many.
async fn export(store: &store::Shared, path: &Path) -> anyhow::Result<u64> {
    let mut options = File::options();
    // Jobs may hold what is nobody else's business, like the store itself.
    let file = options.write(true).create_new(true).mode(0o600);
    let file = file.open(path).await;
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    let mut file = BufWriter::new(file);
    let first = Line::First {
        format: FORMAT.to_owned(),
        version: VERSION,
    };
    write(&mut file, &first).await?;
    let (mut next, mut jobs) = (Some(reading::first()), 0);
    while let Some(start) = next {
        let page = reading::page(store.clone(), start).await?;
        for job in &page.jobs {
            let Some(name) = names::of_key(&job.key, JOBS) else {
                bail!("the key {:?} is not text", job.key);
            };
            let counter = page
                .counters
                .get(name)
                .map(|counter| counter.encode_to_vec());
            let line = Line::Job {
                name: name.to_owned(),
                job: BASE64_STANDARD.encode(&job.value),
                counter: counter.map(|counter| BASE64_STANDARD.encode(counter)),
            };
            write(&mut file, &line).await?;
            jobs += 1;
        }
        next = page.next;
    }
    write(&mut file, &Line::Last { jobs }).await?;
    file.flush().await?;
    file.into_inner().sync_all().await?;
    Ok(jobs)
}

async fn write(file: &mut BufWriter<File>, line: &Line) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    Ok(file.write_all(&line).await?)
}

/// Writes the jobs of a file, once all of it has been looked at.
async fn import(store: &store::Shared, path: &Path, replace: bool) -> anyhow::Result<Count> {
    walk(path, |_| async { Ok(Done::Same) }).await?;
    walk(path, |job| async move { put(store, &job, replace).await }).await
}

/// Does something with each job of a file.
async fn walk<F, Fut>(path: &Path, act: F) -> anyhow::Result<Count>
where
    F: Fn(Moved) -> Fut,
    Fut: Future<Output = anyhow::Result<Done>>,
{
    let file = File::open(path).await;
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    let lines = FramedRead::new(file, LinesCodec::new_with_max_length(MAX_LINE));
    let mut ends = None;
    let mut read = 0;
    let jobs = lines.enumerate().map(|(number, line)| {
        let line = line
            .map_err(anyhow::Error::from)
            .and_then(|line| parse(&line));
        let line = line.with_context(|| format!("line {} of {}", number + 1, path.display()))?;
        ensure!(
            ends.is_none(),
            "line {} of {} is behind the last one",
            number + 1,
            path.display()
        );
        match line {
            Line::First { format, version } => {
                ensure!(
                    number == 0 && format == FORMAT && version == VERSION,
                    "{}",
                    foreign(path)
                );
                Ok(None)
            }
            Line::Last { jobs } => {
                ends = Some(jobs);
                Ok(None)
            }
            Line::Job { .. } if number == 0 => bail!("{}", foreign(path)),
            Line::Job { name, job, counter } => {
                read += 1;
                let moved = moved(name, &job, counter.as_deref());
                moved
                    .map(Some)
                    .with_context(|| format!("line {} of {}", number + 1, path.display()))
            }
        }
    });
    let written = jobs
        .try_filter_map(|job| async { Ok(job) })
        .map(|job| async {
            match job {
                Ok(job) => {
                    let name = job.name.clone();
                    act(job).await.with_context(|| format!("job {name:?}"))
                }
                Err(error) => Err(error),
            }
        })
        .buffered(AT_ONCE);
    let count = written.try_fold(Count::default(), |mut count, done| async move {
        match done {
            Done::Written => count.written += 1,
            Done::Same => count.same += 1,
            Done::Kept => count.kept += 1,
        }
        Ok(count)
    });
    let count = count.await?;
    let Some(ends) = ends else {
        bail!(
            "{} has no last line: the export did not end",
            path.display()
        );
    };
    ensure!(
        ends == read,
        "{} has {read} jobs instead of {ends}",
        path.display()
    );
    Ok(count)
}

fn foreign(path: &Path) -> String {
    format!(
        "{} does not begin as an export of this program does",
        path.display()
    )
}

fn parse(line: &str) -> anyhow::Result<Line> {
    serde_json::from_str(line).context("is no line of an export")
}

/// Checks a job.
fn moved(name: String, job: &str, counter: Option<&str>) -> anyhow::Result<Moved> {
    names::checked(&name)?;
    let job = BASE64_STANDARD.decode(job).context("job")?;
    StoredJob::decode(&job[..]).context("job")?;
    let counter = counter.map(|counter| BASE64_STANDARD.decode(counter).context("counter"));
    let counter = counter.transpose()?;
    if let Some(counter) = &counter {
        Counter::decode(&counter[..]).context("counter")?;
    }
    Ok(Moved {
        name,
        job: job.into(),
        counter: counter.map(Bytes::from),
    })
}

async fn put(store: &store::Shared, moved: &Moved, replace: bool) -> anyhow::Result<Done> {
    let key = Bytes::from(format!("{JOBS}{}", moved.name));
    let counter = Bytes::from(format!("{COUNTERS}{}", moved.name));
    let known = store.range(Range::one(key.clone())).await?.entries;
    let compare = match known.first() {
        None => Compare::Absent(key.clone()),
        Some(known) if known.value == moved.job => return Ok(Done::Same),
        Some(_) if !replace => return Ok(Done::Kept),
        Some(known) => Compare::Modified(key.clone(), known.modified),
    };
    let counted = match &moved.counter {
        Some(value) => Op::put(counter, value.clone()),
        None => Op::delete(counter),
    };
    let txn = Txn {
        compare: vec![compare],
        then: vec![Op::put(key, moved.job.clone()), counted],
    };
    let done = store.commit(txn).await?;
    ensure!(done.held, "it was written by somebody else meanwhile");
    Ok(Done::Written)
}

const FORMAT: &str = "dapr-scheduler-jobs";
const VERSION: u32 = 1;

/// Jobs that are being written at a time.
const AT_ONCE: usize = 256;

/// Bytes of a line: four thirds of what a store takes as one value, and the name.
const MAX_LINE: usize = 64 << 20;

#[cfg(test)]
mod tests;
