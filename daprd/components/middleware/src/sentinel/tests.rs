//! Rules against requests that come in paused time.

use std::time::Duration;

use component::middleware::Endpoint;
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
        let mut response = Response::new(body::empty());
        if request.uri().query() == Some("fail") {
            *response.status_mut() = StatusCode::BAD_GATEWAY;
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
    Next::new(&links, app).run(request).await.status().as_u16()
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
