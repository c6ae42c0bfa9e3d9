//! What the tests of several modules need.

use proto::scheduler::v1 as wire;

pub(crate) fn app(namespace: &str, app_id: &str) -> wire::JobMetadata {
    wire::JobMetadata {
        app_id: app_id.into(),
        namespace: namespace.into(),
        target: Some(wire::JobTargetMetadata {
            r#type: Some(wire::job_target_metadata::Type::Job(wire::TargetJob {})),
        }),
        concurrency_key: None,
    }
}

pub(crate) fn reminder(namespace: &str, app_id: &str, kind: &str, id: &str) -> wire::JobMetadata {
    wire::JobMetadata {
        target: Some(wire::JobTargetMetadata {
            r#type: Some(wire::job_target_metadata::Type::Actor(
                wire::TargetActorReminder {
                    id: id.into(),
                    r#type: kind.into(),
                },
            )),
        }),
        ..app(namespace, app_id)
    }
}

pub(crate) fn at(text: &str) -> jiff::Timestamp {
    text.parse().expect("a timestamp")
}
