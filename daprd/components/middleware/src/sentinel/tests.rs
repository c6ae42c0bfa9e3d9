//! Rules against requests that come in paused time.

use std::time::Duration;

use bytes::Bytes;
use component::{
    body::{self, BoxError},
    middleware::Endpoint,
};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::Notify;

use super::*;

/// Answers once it is let, with a status that the request asks for.
#[derive(Default)]
struct App {
    takes: Duration,
    gate: Option<Notify>,
}

#[async_trait]
impl Endpoint for App {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        tokio::time::sleep(self.takes).await;
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let query = request.uri().query();
        let mut response = Response::new(body::empty());
        if query == Some("fail") {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
        }
        if query == Some("breaks") {
            let pieces = [
                Ok(Frame::data(Bytes::from_static(b"a"))),
                Err("gone".into()),
            ];
            let pieces = futures::stream::iter::<[Result<_, BoxError>; 2]>(pieces);
            *response.body_mut() = body::streamed(http_body_util::StreamBody::new(pieces));
        }
        if query == Some("long") {
            let pieces = futures::stream::pending::<Result<Frame<Bytes>, BoxError>>();
            *response.body_mut() = body::streamed(http_body_util::StreamBody::new(pieces));
        }
        response
    }
}

fn sentinel(field: &str, rules: &str) -> Result<Arc<dyn HttpMiddleware>> {
    let opened = Sentinel::open(&Metadata::from_iter([(field, rules)]))?;
    Ok(Arc::new(opened))
}

async fn get(sentinel: &Arc<dyn HttpMiddleware>, app: &App, path: &str) -> u16 {
    let request = Request::get(path).body(body::empty()).expect("a request");
    let links = [Arc::clone(sentinel)];
    let answer = Next::new(&links, app).run(request).await;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    // Whoever asks for what is long, leaves before the end.
    if !path.ends_with("long") {
        while let Some(Ok(_)) = body.frame().await {}
    }
    status
}

/// A request whose caller goes away at once.
async fn given_up(sentinel: &Arc<dyn HttpMiddleware>, app: &App) {
    tokio::select! {
        biased;
        status = get(sentinel, app, "/a") => panic!("answered with {status}"),
        () = std::future::ready(()) => {}
    }
}

