//! The server of a test, and waiting for what it does.

use std::time::Duration;

use tokio::time::Instant;

pub use component_conformance::servers::Mosquitto as Server;

/// Longest wait for a condition.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
