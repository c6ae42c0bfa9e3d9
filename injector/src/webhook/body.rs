//! Reading reviews: each within a deadline, all together within a limit of memory, because everyone in the cluster may send
//! some.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequest as _;
use axum::response::{IntoResponse as _, Response};
use http::{Request, StatusCode, header};
use http_body::Body as _;
use tokio::sync::{Semaphore, TryAcquireError};
use transport::{Peer, PeerGate};
use values::GoDuration;

/// Largest review: a pod of the largest size that etcd takes, twice, with room around it.
pub const MAX_REVIEW_BYTES: usize = 8 << 20;
/// Memory for the bodies of all reviews under way; others wait.
const MEMORY_KIB: u32 = 128 << 10;
/// Of it, so much for those of one address; API servers are few.
const MEMORY_KIB_PER_PEER: usize = 64 << 10;
/// Longest time for a review, from its head to its answer. API servers wait for ten seconds, where nobody says otherwise.
const DEADLINE: Duration = Duration::from_secs(5);
/// What an API server wants to wait goes into the query; this part of it is left for the way.
const SHARE: f64 = 0.8;

/// The memory that reviews may take.
pub struct Memory {
    all: Semaphore,
    of_one: PeerGate,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            all: Semaphore::new(MEMORY_KIB as usize),
            // It waits and refuses nothing.
            of_one: PeerGate::new(MEMORY_KIB_PER_PEER, || ()),
        }
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
        // Of unknown length means up to the limit.
        let most = request.body().size_hint().upper();
        let most = most.and_then(|bytes| usize::try_from(bytes).ok());
        let kib = most.unwrap_or(MAX_REVIEW_BYTES).min(MAX_REVIEW_BYTES) / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(MEMORY_KIB);
        let _own = self.of_one.enter(Peer::ip_of(&request), kib).await;
        let room = match self.all.try_acquire_many(kib) {
            Err(TryAcquireError::NoPermits) => self.all.acquire_many(kib).await.ok(),
            room => room.ok(),
        };
        let json = is_json(&request);
        let body = match Bytes::from_request(request, &()).await {
            Ok(body) if body.is_empty() => {
                return (StatusCode::BAD_REQUEST, "empty body\n").into_response();
            }
            Ok(body) => body,
            Err(rejection) => return rejection.into_response(),
        };
        if !json {
            let message = "invalid Content-Type, expected `application/json`\n";
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
        }
        let answer = answer(&body);
        drop(room);
        answer
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

    #[tokio::test(start_paused = true)]
    async fn a_review_that_does_not_come_whole_is_given_up_and_holds_nobody_up() {
        let memory = Memory::new();
        let silent = |host| {
            let body =
                Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
            let request = Request::post("/mutate?timeout=10s");
            request.extension(from(host)).body(body).unwrap()
        };
        let all = MEMORY_KIB as usize / (MAX_REVIEW_BYTES / 1024);
        let slow = (0..all).map(|number| {
            let host = if number < all / 2 { 1 } else { 2 };
            memory.read(silent(host), |_| StatusCode::OK.into_response())
        });
        let slow = futures::future::join_all(slow);
        let good = async {
            tokio::task::yield_now().await;
            let request = Request::post("/mutate")
                .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
                .body(Body::from("{}"))
                .unwrap();
            memory
                .read(request, |_| StatusCode::OK.into_response())
                .await
        };
        let (slow, good) = tokio::join!(slow, good);
        assert!(
            slow.iter()
                .all(|response| response.status() == StatusCode::REQUEST_TIMEOUT)
        );
        assert_eq!(good.status(), StatusCode::OK);
    }

    fn from(host: u8) -> Peer {
        Peer {
            address: Some(([10, 0, 0, host], 1).into()),
            identity: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_does_not_take_the_memory_of_all() {
        let memory = Memory::new();
        let silent = || {
            let body =
                Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
            Request::post("/mutate")
                .extension(from(1))
                .body(body)
                .unwrap()
        };
        let all = MEMORY_KIB as usize / (MAX_REVIEW_BYTES / 1024);
        let slow = (0..2 * all).map(|_| memory.read(silent(), |_| StatusCode::OK.into_response()));
        let began = tokio::time::Instant::now();
        let other = async {
            tokio::task::yield_now().await;
            let request = Request::post("/mutate")
                .extension(from(2))
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from("{}"))
                .unwrap();
            let answer = memory
                .read(request, |_| StatusCode::OK.into_response())
                .await;
            (answer.status(), began.elapsed())
        };
        let (_, (status, after)) = tokio::join!(futures::future::join_all(slow), other);
        assert_eq!(status, StatusCode::OK);
        assert!(after < DEADLINE, "{after:?}");
        assert_eq!(memory.of_one.peers(), 0);
    }
}
