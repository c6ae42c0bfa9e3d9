//! Reading reviews: each within a deadline, all together within a limit of memory, because everyone in the cluster may send
//! some.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode, header};
use transport::{Bodies, BodyError, BodyLimits, Peer};
use values::GoDuration;

/// Largest review: a pod of the largest size that etcd takes, twice, with room around it.
pub const MAX_REVIEW_BYTES: usize = 8 << 20;
/// Reviews at a time, and memory for what is large of their bodies; others wait.
const LIMITS: BodyLimits = BodyLimits {
    largest: MAX_REVIEW_BYTES,
    count: 512,
    memory: 128 << 20,
};
/// Longest time for a review, from its head to its answer. API servers wait for ten seconds, where nobody says otherwise.
const DEADLINE: Duration = Duration::from_secs(5);
/// What an API server wants to wait goes into the query; this part of it is left for the way.
const SHARE: f64 = 0.8;

/// The memory that reviews may take.
pub struct Memory(Bodies);

impl Memory {
    pub fn new() -> Self {
        Self(Bodies::new(LIMITS))
    }

    /// Reads a review and hands it to `answer`, within the limits.
    pub async fn read(
        &self,
        request: Request<Body>,
        answer: impl FnOnce(&Bytes) -> Response,
    ) -> Response {
        let deadline = deadline(request.uri().query().unwrap_or_default());
        let read = tokio::time::timeout(deadline, self.within_limits(request, answer));
        read.await.unwrap_or_else(|_| {
            let message = format!("the review has not come within {deadline:?}\n");
            (StatusCode::REQUEST_TIMEOUT, message).into_response()
        })
    }

    async fn within_limits(
        &self,
        request: Request<Body>,
        answer: impl FnOnce(&Bytes) -> Response,
    ) -> Response {
        let (address, json) = (Peer::ip_of(&request), is_json(&request));
        let held = match self.0.read(address, request.into_body()).await {
            Ok(held) if held.bytes.is_empty() => {
                return (StatusCode::BAD_REQUEST, "empty body\n").into_response();
            }
            Ok(held) => held,
            Err(error) => {
                let status = match error {
                    BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                    BodyError::Idle => StatusCode::REQUEST_TIMEOUT,
                    BodyError::Broken(_) => StatusCode::BAD_REQUEST,
                };
                return (status, format!("{error}\n")).into_response();
            }
        };
        if !json {
            let message = "invalid Content-Type, expected `application/json`\n";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
        }
        answer(&held.bytes)
    }
}

fn is_json(request: &Request<Body>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim() == super::JSON
}

/// The deadline of a review, which ends before its API server gives up.
fn deadline(query: &str) -> Duration {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let given = pairs.find(|(name, _)| *name == "timeout");
    let given = given.and_then(|(_, text)| text.parse::<GoDuration>().ok()?.to_std());
    given.map_or(DEADLINE, |given| given.mul_f64(SHARE).min(DEADLINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_before_the_api_server_gives_up() {
        for (query, expected) in [
            ("timeout=10s", 5.0),
            ("timeout=2s", 1.6),
            ("a=b&timeout=500ms", 0.4),
            ("timeout=-1s", 5.0),
            ("timeout=soon", 5.0),
            ("", 5.0),
        ] {
            assert_eq!(
                deadline(query),
                Duration::from_secs_f64(expected),
                "{query}"
            );
        }
    }

    fn review(host: u8, body: Body) -> Request<Body> {
        let peer = Peer {
            address: Some(([10, 0, 0, host], 1).into()),
            identity: None,
        };
        Request::post("/mutate?timeout=10s")
            .extension(peer)
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body)
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_that_do_not_come_are_given_up_and_take_no_room() {
        let memory = Memory::new();
        let ok = |_: &Bytes| StatusCode::OK.into_response();
        let silent = |host| {
            let body = futures::stream::pending::<Result<Bytes, std::io::Error>>();
            memory.read(review(host, Body::from_stream(body)), ok)
        };
        let began = tokio::time::Instant::now();
        let all = LIMITS.memory / LIMITS.largest;
        let slow = (0..4).flat_map(|host| (0..all).map(move |_| host));
        let slow = futures::future::join_all(slow.map(silent));
        let good = async {
            tokio::task::yield_now().await;
            let answer = memory.read(review(100, Body::from("{}")), ok).await;
            (answer.status(), began.elapsed())
        };
        let (slow, good) = tokio::join!(slow, good);
        let given_up = |answer: &Response| answer.status() == StatusCode::REQUEST_TIMEOUT;
        assert!(slow.iter().all(given_up));
        assert_eq!(good, (StatusCode::OK, Duration::ZERO));
        assert!(began.elapsed() < DEADLINE);
    }
}
