//! What a subscription says: topic, routes, dead letter topic, batching. Compiled once, from a resource, from the app's own
//! list, or from a stream's first message.

use std::{collections::BTreeMap, time::Duration};

use app_channel::ProgrammaticSubscription;
use component::pubsub::Batching;
use expressions::{Expression, Variables};

use crate::{Error, cloud_event};

/// Where a subscription came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionKind {
    Declarative,
    Programmatic,
    Streaming,
}

/// A subscription as the metadata API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub pubsub: String,
    pub topic: String,
    pub metadata: BTreeMap<String, String>,
    /// CEL expression and path, in order.
    pub rules: Vec<(String, String)>,
    pub dead_letter_topic: String,
    pub kind: SubscriptionKind,
}

/// A compiled subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub pubsub: String,
    pub topic: String,
    pub metadata: BTreeMap<String, String>,
    pub rules: Vec<Rule>,
    pub dead_letter_topic: Option<String>,
    pub bulk: Option<Batching>,
    pub kind: SubscriptionKind,
    /// Whether messages come without an envelope, or what is wrong with the field that says so.
    pub raw: Result<bool, String>,
}

/// A path in the app, and which events take it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Without one, every event does.
    pub expression: Option<Expression>,
    pub path: String,
}

/// Largest batch that is asked for at once, whatever a subscription says.
const MOST_BATCHED: i32 = 10_000;

fn batching(most: i32, wait_ms: i32) -> Batching {
    let or = |value: i32, default: i32| if value > 0 { value } else { default };
    let most = or(most, crds::subscription::BulkSubscribe::DEFAULT_MESSAGES).min(MOST_BATCHED);
    let wait = or(wait_ms, crds::subscription::BulkSubscribe::DEFAULT_AWAIT_MS);
    Batching {
        most: usize::try_from(most).unwrap_or(1),
        wait: Duration::from_millis(u64::try_from(wait).unwrap_or_default()),
    }
}

impl Subscription {
    /// Compiles a resource.
    ///
    /// # Errors
    /// [`Error::Rule`], [`Error::TopicEmpty`].
    pub fn declared(resource: crds::Subscription) -> Result<Self, Error> {
        let spec = resource.spec;
        check_topic(&spec.pubsubname, &spec.topic)?;
        let mut rules: Vec<(String, String)> = spec
            .routes
            .rules
            .into_iter()
            .map(|rule| (rule.expression, rule.path))
            .collect();
        let default = spec.routes.default_path.filter(|path| !path.is_empty());
        rules.extend(default.map(|path| (String::new(), path)));
        Ok(Self {
            rules: compile(&spec.topic, rules)?,
            raw: cloud_event::is_raw(&spec.metadata),
            pubsub: spec.pubsubname,
            topic: spec.topic,
            metadata: spec.metadata,
            dead_letter_topic: spec.dead_letter_topic.filter(|topic| !topic.is_empty()),
            bulk: spec.bulk_subscribe.filter(|bulk| bulk.enabled).map(|bulk| {
                batching(
                    bulk.max_messages_count.unwrap_or_default(),
                    bulk.max_await_duration_ms.unwrap_or_default(),
                )
            }),
            kind: SubscriptionKind::Declarative,
        })
    }

    /// Compiles what the app asks for.
    ///
    /// # Errors
    /// [`Error::Rule`], [`Error::TopicEmpty`].
    pub fn programmatic(asked: ProgrammaticSubscription) -> Result<Self, Error> {
        check_topic(&asked.pubsub, &asked.topic)?;
        let mut rules: Vec<(String, String)> = asked
            .rules
            .into_iter()
            .map(|rule| (rule.expression, rule.path))
            .collect();
        // gRPC apps always get a route; a default that they did not set must not catch what their rules leave out.
        let unset =
            |(expression, path): &(String, String)| expression.is_empty() && path.is_empty();
        if rules.len() > 1 && rules.last().is_some_and(unset) {
            rules.pop();
        }
        Ok(Self {
            rules: compile(&asked.topic, rules)?,
            raw: cloud_event::is_raw(&asked.metadata),
            pubsub: asked.pubsub,
            topic: asked.topic,
            metadata: asked.metadata,
            dead_letter_topic: Some(asked.dead_letter_topic).filter(|topic| !topic.is_empty()),
            bulk: asked
                .bulk
                .map(|bulk| batching(bulk.max_messages, bulk.max_await_ms)),
            kind: SubscriptionKind::Programmatic,
        })
    }

    /// What a stream asks for.
    pub fn streaming(request: crate::StreamRequest) -> Self {
        Self {
            raw: cloud_event::is_raw(&request.metadata),
            pubsub: request.pubsub,
            topic: request.topic,
            metadata: request.metadata,
            rules: vec![Rule {
                expression: None,
                path: "/".to_owned(),
            }],
            dead_letter_topic: Some(request.dead_letter_topic).filter(|topic| !topic.is_empty()),
            bulk: None,
            kind: SubscriptionKind::Streaming,
        }
    }

    /// An internal topic of an outbox, which the metadata of a store declares. Nobody is shown it.
    pub fn internal(pubsub: String, topic: String) -> Self {
        Self {
            pubsub,
            topic,
            metadata: BTreeMap::new(),
            rules: Vec::new(),
            dead_letter_topic: None,
            bulk: None,
            kind: SubscriptionKind::Declarative,
            raw: Ok(false),
        }
    }

