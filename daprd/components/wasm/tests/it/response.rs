//! What a guest sees of a response, and what it changes.

use super::*;

/// Feature bits.
const RESPONSE: u32 = 2;
const TRAILERS: u32 = 4;

#[tokio::test]
async fn a_guest_answers_by_itself() {
    let answering = on_request(
        "(call $set_status (i32.const 403))
         (call $set_header (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 3))
         (call $set_header (i32.const 3) (i32.const 8) (i32.const 3) (i32.const 24) (i32.const 3))
         (call $write (i32.const 1) (i32.const 16) (i32.const 3))
         (call $write (i32.const 1) (i32.const 24) (i32.const 3)) (i64.const 0x700000000)",
    );
    let response = ask(&opened(&answering).await, post("abc")).await;
    assert_eq!(response.headers()["x-a"], "one");
    assert_eq!(response.headers()["trailer"], "x-b");
    assert_eq!(response.status(), 403);
    let (text, trailers) = read(response.into_body()).await;
    assert_eq!(
        (&*text, &trailers["x-b"]),
        ("onetwo", &"two".parse().unwrap())
    );
    assert_eq!(
        answered(&on_request("(i64.const 0)")).await,
        (200, String::new())
    );
}

#[tokio::test]
async fn a_response_that_is_held_back_is_the_guests_to_change() {
    let held = on_response(
        RESPONSE,
        "(local $told i64)
         (if (i32.or (i32.ne (local.get $context) (i32.const 7)) (local.get $failed)) (then unreachable))
         (call $set_status (i32.add (call $get_status) (i32.const 1)))
         (local.set $told (call $read (i32.const 1) (i32.const 100) (i32.const 900)))
         (if (i64.ne (i64.shr_u (local.get $told) (i64.const 32)) (i64.const 1)) (then unreachable))
         (call $set_header (i32.const 1) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 3))
         (call $remove_header (i32.const 1) (i32.const 8) (i32.const 3))
         (call $write (i32.const 1) (i32.const 16) (i32.const 3))
         (call $write (i32.const 1) (i32.const 100) (i32.wrap_i64 (local.get $told)))",
    );
    let response = ask(&opened(&held).await, post("abc")).await;
    assert_eq!(response.headers()["x-a"], "one");
    assert!(!response.headers().contains_key("x-b"));
    assert_eq!(said(response).await, (202, "onePOST /a?b=c abc".to_owned()));
}

#[tokio::test]
async fn one_that_is_not_is_out_of_reach() {
    let looks = on_response(
        0,
        "(call $write (i32.const 1) (i32.const 100) (i32.wrap_i64
           (call $names (i32.const 1) (i32.const 100) (i32.const 900))))",
    );
    assert_eq!(answered(&looks).await.0, 500);
    assert_eq!(
        answered(&on_response(0, "")).await,
        (201, "POST /a?b=c abc".to_owned())
    );
    let late = on_response(
        0,
        "(drop (call $enable_features (i32.const 2))) (call $set_status (i32.const 404))",
    );
    assert_eq!(answered(&late).await.0, 500);
    let request = on_response(RESPONSE, "(call $set_method (i32.const 300) (i32.const 3))");
    assert_eq!(answered(&request).await.0, 500);
}

#[tokio::test]
async fn features_of_the_start_are_those_of_all_requests() {
    let starting = module(
        r#"(func $begin (drop (call $enable_features (i32.const 2)))) (start $begin)
           (func (export "handle_request") (result i64) (i64.const 1))
           (func (export "handle_response") (param i32 i32) (call $set_status (i32.const 404)))"#,
    );
    let middleware = opened(&starting).await;
    for _ in 0..2 {
        assert_eq!(ask(&middleware, post("abc")).await.status(), 404);
    }
}

/// Breaks off, or has trailers.
struct Odd(fn() -> Body);

#[async_trait]
impl Endpoint for Odd {
    async fn call(&self, _: Request<Body>) -> Response<Body> {
        Response::new((self.0)())
    }
}

async fn behind(middleware: &Arc<dyn HttpMiddleware>, odd: Odd) -> Response<Body> {
    let links = [Arc::clone(middleware)];
    Next::new(&links, &odd).run(post("")).await
}

type Frames = Vec<Result<http_body::Frame<bytes::Bytes>, component::BoxError>>;

fn frames(frames: Frames) -> Body {
    body::streamed(http_body_util::StreamBody::new(futures::stream::iter(
        frames,
    )))
}

#[tokio::test]
async fn trailers_are_seen_and_changed() {
    let changing = on_response(
        RESPONSE | TRAILERS,
        "(call $write (i32.const 1) (i32.const 100) (i32.wrap_i64
           (call $values (i32.const 3) (i32.const 0) (i32.const 3) (i32.const 100) (i32.const 900))))
         (call $set_header (i32.const 3) (i32.const 0) (i32.const 3) (i32.const 16) (i32.const 3))",
    );
    let odd = Odd(|| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-a", "its".parse().unwrap());
        frames(vec![Ok(http_body::Frame::trailers(trailers))])
    });
    let response = behind(&opened(&changing).await, odd).await;
    let (text, trailers) = read(response.into_body()).await;
    assert_eq!(
        (&*text, &trailers["x-a"]),
        ("its\0", &"one".parse().unwrap())
    );
}

#[tokio::test]
async fn of_one_that_breaks_off_the_guest_is_told() {
    let broken = || {
        Odd(|| {
            let piece = http_body::Frame::data("abc".into());
            frames(vec![Ok(piece), Err("gone".into())])
        })
    };
    assert_eq!(
        behind(&opened(&on_response(RESPONSE, "")).await, broken())
            .await
            .status(),
        502
    );
    let clearing = on_response(
        RESPONSE,
        "(call $set_status (i32.add (i32.const 503) (local.get $failed)))",
    );
    assert_eq!(
        behind(&opened(&clearing).await, broken()).await.status(),
        504
    );
    let large = || Odd(|| body::full(vec![b'a'; 200]));
    let small = [("maxBodySize", "100")];
    let holding = opened_with(&on_response(RESPONSE, ""), &small)
        .await
        .unwrap();
    assert_eq!(behind(&holding, large()).await.status(), 500);
    let passing = opened_with(&on_response(0, ""), &small).await.unwrap();
    assert_eq!(
        said(behind(&passing, large()).await).await,
        (200, "a".repeat(200))
    );
}
