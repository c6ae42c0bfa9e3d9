//! The actor that deletes the state of an instance once it has been kept long enough.

use std::sync::Arc;

use actors::{
    ActorId, Error as ActorError, Request, Response,
    host::{Firing, Host},
};
use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Error,
    calls::{self, PURGE},
    engine::Inner,
    metrics::PURGE as PURGED,
};

/// Hosts them.
pub struct RetentionHost(pub Arc<Inner>);

#[async_trait]
impl Host for RetentionHost {
    async fn call(&self, request: Request) -> Result<Response, ActorError> {
        Err(ActorError::NoMethod(request.method))
    }

    async fn remind(&self, firing: Firing) -> Result<(), ActorError> {
        let actor = self.0.actor(&firing.actor.id);
        let headers = calls::flag(calls::OF_RETENTION);
        let purge = async {
            let what = || "the purge of what was kept long enough".to_owned();
            let call = self.0.call(actor, PURGE, Bytes::new(), headers);
            match self.0.within(self.0.patience(), what, call).await {
                // Gone already, or begun anew, which will be kept for a time of its own.
                Ok(_) | Err(Error::NotFound | Error::NotCompleted(_) | Error::Stalled) => Ok(()),
                Err(error) => Err(error),
            }
        };
        let purged = self.0.measured(PURGED, purge).await;
        purged.map_err(Error::into_actors)
    }

    async fn timer(&self, firing: Firing) -> Result<(), ActorError> {
        Err(ActorError::NoMethod(firing.name))
    }

    async fn deactivate(&self, _: &ActorId) -> Result<(), ActorError> {
        Ok(())
    }
}
