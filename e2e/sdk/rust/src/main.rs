//! Apps of the official SDK with clients that say by the exit code whether all was as it should be.
//!
//!     apps workflows FOLDER
//!     apps actors PORT

mod actors;
mod workflows;

use std::time::Duration;

/// Long enough for a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

type Problem = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Problem> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["workflows", folder] => workflows::run(folder.as_ref()).await,
        ["actors", port] => actors::run(port.parse()?).await,
        _ => Err("apps workflows FOLDER | apps actors PORT".into()),
    }
}

/// Looks until the probe finds what it looks for: the sidecar may be away, or not know of everybody yet.
async fn eventually(
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<bool, Problem>,
) -> Result<(), Problem> {
    let end = tokio::time::Instant::now() + DEADLINE;
    loop {
        let found = probe().await;
        if matches!(found, Ok(true)) {
            return Ok(());
        }
        if tokio::time::Instant::now() > end {
            return Err(format!("waited for {what}: {found:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
