//! Subscription: a topic and the route its messages take to the app (contract 3.5).
//!
//! `v2alpha1` is the stored version and the one everything else works with; `v1alpha1` exists to be
//! read and converted.

use std::collections::BTreeMap;

use macro_rules_attribute::apply;

use crate::{lenient, object::object, resource::resource};

resource! {
    /// A subscription of apps to a topic of a pub/sub component.
    Subscription: "Subscription", "subscriptions", "v2alpha1", Spec, [scopes] scopes
}

/// What is subscribed, and where messages go.
#[apply(object)]
pub struct Spec {
    /// Name of the pub/sub component.
    pub pubsubname: String,
    /// Topic to subscribe to.
    pub topic: String,
    /// Where messages are delivered in the app.
    #[serde(deserialize_with = "lenient::or_default")]
    pub routes: Routes,
    /// Settings of the subscription that the component reads.
    pub metadata: BTreeMap<String, String>,
    /// Topic that takes messages which could not be delivered.
    pub dead_letter_topic: Option<String>,
    /// Delivery of several messages in one request.
    pub bulk_subscribe: Option<BulkSubscribe>,
}

/// The rules that pick a path for a message; the first that matches wins.
#[apply(object)]
pub struct Routes {
    /// Rules in the order in which they are tried.
    pub rules: Vec<Rule>,
    /// Path for messages that no rule matches.
    #[serde(rename = "default")]
    pub default_path: Option<String>,
}

/// One rule of a route.
#[apply(object)]
pub struct Rule {
    /// CEL expression over the variable `event`, the CloudEvent.
    #[serde(rename = "match")]
    pub expression: String,
    /// Path in the app for messages that the expression matches.
    pub path: String,
}

/// How messages are grouped before they are delivered.
#[apply(object)]
pub struct BulkSubscribe {
    /// Whether messages are delivered in groups.
    #[serde_with(skip_apply)]
    pub enabled: bool,
    /// Messages in one group at most; 100 when left out.
    #[serde(deserialize_with = "lenient::count")]
    pub max_messages_count: Option<i32>,
    /// Milliseconds to wait for a group to fill; 1000 when left out.
    #[serde(deserialize_with = "lenient::count")]
    pub max_await_duration_ms: Option<i32>,
}

impl BulkSubscribe {
    /// Messages in one group at most when the subscription does not say.
    pub const DEFAULT_MESSAGES: i32 = 100;
    /// Milliseconds to wait for a group to fill when the subscription does not say.
    pub const DEFAULT_AWAIT_MS: i32 = 1000;
}

/// Version `v1alpha1`: one route, no rules.
pub mod v1alpha1 {
    use super::{BTreeMap, BulkSubscribe, apply, object, resource};

    resource! {
        /// A subscription of apps to a topic of a pub/sub component.
        Subscription: "Subscription", "subscriptions", "v1alpha1", Spec, [scopes] scopes
    }

    /// What is subscribed, and where messages go.
    #[apply(object)]
    pub struct Spec {
        /// Name of the pub/sub component.
        pub pubsubname: String,
        /// Topic to subscribe to.
        pub topic: String,
        /// Path in the app that takes the messages.
        pub route: String,
        /// Settings of the subscription that the component reads.
        pub metadata: BTreeMap<String, String>,
        /// Topic that takes messages which could not be delivered.
        pub dead_letter_topic: Option<String>,
        /// Delivery of several messages in one request.
        pub bulk_subscribe: Option<BulkSubscribe>,
    }
}

impl From<v1alpha1::Subscription> for Subscription {
    fn from(old: v1alpha1::Subscription) -> Self {
        Self {
            metadata: old.metadata,
            spec: Spec {
                pubsubname: old.spec.pubsubname,
                topic: old.spec.topic,
                routes: Routes {
                    rules: Vec::new(),
                    default_path: Some(old.spec.route).filter(|route| !route.is_empty()),
                },
                metadata: old.spec.metadata,
                dead_letter_topic: old.spec.dead_letter_topic,
                bulk_subscribe: old.spec.bulk_subscribe,
            },
            scopes: old.scopes,
        }
    }
}

impl From<Subscription> for v1alpha1::Subscription {
    /// Rules have no place in the old version and are lost; `routes.default` becomes `route`.
    fn from(new: Subscription) -> Self {
        Self {
            metadata: new.metadata,
            spec: v1alpha1::Spec {
                pubsubname: new.spec.pubsubname,
                topic: new.spec.topic,
                route: new.spec.routes.default_path.unwrap_or_default(),
                metadata: new.spec.metadata,
                dead_letter_topic: new.spec.dead_letter_topic,
                bulk_subscribe: new.spec.bulk_subscribe,
            },
            scopes: new.scopes,
        }
    }
}