/// An app whose answers nobody waits for.
fn never() -> App {
    App {
        gate: Some(Notify::new()),
        ..App::default()
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_in_a_time() {
    let rules = r#"[{"resource": "GET:/a", "threshold": 2, "statIntervalInMs": 1000}]"#;
    let (sentinel, app) = (sentinel("flowRules", rules).unwrap(), App::default());
    let mut statuses = Vec::new();
    for path in ["/a", "/b/../a", "/%61", "/b"] {
        statuses.push(get(&sentinel, &app, path).await);
    }
    assert_eq!(statuses, [200, 200, 429, 200]);
    tokio::time::advance(Duration::from_millis(1100)).await;
    assert_eq!(get(&sentinel, &app, "/a").await, 200);
}

#[test]
fn times_are_up_to_a_day() {
    for (field, rule) in [
        (
            "flowRules",
            r#"{"resource": "a", "threshold": 1, "statIntervalInMs": 86400001}"#,
        ),
        (
            "flowRules",
            r#"{"resource": "a", "threshold": 1, "controlBehavior": 1, "maxQueueingTimeMs": 86400001}"#,
        ),
        (
            "circuitBreakerRules",
            r#"{"resource": "a", "threshold": 1, "strategy": 2, "retryTimeoutMs": 86400001}"#,
        ),
    ] {
        let refused = sentinel(field, &format!("[{rule}]")).err().unwrap();
        assert!(refused.to_string().contains("up to a day"), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_paced() {
    let rules = r#"[{"resource": "GET:/a", "threshold": 10, "controlBehavior": 1, "maxQueueingTimeMs": 150}]"#;
    let (sentinel, app) = (sentinel("flowRules", rules).unwrap(), App::default());
    let began = Instant::now();
    let all = tokio::join!(
        get(&sentinel, &app, "/a"),
        get(&sentinel, &app, "/a"),
        get(&sentinel, &app, "/a")
    );
    assert_eq!(all, (200, 200, 429));
    assert_eq!(began.elapsed().as_millis(), 100);
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_at_once() {
    let rules = r#"[{"resource": "GET:/a", "threshold": 1}]"#;
    let sentinel = sentinel("isolationRules", rules).unwrap();
    let app = App {
        gate: Some(Notify::new()),
        ..App::default()
    };
    let both = async {
        let refused = get(&sentinel, &app, "/a").await;
        app.gate.as_ref().expect("a gate").notify_one();
        refused
    };
    assert_eq!(tokio::join!(get(&sentinel, &app, "/a"), both), (200, 429));
    app.gate.as_ref().expect("a gate").notify_one();
    assert_eq!(get(&sentinel, &app, "/a").await, 200, "there is room again");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_and_one_request_tries() {
    let slow = r#"[{"resource": "GET:/a", "minRequestAmount": 2, "maxAllowedRtMs": 50, "threshold": 0.5,
                    "retryTimeoutMs": 500}]"#;
    let failing = r#"[{"resource": "GET:/a", "strategy": 2, "threshold": 2, "minRequestAmount": 2,
                       "retryTimeoutMs": 500}]"#;
    for (rules, takes, bad) in [(slow, 60, "/a"), (failing, 0, "/a?fail")] {
        let sentinel = sentinel("circuitBreakerRules", rules).unwrap();
        let app = App {
            takes: Duration::from_millis(takes),
            ..App::default()
        };
        for _ in 0..2 {
            assert_ne!(get(&sentinel, &app, bad).await, 429);
        }
        assert_eq!(get(&sentinel, &app, "/a").await, 429, "open");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_ne!(get(&sentinel, &app, bad).await, 429, "one tries");
        assert_eq!(get(&sentinel, &app, "/a").await, 429, "and was no better");
        tokio::time::advance(Duration::from_millis(500)).await;
        let quick = App::default();
        for _ in 0..2 {
            assert_eq!(get(&sentinel, &quick, "/a").await, 200, "closed");
        }
    }
}

/// Opens after two failures, for half a second.
const FAILING: &str = r#"[{"resource": "GET:/a", "strategy": 2, "threshold": 2, "minRequestAmount": 2,
                          "retryTimeoutMs": 500}]"#;

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_a_failure() {
    let (sentinel, app) = (
        sentinel("circuitBreakerRules", FAILING).unwrap(),
        App::default(),
    );
    for _ in 0..2 {
        assert_eq!(get(&sentinel, &app, "/a?breaks").await, 200);
    }
    assert_eq!(get(&sentinel, &app, "/a").await, 429, "open");
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(get(&sentinel, &app, "/a?breaks").await, 200, "one tries");
    assert_eq!(get(&sentinel, &app, "/a").await, 429, "and was no better");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_is_no_success() {
    let rules = r#"[{"resource": "GET:/a", "strategy": 1, "threshold": 0.5, "minRequestAmount": 3,
                     "statIntervalMs": 10000, "retryTimeoutMs": 500}]"#;
    let (sentinel, app) = (
        sentinel("circuitBreakerRules", rules).unwrap(),
        App::default(),
    );
    for _ in 0..5 {
        given_up(&sentinel, &never()).await;
        assert_eq!(get(&sentinel, &app, "/a?long").await, 200);
    }
    for _ in 0..3 {
        assert_eq!(get(&sentinel, &app, "/a?fail").await, 502);
    }
    assert_eq!(get(&sentinel, &app, "/a").await, 429, "three of three");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_given_up_lets_the_next_one_try() {
    let (sentinel, app) = (
        sentinel("circuitBreakerRules", FAILING).unwrap(),
        App::default(),
    );
    for _ in 0..2 {
        assert_eq!(get(&sentinel, &app, "/a?fail").await, 502);
    }
    tokio::time::advance(Duration::from_millis(500)).await;
    given_up(&sentinel, &never()).await;
    assert_eq!(get(&sentinel, &app, "/a?fail").await, 502, "one tries");
    assert_eq!(get(&sentinel, &app, "/a").await, 429, "open again");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_another_rule_refuses_lets_the_next_one_try() {
    let other = r#"{"resource": "GET:/a", "strategy": 2, "threshold": 2, "minRequestAmount": 2,
                    "retryTimeoutMs": 900}"#;
    let rules = format!("{}, {other}]", FAILING.trim_end_matches(']'));
    let (sentinel, app) = (
        sentinel("circuitBreakerRules", &rules).unwrap(),
        App::default(),
    );
    for _ in 0..2 {
        assert_eq!(get(&sentinel, &app, "/a?fail").await, 502);
    }
    for (pause, status) in [(500, 429), (400, 200), (0, 200)] {
        tokio::time::advance(Duration::from_millis(pause)).await;
        assert_eq!(get(&sentinel, &app, "/a").await, status, "{pause}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_breaker_opened_is_no_trial() {
    let sentinel = sentinel("circuitBreakerRules", FAILING).unwrap();
    let (slow, app) = (never(), App::default());
    let opens = async {
        for _ in 0..2 {
            assert_eq!(get(&sentinel, &app, "/a?fail").await, 502);
        }
        tokio::time::advance(Duration::from_millis(500)).await;
        let trial = never();
        let late = async {
            slow.gate.as_ref().expect("a gate").notify_one();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let refused = get(&sentinel, &app, "/a").await;
            trial.gate.as_ref().expect("a gate").notify_one();
            refused
        };
        tokio::join!(get(&sentinel, &trial, "/a"), late)
    };
    let (old, (trial, during)) = tokio::join!(get(&sentinel, &slow, "/a"), opens);
    assert_eq!((old, trial), (200, 200));
    assert_eq!(during, 429, "still half open");
}

#[tokio::test(start_paused = true)]
async fn so_many_requests_in_all() {
    let rules = r#"[{"metricType": 3, "triggerCount": 2}]"#;
    let (sentinel, app) = (sentinel("systemRules", rules).unwrap(), App::default());
    for (path, status) in [("/a", 200), ("/b", 200), ("/c", 429)] {
        assert_eq!(get(&sentinel, &app, path).await, status, "{path}");
    }
}

#[test]
fn rules_that_cannot_hold_are_named() {
    for (field, rules) in [
        ("flowRules", "{}"),
        ("flowRules", r#"[{"resource": "a", "threshold": -1}]"#),
        (
            "flowRules",
            r#"[{"resource": "a", "threshold": 1, "tokenCalculateStrategy": 1}]"#,
        ),
        ("isolationRules", r#"[{"resource": "a", "threshold": 0}]"#),
        (
            "circuitBreakerRules",
            r#"[{"resource": "a", "threshold": 2}]"#,
        ),
        ("systemRules", r#"[{"metricType": 4, "triggerCount": 1}]"#),
    ] {
        let error = sentinel(field, rules).err().unwrap();
        assert!(error.to_string().contains(field), "{error}");
    }
}
