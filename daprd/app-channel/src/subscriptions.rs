//! The subscriptions that the app declares itself: `GET /dapr/subscribe`, or `ListTopicSubscriptions`.

use std::collections::BTreeMap;

use ::http::{Method, StatusCode};
use bytes::Bytes;
use serde::Deserialize;
use tonic::Code;
use values::json;

use crate::{AppChannel, Error};

/// A subscription that the app asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgrammaticSubscription {
    pub pubsub: String,
    pub topic: String,
    pub dead_letter_topic: String,
    pub metadata: BTreeMap<String, String>,
    /// Rules in order; the default route comes last, without an expression.
    pub rules: Vec<Rule>,
    pub bulk: Option<BulkSubscribe>,
}

/// A route and when it is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// CEL expression; empty always holds.
    pub expression: String,
    pub path: String,
}

/// How events are batched; 0 leaves it to the runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkSubscribe {
    pub max_messages: i32,
    pub max_await_ms: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Wire {
    pubsubname: String,
    topic: String,
    dead_letter_topic: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    route: Option<String>,
    routes: Option<WireRoutes>,
    bulk_subscribe: Option<WireBulk>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireRoutes {
    rules: Option<Vec<WireRule>>,
    default: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireRule {
    r#match: String,
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireBulk {
    enabled: bool,
    max_messages_count: i32,
    max_await_duration_ms: i32,
}

impl AppChannel {
    /// Asks the app. An app that does not know the question has no subscriptions.
    ///
    /// # Errors
    /// Where the app cannot be reached, or its answer cannot be read.
    pub async fn list_subscriptions(&self) -> Result<Vec<ProgrammaticSubscription>, Error> {
        if !self.is_configured() {
            return Ok(Vec::new());
        }
        if self.protocol().is_grpc() {
            self.list_grpc().await
        } else {
            self.list_http().await
        }
    }

    async fn list_http(&self) -> Result<Vec<ProgrammaticSubscription>, Error> {
        let answer = self
            .exchange(
                Method::GET,
                "/dapr/subscribe",
                self.app_id_header(),
                Bytes::new(),
            )
            .await?;
        match answer.status() {
            StatusCode::OK => parse(answer.body()),
            StatusCode::NOT_FOUND => Ok(Vec::new()),
            other => {
                tracing::error!("app returned http status code {other} from subscription endpoint");
                Ok(Vec::new())
            }
        }
    }

    async fn list_grpc(&self) -> Result<Vec<ProgrammaticSubscription>, Error> {
        match self.list_topic_subscriptions().await {
            Ok(answer) => Ok(answer
                .subscriptions
                .into_iter()
                .map(|wire| {
                    let routes = wire.routes.unwrap_or_default();
                    let mut rules: Vec<Rule> = routes
                        .rules
                        .into_iter()
                        .map(|rule| Rule {
                            expression: rule.r#match,
                            path: rule.path,
                        })
                        .collect();
                    rules.push(Rule {
                        expression: String::new(),
                        path: routes.default,
                    });
                    ProgrammaticSubscription {
                        pubsub: wire.pubsub_name,
                        topic: wire.topic,
                        dead_letter_topic: wire.dead_letter_topic,
                        metadata: wire.metadata,
                        rules,
                        bulk: wire.bulk_subscribe.filter(|bulk| bulk.enabled).map(|bulk| {
                            BulkSubscribe {
                                max_messages: bulk.max_messages_count,
                                max_await_ms: bulk.max_await_duration_ms,
                            }
                        }),
                    }
                })
                .collect()),
            Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
            Err(status) => Err(Error::Status(Box::new(status))),
        }
    }
}

fn parse(body: &[u8]) -> Result<Vec<ProgrammaticSubscription>, Error> {
    let list: Vec<Wire> =
        json::read(&String::from_utf8_lossy(body)).map_err(|error| Error::Malformed {
            what: "subscriptions of the app",
            problem: error.to_string(),
        })?;
    Ok(list
        .into_iter()
        .map(|wire| {
            let routes = wire.routes.unwrap_or_default();
            let mut rules: Vec<Rule> = routes
                .rules
                .unwrap_or_default()
                .into_iter()
                .map(|rule| Rule {
                    expression: rule.r#match,
                    path: rule.path,
                })
                .collect();
            let default = routes
                .default
                .filter(|path| !path.is_empty())
                .or(wire.route);
            rules.extend(default.filter(|path| !path.is_empty()).map(|path| Rule {
                expression: String::new(),
                path,
            }));
            ProgrammaticSubscription {
                pubsub: wire.pubsubname,
                topic: wire.topic,
                dead_letter_topic: wire.dead_letter_topic.unwrap_or_default(),
                metadata: wire.metadata.unwrap_or_default(),
                rules,
                bulk: wire
                    .bulk_subscribe
                    .filter(|bulk| bulk.enabled)
                    .map(|bulk| BulkSubscribe {
                        max_messages: bulk.max_messages_count,
                        max_await_ms: bulk.max_await_duration_ms,
                    }),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_routes_are_read() {
        let list = parse(
            br#"[{"pubsubname": "p", "topic": "a", "route": "/a"},
                 {"pubsubname": "p", "topic": "b", "deadLetterTopic": "d",
                  "routes": {"rules": [{"match": "event.type == 'x'", "path": "/x"}], "default": "/b"},
                  "bulkSubscribe": {"enabled": true, "maxMessagesCount": 5}}]"#,
        )
        .unwrap();
        assert_eq!(
            list[0].rules,
            [Rule {
                expression: "".into(),
                path: "/a".into()
            }]
        );
        assert_eq!(list[1].rules.len(), 2);
        assert_eq!(list[1].rules[1].path, "/b");
        assert_eq!(list[1].bulk.unwrap().max_messages, 5);
        assert_eq!(list[1].dead_letter_topic, "d");
    }

    #[test]
    fn fields_have_any_case() {
        let list = parse(br#"[{"pubsubName": "p", "Topic": "a", "Routes": {"Default": "/a"}}]"#);
        let list = list.unwrap();
        assert_eq!((&*list[0].pubsub, &*list[0].topic), ("p", "a"));
        assert_eq!(list[0].rules[0].path, "/a");
    }

    #[test]
    fn null_is_none_and_nonsense_is_an_error() {
        assert!(parse(b"null").unwrap().is_empty());
        assert!(parse(b"{}").is_err());
    }
}
