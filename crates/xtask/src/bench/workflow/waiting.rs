//! Workflows that wait, and histories that grow.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use workflow_worker::TaskHub;

use super::load::{self, Begun, LONG};
use crate::bench::print;
use crate::bench::process::Process;

/// How late workflows end that sleep for five seconds, of many that are started at once.
pub async fn timers(hub: &TaskHub, label: &str, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let began = Instant::now();
    let ids = start_all(hub, count, "5").await?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let mut took = stream::iter(ids)
        .map(|id| async move {
            let state = load::ended(hub, id).await?;
            let at = |time: Option<prost_types::Timestamp>| {
                time.as_ref()
                    .and_then(proto::time::from_wire)
                    .context("no time of a workflow's begin or end")
            };
            let ended = at(state.completed_timestamp.or(state.last_updated_timestamp))?;
            anyhow::Ok(
                ended
                    .duration_since(at(state.created_timestamp)?)
                    .as_secs_f64(),
            )
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<f64>>()
        .await?;
    took.sort_unstable_by(f64::total_cmp);
    print(&format!(
        "  {label:<24} {count} that sleep 5 s, started at {rate:.0}/s: p50 {:.2} s, p95 {:.2} s, last {:.2} s",
        took[count / 2],
        took[count * 95 / 100],
        took[count - 1],
    ))
}

/// What an instance takes that waits.
pub async fn sleeping(hub: &TaskHub, label: &str, count: usize, daprd: &Process) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let before = daprd.memory()?.anonymous;
    let began = Instant::now();
    start_all(hub, count, "3600").await?;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    // What has been let go comes back to the system only after a while.
    tokio::time::sleep(SETTLE).await;
    let after = daprd.memory()?.anonymous;
    let each = after.saturating_sub(before) * 1024 / count as u64;
    print(&format!(
        "  {label:<24} {count} that sleep an hour, started at {rate:.0}/s: {each} bytes each"
    ))
}

/// What an activity costs at the beginning of a long history, and at its end.
pub async fn growth(hub: &TaskHub, label: &str, begun: &Begun, daprd: &Process) -> Result<()> {
    let before = daprd.cpu()?;
    load::one(hub, "long").await?;
    let cpu = daprd.cpu()?.saturating_sub(before);
    let begun = begun.lock().map(|mut begun| std::mem::take(&mut *begun));
    let begun = begun.unwrap_or_default();
    ensure!(
        begun.len() >= LONG,
        "only {} of {LONG} activities ran",
        begun.len()
    );
    let each = |part: &[Instant]| {
        let took = part[part.len() - 1].duration_since(part[0]);
        took.as_secs_f64() * 1000.0 / (part.len() - 1) as f64
    };
    print(&format!(
        "  {label:<24} {LONG} activities in a row: the first {PART} {:.2} ms each, the last {:.2} ms; {:.2} ms of CPU each",
        each(&begun[..PART]),
        each(&begun[begun.len() - PART..]),
        cpu.as_secs_f64() * 1000.0 / LONG as f64,
    ))
}

async fn start_all(hub: &TaskHub, count: usize, seconds: &str) -> Result<Vec<String>> {
    stream::iter(0..count)
        .map(|_| load::start(hub, "sleep", seconds))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Calls under way at a time.
const AT_ONCE: usize = 110;

/// Activities whose times are averaged.
const PART: usize = 200;

/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_secs(10);
