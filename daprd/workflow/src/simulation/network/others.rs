//! What other apps ask, and what somebody sees who looks into the store.

use http::HeaderValue;
use prost::Message;
use proto::durabletask::HistoryEvent;

use super::*;
use crate::{calls::ADD_EVENT, record::Record};

impl World {
    /// Other apps may do from now on what this policy allows.
    pub fn set_access(&self, policy: &crds::WorkflowAccessPolicy) {
        for sidecar in self.network.sidecars.lock().iter() {
            sidecar.engine.set_access(std::slice::from_ref(policy));
        }
    }

    /// Another app hands an event to an instance.
    pub async fn tell_as(
        &self,
        app_id: &'static str,
        instance: &str,
        event: &HistoryEvent,
    ) -> Result<Response, Error> {
        let actor = actor(instance);
        let (host, _) = self.network.owner(&actor)?;
        let headers = [(actors::REMOTE, "true"), (actors::CALLER, app_id)];
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
        let request = Request {
            actor,
            method: ADD_EVENT.to_owned(),
            headers: headers.into_iter().collect(),
            data: event.encode_to_vec().into(),
            query: String::new(),
            content_type: String::new(),
        };
        host.call(request).await
    }

    /// The rows of the actors.
    pub fn state(&self) -> State {
        State::new(actors::state::Options {
            app_id: "shop".to_owned(),
            stores: self.parts.stores.clone(),
            ttl: false,
        })
    }

    /// An instance, as it is stored.
    pub async fn record(&self, instance: &str) -> Record {
        let record = Record::load(&self.state(), &actor(instance)).await;
        record.expect("readable").expect("an instance")
    }
}

/// The actor of an instance.
pub fn actor(instance: &str) -> ActorId {
    ActorId {
        kind: "dapr.internal.ns.shop.workflow".to_owned(),
        id: instance.to_owned(),
    }
}