/// Why an object could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The object is not a Subscription of a known version.
    #[error(
        "cannot convert {kind} {api_version}: only Subscription dapr.io/v1alpha1 and dapr.io/v2alpha1 are known"
    )]
    Unknown {
        /// `kind` of the object.
        kind: String,
        /// `apiVersion` of the object.
        api_version: String,
    },
    /// The wanted version does not exist.
    #[error("cannot convert a Subscription to {0}")]
    UnknownTarget(String),
    /// The object does not have the shape of its version.
    #[error("invalid Subscription {name}")]
    Invalid {
        /// Name of the object.
        name: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// Converts a Subscription object to another version, as the conversion webhook is asked to
/// (contract 3.5). `desired` is an `apiVersion`; asking for the version at hand returns the object unchanged.
pub fn convert(
    object: serde_json::Value,
    desired: &str,
) -> Result<serde_json::Value, ConvertError> {
    use crate::Kind;
    let text = |key: &str| {
        object
            .get(key)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let (kind, version) = (text("kind"), text("apiVersion"));
    let (old, new) = (
        v1alpha1::Subscription::API_VERSION,
        Subscription::API_VERSION,
    );
    if kind != Subscription::KIND || (version != old && version != new) {
        return Err(ConvertError::Unknown {
            kind,
            api_version: version,
        });
    }
    if desired != old && desired != new {
        return Err(ConvertError::UnknownTarget(desired.to_owned()));
    }
    if desired == version {
        return Ok(object);
    }
    let name = object
        .pointer("/metadata/name")
        .and_then(|name| name.as_str())
        .unwrap_or_default()
        .to_owned();
    let invalid = |source| ConvertError::Invalid {
        name: name.clone(),
        source,
    };
    // An API server refuses a conversion that touches anything but the spec: metadata goes through as it came.
    let metadata = object.get("metadata").cloned();
    let mut converted = if desired == new {
        let parsed: v1alpha1::Subscription = serde_json::from_value(object).map_err(invalid)?;
        serde_json::to_value(Subscription::from(parsed)).map_err(invalid)?
    } else {
        let parsed: Subscription = serde_json::from_value(object).map_err(invalid)?;
        serde_json::to_value(v1alpha1::Subscription::from(parsed)).map_err(invalid)?
    };
    if let Some(metadata) = metadata {
        converted["metadata"] = metadata;
    }
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn old() -> serde_json::Value {
        json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Subscription",
            "metadata": {"name": "orders", "namespace": "shop", "uid": "u", "labels": {"a": "b"}},
            "spec": {
                "pubsubname": "bus", "topic": "orders", "route": "/orders",
                "metadata": {"rawPayload": "true"}, "deadLetterTopic": "dead",
                "bulkSubscribe": {"enabled": true, "maxMessagesCount": 10}
            },
            "scopes": ["a"]
        })
    }

    #[test]
    fn conversion_moves_the_route_and_keeps_the_rest() {
        let new = convert(old(), "dapr.io/v2alpha1").unwrap();
        assert_eq!(new["spec"]["routes"], json!({"default": "/orders"}));
        assert_eq!(new["spec"].get("route"), None);
        assert_eq!(new["metadata"], old()["metadata"]);
        assert_eq!(convert(new, "dapr.io/v1alpha1").unwrap(), old());
    }

    #[test]
    fn conversion_to_the_old_version_loses_rules() {
        let new = json!({
            "apiVersion": "dapr.io/v2alpha1", "kind": "Subscription", "metadata": {"name": "n"},
            "spec": {"pubsubname": "p", "topic": "t", "routes": {"rules": [{"match": "true", "path": "/x"}]}}
        });
        let old = convert(new, "dapr.io/v1alpha1").unwrap();
        assert_eq!(
            old["spec"],
            json!({"pubsubname": "p", "topic": "t", "route": ""})
        );
    }

    #[test]
    fn conversion_refuses_strangers() {
        assert!(matches!(
            convert(json!({"kind": "Component"}), "dapr.io/v2alpha1"),
            Err(ConvertError::Unknown { .. })
        ));
        assert!(matches!(
            convert(old(), "dapr.io/v3"),
            Err(ConvertError::UnknownTarget(_))
        ));
        let mut broken = old();
        broken["spec"]["topic"] = json!(7);
        assert!(matches!(
            convert(broken, "dapr.io/v2alpha1"),
            Err(ConvertError::Invalid { .. })
        ));
    }
}
