//! Policies against requests.

use super::*;

fn opa(rego: &str, more: &[(&str, &str)]) -> Result<Opa> {
    let fields = more.iter().copied().chain([("rego", rego)]);
    Opa::open(&Metadata::from_iter(fields))
}

fn judge(
    opa: &Opa,
    request: http::request::Builder,
    body: &'static str,
) -> Result<Verdict, String> {
    let (parts, ()) = request.body(()).expect("a request").into_parts();
    opa.policy
        .judge(&parts, &Bytes::from_static(body.as_bytes()))
}

const FIRST: &str = r#"
    package http
    default allow = true
    allow = false { input.request.path_parts[0] == "secret" }
    allow = {"status_code": 301, "additional_headers": {"location": "/there"}} {
        not input.request.headers["X-Token"]
        input.request.path == "/moved"
    }
    allow = {"allow": true, "additional_headers": {"x-user": input.request.query.user[0]}} {
        input.request.query.user
    }
"#;

#[test]
fn a_policy_of_the_first_version_decides() {
    let opa = opa(FIRST, &[("includedHeaders", "x-token, x-other")]).unwrap();
    assert!(judge(&opa, Request::get("/public"), "").unwrap().allow);
    for secret in ["/secret/x", "/%73ecret", "/x/../secret", "/%2573ecret"] {
        assert!(
            !judge(&opa, Request::get(secret), "").unwrap().allow,
            "{secret}"
        );
    }
    let moved = judge(&opa, Request::get("/moved"), "").unwrap();
    assert_eq!((moved.allow, moved.status_code), (false, Some(301)));
    assert_eq!(opa.refuse(&moved).headers()["location"], "/there");
    let known = Request::get("/moved").header("x-token", "t");
    assert!(judge(&opa, known, "").unwrap().allow);
    let named = judge(&opa, Request::get("/a?user=me"), "").unwrap();
    assert_eq!(named.additional_headers["x-user"], "me");
}

#[test]
fn a_policy_of_the_second_version_decides() {
    let rego = "package http\nimport rego.v1\ndefault allow := false\n\
                allow if input.request.body == \"open\"\n";
    let opa = opa(rego, &[("readBody", "true")]).unwrap();
    assert!(judge(&opa, Request::post("/"), "open").unwrap().allow);
    assert!(!judge(&opa, Request::post("/"), "shut").unwrap().allow);
}

#[test]
fn a_policy_that_says_nothing_refuses() {
    let opa = opa(
        "package http\nallow { input.request.method == \"GET\" }",
        &[],
    )
    .unwrap();
    assert!(judge(&opa, Request::get("/"), "").unwrap().allow);
    let problem = judge(&opa, Request::post("/"), "").err().unwrap();
    let response = opa.at_fault(&problem);
    assert_eq!(response.status(), 403);
    assert_eq!(response.headers()[FAULT], "true");
}

#[test]
fn what_cannot_be_compiled_is_named() {
    for rego in [
        "package http\nallow {",
        "allow = true",
        "package http\nallow { x > 1 }",
    ] {
        let error = opa(rego, &[]).err().unwrap();
        assert!(error.to_string().contains("rego"), "{rego}: {error}");
    }
    assert!(opa(FIRST, &[("defaultStatus", "600")]).is_err());
    assert!(opa(FIRST, &[("includedHeaders", "a b")]).is_err());
}

/// Thinks for ever, about requests to one path.
const ENDLESS: &str = "package http\nallow { input.request.path == \"/endless\"; \
                       count([x | some i, j, k; numbers.range(1, 2000)[i]; \
                       numbers.range(1, 2000)[j]; numbers.range(1, 2000)[k]; x := i + j + k]) > 0 }";

#[test]
fn a_policy_that_does_not_end_is_broken_off() {
    let opa = opa(ENDLESS, &[]).unwrap();
    let began = std::time::Instant::now();
    assert!(judge(&opa, Request::get("/endless"), "").is_err());
    assert!(began.elapsed() < Duration::from_secs(30));
}

/// What stands behind the middleware.
struct Behind;

#[async_trait]
impl component::middleware::Endpoint for Behind {
    async fn call(&self, _: Request<Body>) -> Response<Body> {
        Response::new(body::empty())
    }
}

async fn ask(opa: &Arc<Opa>, path: &str, body: Body) -> StatusCode {
    let links = [Arc::clone(opa) as Arc<dyn HttpMiddleware>];
    let request = Request::post(path).body(body).expect("a request");
    Next::new(&links, &Behind).run(request).await.status()
}

/// On one thread: others have their turn while a policy thinks.
#[tokio::test]
async fn a_policy_does_not_hold_the_thread() {
    let opa = Arc::new(opa(ENDLESS, &[]).unwrap());
    tokio::select! {
        biased;
        status = ask(&opa, "/endless", body::empty()) => panic!("at a stretch: {status}"),
        () = tokio::task::yield_now() => {}
    }
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_a_policy_but_not_for_ever() {
    let opa = Arc::new(opa("package http\nallow = true", &[]).unwrap());
    assert_eq!(ask(&opa, "/", body::empty()).await, 200);
    let all = opa.places.acquire_many(16).await.unwrap();
    assert_eq!(ask(&opa, "/", body::empty()).await, 503);
    drop(all);
    assert_eq!(ask(&opa, "/", body::empty()).await, 200);
    let full = opa.queue.acquire_many(1024).await.unwrap();
    assert_eq!(ask(&opa, "/", body::empty()).await, 503);
    drop(full);
}

#[tokio::test(start_paused = true)]
async fn a_body_has_to_come_in_time() {
    let opa = Arc::new(opa("package http\nallow = true", &[("readBody", "true")]).unwrap());
    let pending = futures::stream::pending::<Result<http_body::Frame<Bytes>, body::BoxError>>();
    let pending = body::streamed(http_body_util::StreamBody::new(pending));
    assert_eq!(ask(&opa, "/", pending).await, 408);
    let large = body::full(vec![b'a'; MAX_BODY + 1]);
    assert_eq!(ask(&opa, "/", large).await, 413);
}
