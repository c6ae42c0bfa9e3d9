//! The Event that says what has become of a component, without I/O.

use crds::component::Status;
use crds::{Component, Kind};
use kubernetes::Key;
use serde_json::{Value, json};

/// What is worth an Event: that a component fails, or fails for another reason, and that it fails no more.
pub fn of(key: &Key, uid: &str, before: &Status, now: &Status, time: &str) -> Option<Value> {
    let reason = |status: &Status| {
        status
            .failures
            .first()
            .map(|failure| failure.reason.clone())
    };
    let (kind, what, message) = match now.failures.first() {
        Some(failure) if reason(before) != reason(now) => {
            let all = now.loaded + now.failed;
            let message = format!(
                "{} of {all} sidecars cannot open it, such as {} of app {}: {}",
                now.failed, failure.pod, failure.app_id, failure.reason
            );
            ("Warning", "ComponentFailed", message)
        }
        None if before.failed > 0 && now.loaded > 0 => {
            let message = format!("all {} sidecars have opened it", now.loaded);
            ("Normal", "ComponentOpened", message)
        }
        _ => return None,
    };
    Some(json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"generateName": format!("{}.", key.name), "namespace": key.namespace},
        "involvedObject": {
            "apiVersion": Component::API_VERSION, "kind": Component::KIND,
            "namespace": key.namespace, "name": key.name, "uid": uid,
        },
        "type": kind, "reason": what, "message": message, "count": 1,
        "firstTimestamp": time, "lastTimestamp": time,
        "source": {"component": "dapr-operator"},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::component::Failure;

    fn status(loaded: i64, reasons: &[&str]) -> Status {
        let failure = |reason: &&str| Failure {
            app_id: "cart".to_owned(),
            pod: "cart-1".to_owned(),
            reason: (*reason).to_owned(),
        };
        Status {
            loaded,
            failed: i64::try_from(reasons.len()).unwrap(),
            failures: reasons.iter().map(failure).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn only_news_is_worth_an_event() {
        let said = |before: &Status, now: &Status| {
            let event = of(
                &Key::new("n", "a"),
                "u",
                before,
                now,
                "2026-01-01T00:00:00Z",
            )?;
            Some(format!(
                "{} {}",
                event["reason"].as_str()?,
                event["message"].as_str()?
            ))
        };
        let (well, broken) = (status(3, &[]), status(1, &["refused", "refused"]));
        let text = said(&well, &broken).unwrap();
        assert_eq!(
            text,
            "ComponentFailed 2 of 3 sidecars cannot open it, such as cart-1 of app cart: refused"
        );
        assert_eq!(said(&broken, &status(2, &["refused"])), None);
        assert!(said(&broken, &status(2, &["no such host"])).is_some());
        assert_eq!(
            said(&broken, &well).unwrap(),
            "ComponentOpened all 3 sidecars have opened it"
        );
        for quiet in [
            said(&Status::default(), &well),
            said(&broken, &Status::default()),
        ] {
            assert_eq!(quiet, None);
        }
    }
}
