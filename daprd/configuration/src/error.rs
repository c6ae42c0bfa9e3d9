//! Why configuration could not be read or followed.

/// What callers tell apart.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no configuration store at all.
    #[error("configuration stores not configured")]
    NotConfigured,
    /// There are stores, but none of this name.
    #[error("configuration store {store} not found")]
    NotFound { store: String },
    /// There is no app to tell of changes.
    #[error("app channel is not initialized. cannot subscribe to configuration updates")]
    NoApp,
    /// There are as many subscriptions as there may be.
    #[error("there are {most} subscriptions already")]
    TooMany { most: usize },
    /// There is no subscription of this id.
    #[error("subscription with id {id} does not exist")]
    NoSubscription { id: String },
    /// The sidecar ends.
    #[error("the sidecar is shutting down")]
    Closed,
    /// What the component said.
    #[error("{}", component::error::chain(.0))]
    Component(#[from] component::Error),
}
