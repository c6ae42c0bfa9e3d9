//! Why a publish or a subscription failed.

/// The front ends turn each variant into its reason; the texts become part of their messages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no pub/sub component at all.
    #[error("pubsub is not configured")]
    NotConfigured,
    #[error("pubsub name is empty")]
    NameEmpty,
    #[error("pubsub {pubsub} is not found")]
    NotFound { pubsub: String },
    #[error("topic is empty in pubsub {pubsub}")]
    TopicEmpty { pubsub: String },
    /// The component's scopes do not let this app publish there.
    #[error("topic {topic} is not allowed for app id {app_id}")]
    Forbidden { topic: String, app_id: String },
    /// Request metadata that cannot be read.
    #[error("{problem}")]
    Metadata { problem: String },
    /// What claims to be a CloudEvent is none.
    #[error("{problem}")]
    CloudEvent { problem: String },
    /// A routing rule that does not compile.
    #[error("routing rule {rule:?} of topic {topic} cannot be used")]
    Rule {
        topic: String,
        rule: String,
        source: expressions::Error,
    },
    /// The component's scopes do not let this app subscribe there.
    #[error("subscription to topic '{topic}' on pubsub '{pubsub}' is not allowed")]
    NotSubscribable { pubsub: String, topic: String },
    /// The engine is shutting down.
    #[error("subscriber is closed")]
    Closed,
    /// What the component said.
    #[error("{}", component::error::chain(.0))]
    Component(#[source] component::Error),
}

impl From<component::Error> for Error {
    fn from(error: component::Error) -> Self {
        Self::Component(error)
    }
}
