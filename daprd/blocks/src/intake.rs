//! What takes something in from outside: it listens to the app's health and to shutdown.

use async_trait::async_trait;

/// A part that hands events to the app: subscriptions, input bindings, followed configuration. The sidecar starts it while
/// the app is healthy and drains it before the servers stop.
#[async_trait]
pub trait Intake: Send + Sync {
    /// The app takes events: opens what is declared. On return it is open, or is tried again in the background. Dropping the
    /// future before that is harmless: what has begun goes on, and [`Intake::stop`] may follow at once.
    async fn start(&self);

    /// The app takes no events: closes what is open once what is being delivered has ended. [`Intake::start`] opens it again.
    /// Dropping the future before that is as harmless: what has been begun to close goes on closing.
    async fn stop(&self);

    /// The sidecar ends: nothing is taken in any more, and on return what had been taken has been delivered or given back.
    /// It stays so.
    async fn drain(&self);
}
