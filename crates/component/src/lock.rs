//! Lock stores: leases on named resources.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Component, Result};

/// Asks for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// The resource, prefix included.
    pub resource: String,
    /// Who will hold it.
    pub owner: String,
    /// When it lapses by itself; at least a second.
    pub expiry: Duration,
}

/// Gives a lease back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlockRequest {
    /// The resource, prefix included.
    pub resource: String,
    /// Who holds it.
    pub owner: String,
}

/// What became of a lease that was to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlocked {
    /// It is free.
    Success,
    /// Nobody held it.
    DoesNotExist,
    /// Somebody else holds it, and goes on holding it.
    BelongsToOthers,
}

/// A lock store. Leases are atomic: of any number of callers one gets a free resource.
#[async_trait]
pub trait Lock: Component {
    /// Takes a resource for `owner` if it is free; whether it did. A holder that asks again does not get it twice.
    ///
    /// # Errors
    /// The backend's.
    async fn try_lock(&self, request: &LockRequest) -> Result<bool>;

    /// Gives a resource back if `owner` holds it.
    ///
    /// # Errors
    /// The backend's.
    async fn unlock(&self, request: &UnlockRequest) -> Result<Unlocked>;
}
