//! Actors that the app hosts, over its HTTP callbacks.

use std::sync::Arc;

use app_channel::AppChannel;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use resiliency::{Call, Outcome, Policies};

use crate::{
    ActorId, Error, Request, Response,
    host::{Firing, Host},
    json,
};

/// The app.
pub struct AppHost {
    app: AppChannel,
    policies: Arc<ArcSwap<Policies>>,
}

impl AppHost {
    pub fn new(app: AppChannel, policies: Arc<ArcSwap<Policies>>) -> Self {
        Self { app, policies }
    }

    /// Asks the app under the policy of a turn.
    async fn ask(&self, request: Request) -> Result<Response, Error> {
        let policy = self.policies.load().actor_turn(&request.actor.kind);
        let attempt = Call::once(self.ask_once(request));
        let answer = policy.run(attempt, |_| Outcome::Permanent).await;
        answer.map_err(Error::from_policy)
    }

    async fn ask_once(&self, request: Request) -> Result<Response, Error> {
        let Request {
            actor,
            method,
            query,
            content_type,
            mut headers,
            data,
        } = request;
        headers.remove(header::CONTENT_LENGTH);
        if let Ok(value) = HeaderValue::from_str(&content_type)
            && !content_type.is_empty()
        {
            headers.insert(header::CONTENT_TYPE, value);
        }
        let ActorId { kind, id } = &actor;
        let answer = self
            .app
            .call_actor(kind, id, &method, &query, headers, data);
        let (parts, body) = answer.await?.into_parts();
        if parts.status == StatusCode::NOT_FOUND {
            let path = format!("actors/{kind}/{id}/method/{method}");
            return Err(Error::NoMethod(path));
        }
        if parts.status != StatusCode::OK {
            return Err(failed(parts.status, &body));
        }
        let content_type = parts.headers.get(header::CONTENT_TYPE);
        let response = Response {
            status: parts.status.as_u16(),
            content_type: content_type
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            headers: parts.headers,
            data: body,
        };
        if response.headers.contains_key(&ERROR_RESPONSE) {
            return Err(Error::Actor(Box::new(response)));
        }
        let cancel = response.headers.get(&REMINDER_CANCEL);
        if cancel.is_some_and(|value| value.to_str().is_ok_and(values::is_truthy)) {
            return Err(Error::Canceled);
        }
        Ok(response)
    }

    async fn fire(&self, what: &str, firing: Firing) -> Result<(), Error> {
        let body = body(&firing)?;
        let request = Request {
            method: format!("{what}/{}", firing.name),
            actor: firing.actor,
            query: String::new(),
            content_type: "application/json".to_owned(),
            headers: HeaderMap::new(),
            data: body.into(),
        };
        self.ask(request).await.map(drop)
    }
}

#[async_trait]
impl Host for AppHost {
    async fn call(&self, request: Request) -> Result<Response, Error> {
        self.ask(request).await
    }

    async fn remind(&self, firing: Firing) -> Result<(), Error> {
        self.fire("remind", firing).await
    }

    async fn timer(&self, firing: Firing) -> Result<(), Error> {
        self.fire("timer", firing).await
    }

    async fn deactivate(&self, actor: &ActorId) -> Result<(), Error> {
        let answer = self.app.deactivate_actor(&actor.kind, &actor.id).await?;
        match answer.status() {
            StatusCode::OK => Ok(()),
            status => Err(failed(status, answer.body())),
        }
    }
}

fn failed(status: StatusCode, body: &Bytes) -> Error {
    Error::Failed {
        status: status.as_u16(),
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

/// The JSON of a reminder or a timer, in the order that SDKs are used to.
fn body(firing: &Firing) -> Result<String, Error> {
    let mut out = String::from("{");
    if let Some(data) = json::unpacked(firing.data.as_ref())? {
        out.push_str("\"data\":");
        out.push_str(&data);
        out.push(',');
    }
    let mut fields = Vec::new();
    if firing.is_timer {
        fields.push(("callback", &firing.callback));
    }
    fields.extend([("dueTime", &firing.due_time), ("period", &firing.period)]);
    let fields: Vec<String> = fields
        .into_iter()
        .map(|(name, value)| format!("\"{name}\":{}", values::json::quote(value)))
        .collect();
    out.push_str(&fields.join(","));
    out.push('}');
    Ok(out)
}

/// The answer is an error of the actor (contract 11.1).
pub const ERROR_RESPONSE: HeaderName = HeaderName::from_static("x-daprerrorresponseheader");

/// The actor wants no more of what fired.
const REMINDER_CANCEL: HeaderName = HeaderName::from_static("x-daprremindercancel");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fires_has_the_json_that_was_registered() {
        let mut firing = Firing {
            actor: ActorId {
                kind: "k".to_owned(),
                id: "1".to_owned(),
            },
            name: "n".to_owned(),
            due_time: "1s".to_owned(),
            period: String::new(),
            callback: "m".to_owned(),
            data: Some(json::packed(r#"{"a":1.0}"#.into())),
            is_timer: true,
        };
        let timer = r#"{"data":{"a":1.0},"callback":"m","dueTime":"1s","period":""}"#;
        assert_eq!(body(&firing).unwrap(), timer);
        firing.is_timer = false;
        firing.data = Some(json::packed("".into()));
        assert_eq!(body(&firing).unwrap(), r#"{"dueTime":"1s","period":""}"#);
        firing.data = Some(json::packed("no json".into()));
        assert!(body(&firing).is_err());
    }
}
