//! What the app's answer to an event means. Pure: an answer in, a verdict out (contract 2.4).

use std::collections::BTreeMap;

use http::StatusCode;
use proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use resiliency::Outcome;
use serde::Deserialize;
use tonic::Code;

use crate::json;

/// An event that the app has taken, or will never take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Drop(Dropped),
}

/// Who gave the event up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The app said so; the dead letter topic takes it.
    ByApp,
    /// The app has no such path; the dead letter topic takes it.
    NoPath,
    /// The app does not take events at all; nobody takes it.
    NoCallback,
}

/// An attempt that failed: the event is to be delivered again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the retry policy decides by.
    pub outcome: Outcome,
    pub problem: String,
}

impl Failure {
    pub fn new(problem: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Retryable,
            problem: problem.into(),
        }
    }
}

/// The answer of an HTTP app to one event.
pub fn of_http(status: StatusCode, body: &[u8]) -> Result<Verdict, Failure> {
    if status.is_success() {
        return match app_status(body).as_deref() {
            None | Some("" | "SUCCESS") => Ok(Verdict::Success),
            Some("DROP") => Ok(Verdict::Drop(Dropped::ByApp)),
            Some("RETRY") => Err(Failure::new("RETRY status returned from app")),
            Some(other) => Err(Failure::new(format!(
                "unknown status returned from app: {other}"
            ))),
        };
    }
    if status == StatusCode::NOT_FOUND {
        return Ok(Verdict::Drop(Dropped::NoPath));
    }
    let body = String::from_utf8_lossy(body.get(..MOST_SHOWN).unwrap_or(body));
    Err(Failure {
        outcome: Outcome::Http(status.as_u16()),
        problem: format!("body: {body}. status code returned: {}", status.as_u16()),
    })
}

/// The status in the body of an HTTP answer; a body that cannot be read counts as success.
fn app_status(body: &[u8]) -> Option<String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        status: Option<String>,
    }
    let text = std::str::from_utf8(body).ok()?;
    json::read_first::<Answer>(text).ok()?.status
}

/// The status of a gRPC answer, or of an acknowledgement on a stream.
pub fn of_status(status: i32) -> Result<Verdict, Failure> {
    match TopicEventResponseStatus::try_from(status) {
        Ok(TopicEventResponseStatus::Success) => Ok(Verdict::Success),
        Ok(TopicEventResponseStatus::Drop) => Ok(Verdict::Drop(Dropped::ByApp)),
        Ok(TopicEventResponseStatus::Retry) => Err(Failure::new("RETRY status returned from app")),
        Err(_) => Err(Failure::new(format!(
            "unknown status returned from app: {status}"
        ))),
    }
}

/// A call that the app did not answer, or answered with a gRPC error.
pub fn of_error(error: &app_channel::Error) -> Result<Verdict, Failure> {
    let outcome = match error {
        app_channel::Error::Status(status) if status.code() == Code::Unimplemented => {
            return Ok(Verdict::Drop(Dropped::NoCallback));
        }
        app_channel::Error::Status(status) => Outcome::Grpc(status.code() as i32),
        _ => Outcome::Retryable,
    };
    Err(Failure {
        outcome,
        problem: component::error::chain(error),
    })
}

/// The answer of an HTTP app to a batch: one verdict per entry it names.
///
/// # Errors
/// Where nothing can be read from it, so that the whole batch is delivered again.
pub fn of_bulk_http(
    status: StatusCode,
    body: &[u8],
) -> Result<BTreeMap<String, Result<Verdict, Failure>>, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Answer {
        statuses: Vec<Entry>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Entry {
        entry_id: String,
        status: String,
    }
    if !status.is_success() {
        return Err(Failure {
            outcome: Outcome::Http(status.as_u16()),
            problem: format!("status code returned: {}", status.as_u16()),
        });
    }
    let answer: Answer = std::str::from_utf8(body)
        .map_err(|error| error.to_string())
        .and_then(|text| json::read_first(text).map_err(|error| error.to_string()))
        .map_err(|error| {
            Failure::new(format!(
                "failed unmarshalling app response for bulk subscribe: {error}"
            ))
        })?;
    let verdict = |status: &str| match status {
        "SUCCESS" => Ok(Verdict::Success),
        "DROP" => Ok(Verdict::Drop(Dropped::ByApp)),
        "" | "RETRY" => Err(Failure::new("RETRY required")),
        other => Err(Failure::new(format!(
            "unknown status returned from app: {other}"
        ))),
    };
    Ok(answer
        .statuses
        .into_iter()
        .map(|entry| (entry.entry_id, verdict(&entry.status)))
        .collect())
}