    /// The path an event takes; `event` makes its value, and is asked only where a rule reads it.
    ///
    /// # Errors
    /// Where a rule gives no answer: the message can then not be routed.
    pub fn route(
        &self,
        event: impl FnOnce() -> Result<serde_json::Value, serde_json::Error>,
    ) -> Result<Option<&str>, String> {
        let mut event = Some(event);
        let mut variables = None;
        for rule in &self.rules {
            let Some(expression) = &rule.expression else {
                return Ok(Some(&rule.path));
            };
            if let Some(event) = event.take() {
                let value = event().map_err(|error| error.to_string())?;
                variables = Some(Variables::event("event", &value));
            }
            if let Some(variables) = &variables
                && expression
                    .matches(variables)
                    .map_err(|error| component::error::chain(&error))?
            {
                return Ok(Some(&rule.path));
            }
        }
        Ok(None)
    }

    pub fn listed(&self) -> Listed {
        let text = |rule: &Rule| match &rule.expression {
            Some(expression) => expression.text().to_owned(),
            None => String::new(),
        };
        Listed {
            pubsub: self.pubsub.clone(),
            topic: self.topic.clone(),
            metadata: self.metadata.clone(),
            rules: self
                .rules
                .iter()
                .map(|rule| (text(rule), rule.path.clone()))
                .collect(),
            dead_letter_topic: self.dead_letter_topic.clone().unwrap_or_default(),
            kind: self.kind,
        }
    }
}

fn check_topic(pubsub: &str, topic: &str) -> Result<(), Error> {
    if topic.is_empty() {
        return Err(Error::TopicEmpty {
            pubsub: pubsub.to_owned(),
        });
    }
    Ok(())
}

fn compile(topic: &str, rules: Vec<(String, String)>) -> Result<Vec<Rule>, Error> {
    rules
        .into_iter()
        .map(|(text, path)| {
            let text = text.trim();
            let expression = if text.is_empty() {
                None
            } else {
                let compiled = Expression::compile(text).map_err(|source| Error::Rule {
                    topic: topic.to_owned(),
                    rule: text.to_owned(),
                    source,
                })?;
                Some(compiled)
            };
            Ok(Rule { expression, path })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(spec: serde_json::Value) -> Result<Subscription, Error> {
        let resource = json!({
            "apiVersion": "dapr.io/v2alpha1", "kind": "Subscription",
            "metadata": {"name": "s"}, "spec": spec
        });
        Subscription::declared(serde_json::from_value(resource).unwrap())
    }

    fn routed() -> Subscription {
        declared(json!({
            "pubsubname": "bus", "topic": "t", "deadLetterTopic": "",
            "bulkSubscribe": {"enabled": true, "maxMessagesCount": 5},
            "routes": {
                "rules": [
                    {"match": " event.type == 'a' ", "path": "/a"},
                    {"match": "event.data.x > 1", "path": "/x"}
                ],
                "default": "/rest"
            }
        }))
        .unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let subscription = routed();
        let to = |value: serde_json::Value| {
            let path = subscription.route(|| Ok(value));
            path.map(|path| path.unwrap_or("none").to_owned())
        };
        assert_eq!(to(json!({"type": "a"})).unwrap(), "/a");
        assert_eq!(to(json!({"type": "b", "data": {"x": 2}})).unwrap(), "/x");
        assert_eq!(to(json!({"type": "b", "data": {"x": 1}})).unwrap(), "/rest");
        assert!(
            to(json!({"type": "b"})).is_err(),
            "a rule that reads what is not there"
        );
    }

    #[test]
    fn without_a_default_an_event_may_have_no_route() {
        let mut subscription = routed();
        subscription.rules.truncate(1);
        assert_eq!(subscription.route(|| Ok(json!({"type": "b"}))), Ok(None));
        subscription.rules[0].expression = None;
        let unasked = subscription.route(|| panic!("no rule reads the event"));
        assert_eq!(unasked, Ok(Some("/a")));
    }

    #[test]
    fn defaults_are_filled_in() {
        let subscription = routed();
        assert_eq!(subscription.dead_letter_topic, None);
        assert_eq!(
            subscription.bulk,
            Some(Batching {
                most: 5,
                wait: Duration::from_secs(1)
            })
        );
        assert_eq!(subscription.listed().rules[0].0, "event.type == 'a'");
    }

    #[test]
    fn rules_that_do_not_compile_name_themselves() {
        let spec = json!({"pubsubname": "bus", "topic": "t", "routes": {"rules": [{"match": "a b", "path": "/"}]}});
        let error = declared(spec).unwrap_err();
        assert!(error.to_string().contains("a b"), "{error}");
    }

    #[test]
    fn grpc_apps_get_no_default_that_they_did_not_set() {
        let rule = |expression: &str, path: &str| app_channel::Rule {
            expression: expression.into(),
            path: path.into(),
        };
        let asked = |rules| ProgrammaticSubscription {
            topic: "t".into(),
            rules,
            ..Default::default()
        };
        let both = Subscription::programmatic(asked(vec![rule("true", "/a"), rule("", "")]));
        assert_eq!(both.unwrap().rules.len(), 1);
        let only = Subscription::programmatic(asked(vec![rule("", "")])).unwrap();
        assert_eq!(only.route(|| Ok(json!({}))), Ok(Some("")));
    }
}
