//! What every component can be asked, whatever its kind.

use async_trait::async_trait;

use crate::Result;

/// The part that all kinds share; each kind's trait builds on it. Opening is the catalog's.
#[async_trait]
pub trait Component: Send + Sync + 'static {
    /// Whether the backend answers.
    ///
    /// # Errors
    /// The backend's.
    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    /// Releases what the component holds: what it announced is withdrawn, what it subscribed to ends, and calls after it
    /// fail. Called once, after the last call that uses it has ended or has been given up.
    async fn close(&self) {}
}