/// How much of an app's error is logged, in bytes.
const MOST_SHOWN: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn http(status: u16, body: &str) -> Result<Verdict, Outcome> {
        let status = StatusCode::from_u16(status).unwrap();
        of_http(status, body.as_bytes()).map_err(|failure| failure.outcome)
    }

    #[test]
    fn http_answers() {
        let success = Ok(Verdict::Success);
        for (status, body, expected) in [
            (200, "", success),
            (204, "{}", success),
            (200, r#"{"status": "SUCCESS"}"#, success),
            (200, r#"{"status": ""}"#, success),
            (200, r#"{"status": 7}"#, success),
            (200, "no json", success),
            (299, "null", success),
            (
                200,
                r#"{"status": "DROP"}"#,
                Ok(Verdict::Drop(Dropped::ByApp)),
            ),
            (200, r#"{"status": "RETRY"}"#, Err(Outcome::Retryable)),
            (200, r#"{"status": "success"}"#, Err(Outcome::Retryable)),
            (404, "", Ok(Verdict::Drop(Dropped::NoPath))),
            (400, "", Err(Outcome::Http(400))),
            (500, r#"{"status": "DROP"}"#, Err(Outcome::Http(500))),
            (301, "", Err(Outcome::Http(301))),
        ] {
            assert_eq!(http(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn grpc_answers() {
        assert_eq!(of_status(0), Ok(Verdict::Success));
        assert!(of_status(1).is_err());
        assert_eq!(of_status(2), Ok(Verdict::Drop(Dropped::ByApp)));
        assert!(of_status(9).is_err());
        let failed = |code| {
            of_error(&app_channel::Error::Status(Box::new(tonic::Status::new(
                code, "x",
            ))))
        };
        assert_eq!(
            failed(Code::Unimplemented),
            Ok(Verdict::Drop(Dropped::NoCallback))
        );
        assert_eq!(
            failed(Code::Internal).unwrap_err().outcome,
            Outcome::Grpc(13)
        );
        let away = of_error(&app_channel::Error::Unhealthy).unwrap_err();
        assert_eq!(away.outcome, Outcome::Retryable);
    }

    #[test]
    fn batches_are_answered_by_entry() {
        let body = br#"{"statuses": [
            {"entryId": "a", "status": "SUCCESS"}, {"entryId": "b", "status": "DROP"},
            {"entryId": "c"}, {"entryId": "d", "status": "?"}]}"#;
        let answers = of_bulk_http(StatusCode::OK, body).unwrap();
        assert_eq!(answers["a"], Ok(Verdict::Success));
        assert_eq!(answers["b"], Ok(Verdict::Drop(Dropped::ByApp)));
        assert!(answers["c"].is_err() && answers["d"].is_err());
        let other = br#"{"Statuses": [{"entryID": "a", "STATUS": "SUCCESS"}]}"#;
        let other = of_bulk_http(StatusCode::OK, other).unwrap();
        assert_eq!(other["a"], Ok(Verdict::Success));
        assert!(of_bulk_http(StatusCode::OK, b"").is_err());
        assert!(of_bulk_http(StatusCode::OK, b"{}").unwrap().is_empty());
        let error = of_bulk_http(StatusCode::BAD_GATEWAY, b"").unwrap_err();
        assert_eq!(error.outcome, Outcome::Http(502));
    }
}
