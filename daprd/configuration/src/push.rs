//! Tells an app of changes by calling it: `POST /configuration/{store}/{key}` (contract 2.4).

use app_channel::Error;
use bytes::Bytes;
use component::configuration::{Item, Items};
use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use proto::common::v1::{HttpExtension, InvokeRequest, http_extension::Verb};
use resiliency::{Outcome, policy, repeatable};
use tokio::sync::watch;
use values::json;

use crate::{engine::LOG, follow::Follower};

/// What a key of a path must not hold as it is; slashes part it, as they always did.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A subscription whose changes the app is called with. While the app takes nothing they wait in the store's queue, which
/// has a limit.
pub(crate) struct Push {
    follower: Follower,
    active: watch::Receiver<bool>,
}

/// An app that has not taken a change.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    App(#[from] Error),
    #[error("error sending configuration item to application, status {0}")]
    Status(u16),
}

impl Refused {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Status(status) => Outcome::Http(*status),
            Self::App(Error::Status(status)) => Outcome::Grpc(status.code() as i32),
            Self::App(_) => Outcome::Retryable,
        }
    }
}

impl Push {
    pub fn new(follower: Follower, active: watch::Receiver<bool>) -> Self {
        Self { follower, active }
    }

    /// Tells the app of changes until the subscription is ended; one that is being told is told to the end.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.follower.ended() => return,
                // The sender lives as long as the engine.
                _ = self.active.wait_for(|active| *active) => {}
            }
            let Some(items) = self.follower.next().await else {
                return;
            };
            for key in items.keys() {
                self.tell(key, &items).await;
            }
        }
    }

    async fn tell(&self, key: &str, items: &Items) {
        let (store, inner) = (self.follower.store(), self.follower.inner());
        let body = Bytes::from(update_json(self.follower.id(), items));
        let path = format!("/configuration/{store}/{key}");
        let policy = inner.registry.inbound(store);
        let attempt = repeatable(|_| self.call(&path, body.clone()));
        let classify = |refused: &Refused| match self.follower.has_ended() {
            // A subscription that ends makes no further attempt.
            true => Outcome::Permanent,
            false => refused.outcome(),
        };
        let told: Result<(), policy::Error<Refused>> = policy.run(attempt, classify).await;
        if let Err(error) = told {
            let problem = component::error::chain(&error);
            tracing::error!(target: LOG, "error sending configuration item to the app: {problem}");
        }
    }

    async fn call(&self, path: &str, body: Bytes) -> Result<(), Refused> {
        let app = &self.follower.inner().app;
        if app.protocol().is_grpc() {
            let request = InvokeRequest {
                method: path.to_owned(),
                data: Some(prost_types::Any {
                    type_url: String::new(),
                    value: body.to_vec(),
                }),
                content_type: JSON.to_owned(),
                http_extension: Some(HttpExtension {
                    verb: Verb::Post.into(),
                    ..HttpExtension::default()
                }),
            };
            app.on_invoke(request, HeaderMap::new()).await?;
            return Ok(());
        }
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(JSON));
        let headers = HeaderMap::from_iter([content_type]);
        let path = utf8_percent_encode(path, ESCAPED).to_string();
        let answer = app.exchange(Method::POST, &path, headers, body).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(Refused::Status(status.as_u16())),
        }
    }
}

const JSON: &str = "application/json";

/// A change as JSON: the subscription's id, and the items by key.
pub(crate) fn update_json(id: &str, items: &Items) -> String {
    let items: Vec<String> = items
        .iter()
        .map(|(key, item)| format!("{}:{}", json::quote(key), item_json(item)))
        .collect();
    format!(
        "{{\"id\":{},\"items\":{{{}}}}}",
        json::quote(id),
        items.join(",")
    )
}

/// What is empty is left out.
pub fn item_json(item: &Item) -> String {
    let text = |name: &str, value: &str| {
        (!value.is_empty()).then(|| format!("\"{name}\":{}", json::quote(value)))
    };
    let metadata = (!item.metadata.is_empty())
        .then(|| format!("\"metadata\":{}", json::string_map(&item.metadata)));
    let fields: Vec<String> = [
        text("value", &item.value),
        text("version", &item.version),
        metadata,
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("{{{}}}", fields.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_as_json_without_what_is_empty() {
        let item = |value: &str, version: &str| Item {
            value: value.to_owned(),
            version: version.to_owned(),
            metadata: Default::default(),
        };
        let items = Items::from([
            ("gone".to_owned(), Item::default()),
            ("k".to_owned(), item("v", "1")),
        ]);
        assert_eq!(
            update_json("i", &items),
            r#"{"id":"i","items":{"gone":{},"k":{"value":"v","version":"1"}}}"#
        );
        let mut own = item("v", "");
        own.metadata.insert("a".to_owned(), "b".to_owned());
        assert_eq!(item_json(&own), r#"{"value":"v","metadata":{"a":"b"}}"#);
    }
}
