//! What a guest may do to a request and its answer, and what a field is.

use component::body;

use super::*;

fn exchange(features: u32) -> Exchange {
    let request = Request::post("/a?b")
        .header("x-a", "1")
        .header("content-length", "3");
    let request = request.body(body::full("abc")).unwrap();
    Exchange::new(request, Features::default().with(features), 10)
}

async fn text(body: Body) -> String {
    let bytes = body::read(body, 100).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn answer(body: &'static str) -> Response<Body> {
    let answer = Response::builder().status(201).header("x-b", "theirs");
    answer
        .header("content-length", body.len())
        .body(body::full(body))
        .unwrap()
}

async fn held(exchange: &mut Exchange) {
    let (parts, body) = answer("next").into_parts();
    let bytes = body::read(body, 10).await.unwrap();
    exchange.hold(parts, &bytes, HeaderMap::new());
}

#[tokio::test]
async fn a_body_that_is_written_has_its_own_length() {
    let mut exchange = exchange(0);
    exchange.write_body(BodyKind::Request, b"12").unwrap();
    exchange.write_body(BodyKind::Request, b"34").unwrap();
    let request = exchange.forward();
    assert_eq!(request.headers()["content-length"], "4");
    assert_eq!(text(request.into_body()).await, "1234");
}

#[tokio::test]
async fn after_it_has_gone_on_only_a_response_that_is_held_can_be_changed() {
    let mut streamed = exchange(0);
    streamed
        .change_header(HeaderKind::Response, Change::Set, b"x-b", b"mine")
        .unwrap();
    streamed
        .change_header(HeaderKind::Response, Change::Set, b"x-c", b"mine")
        .unwrap();
    streamed.forward();
    assert!(streamed.set_status(404).is_err());
    assert!(streamed.write_body(BodyKind::Response, b"a").is_err());
    assert!(
        streamed
            .change_header(HeaderKind::Response, Change::Remove, b"x-c", b"")
            .is_err()
    );
    assert!(streamed.status().is_err());
    let response = streamed.beside(answer("next"));
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-c"]),
        (201, &"mine".parse().unwrap())
    );
    assert_eq!(
        (
            &response.headers()["x-b"],
            &response.headers()["content-length"]
        ),
        (&"theirs".parse().unwrap(), &"4".parse().unwrap())
    );

    let mut buffered = exchange(Features::BUFFER_RESPONSE);
    buffered.forward();
    for no in [
        buffered.set_method(b"PUT"),
        buffered.set_uri(b"/"),
        buffered.may_read_request(),
        buffered.write_body(BodyKind::Request, b"a"),
        buffered.change_header(HeaderKind::Request, Change::Add, b"x-a", b"2"),
    ] {
        let error = no.unwrap_err().to_string();
        assert!(error.contains("gone on"), "{error}");
    }
    held(&mut buffered).await;
    assert_eq!(buffered.status().unwrap(), 201);
    let mut room = [0; 3];
    assert_eq!(buffered.read_response(&mut room).unwrap(), (3, false));
    assert_eq!(buffered.read_response(&mut room).unwrap(), (1, true));
    buffered.write_body(BodyKind::Response, b"my").unwrap();
    buffered.write_body(BodyKind::Response, b" own").unwrap();
    buffered.set_status(404).unwrap();
    let response = buffered.reply();
    assert_eq!(response.status(), 404);
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(text(response.into_body()).await, "my own");
}

#[tokio::test]
async fn what_is_written_before_stands_in_front() {
    let mut streamed = exchange(0);
    streamed.set_status(202).unwrap();
    streamed.write_body(BodyKind::Response, b"first ").unwrap();
    streamed.forward();
    let response = streamed.beside(answer("next"));
    assert_eq!(response.status(), 202);
    assert_eq!(text(response.into_body()).await, "first next");

    let mut buffered = exchange(Features::BUFFER_RESPONSE);
    buffered.set_status(202).unwrap();
    buffered.write_body(BodyKind::Response, b"first ").unwrap();
    buffered.forward();
    held(&mut buffered).await;
    let response = buffered.reply();
    assert_eq!(response.status(), 201);
    assert_eq!(text(response.into_body()).await, "first next");
}

#[test]
fn features_come_too_late_after_it_has_gone_on() {
    let mut exchange = exchange(0);
    assert_eq!(exchange.enable(8 | 4).bits(), 4, "there is no 8");
    exchange.forward();
    assert_eq!(exchange.enable(2).bits(), 4);
}

#[test]
fn what_is_no_http_is_refused() {
    let mut exchange = exchange(0);
    for status in [0, 99, 101, 1000, 70_000] {
        assert!(exchange.set_status(status).is_err(), "{status}");
    }
    assert!(exchange.set_method(b"").is_err() && exchange.set_method(b"A B").is_err());
    exchange.write_body(BodyKind::Response, &[0; 10]).unwrap();
    assert!(exchange.write_body(BodyKind::Response, &[0]).is_err());
    assert!(exchange.write_body(BodyKind::Request, &[0; 11]).is_err());
    assert!(HeaderKind::try_from(4).is_err() && BodyKind::try_from(2).is_err());
}
