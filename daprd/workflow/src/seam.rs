//! What workflows need of actors: calls wherever an actor lives, and hosting. Simulations put networks in its place that lose calls.

use std::sync::Arc;

use actors::{
    ActorId, Engine, Error, Kind, Request, Response,
    host::{Answers, Firing, Host},
};
use async_trait::async_trait;

/// The actors, of this sidecar and of others.
#[async_trait]
pub trait Actors: Send + Sync {
    /// Calls a method.
    async fn invoke(&self, request: Request) -> Result<Response, Error>;

    /// Calls a method that goes on answering.
    async fn follow(&self, request: Request) -> Result<Answers, Error>;

    /// Fires a reminder that no scheduler has, and comes back once it has run.
    async fn wake(&self, actor: ActorId, name: String) -> Result<(), Error>;

    /// Hosts types, until they are withdrawn.
    fn host(&self, kinds: Vec<(String, Kind)>);

    /// Nothing is hosted by `host` any more; on return its actors are deactivated.
    async fn withdraw(&self, host: &Arc<dyn Host>);
}

#[async_trait]
impl Actors for Engine {
    async fn invoke(&self, request: Request) -> Result<Response, Error> {
        Self::invoke(self, request).await
    }

    async fn follow(&self, request: Request) -> Result<Answers, Error> {
        Self::follow(self, request).await
    }

    async fn wake(&self, actor: ActorId, name: String) -> Result<(), Error> {
        let firing = Firing {
            actor,
            name,
            due_time: String::new(),
            period: String::new(),
            callback: String::new(),
            data: None,
            is_timer: false,
        };
        self.fire(firing).await
    }

    fn host(&self, kinds: Vec<(String, Kind)>) {
        Self::host(self, kinds);
    }

    async fn withdraw(&self, host: &Arc<dyn Host>) {
        Self::withdraw(self, host).await;
    }
}
