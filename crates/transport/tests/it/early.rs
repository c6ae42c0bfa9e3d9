//! Answers that are given before the client has sent its request whole.

use std::convert::Infallible;

use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

/// More than sockets hold on their way: who sends it can only finish while somebody reads.
const LARGE: usize = 5 << 20;

/// Refuses everything without reading it; `/some` reads the first piece.
async fn refuse(mut request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/some" {
        let _ = request.body_mut().frame().await;
    }
    drop(request);
    let mut response = Response::new(Full::from("no"));
    *response.status_mut() = StatusCode::FORBIDDEN;
    Ok(response)
}

#[allow(
    clippy::disallowed_methods,
    reason = "the task ends with the test's runtime"
)]
fn refusing() -> http::Uri {
    let listener = tcp();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let server = serve(
        listener,
        ServerOptions::default(),
        tower::service_fn(refuse),
        CancellationToken::new(),
    );
    tokio::spawn(server);
    uri.parse().unwrap()
}

async fn connect(uri: &http::Uri) -> transport::Stream {
    let dialled = Connector::plain().connect(uri).await.unwrap();
    dialled.into_stream()
}

fn head(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n")
}

/// Everything up to the end of the connection.
async fn answer(stream: &mut transport::Stream) -> String {
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer))
        .await
        .expect("the answer does not wait for the request")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_client_that_sends_everything_first_sees_the_answer() {
    let uri = refusing();
    let sized = format!("content-length: {LARGE}");
    let mut chunked = format!("{LARGE:x}\r\n").into_bytes();
    chunked.extend(vec![b'x'; LARGE]);
    chunked.extend(b"\r\n0\r\n\r\n");
    for path in ["/none", "/some"] {
        for (fields, body) in [
            (sized.as_str(), vec![b'x'; LARGE]),
            ("transfer-encoding: chunked", chunked.clone()),
        ] {
            let mut stream = connect(&uri).await;
            stream
                .write_all(head(path, fields).as_bytes())
                .await
                .unwrap();
            let sent = timeout(DEADLINE, stream.write_all(&body)).await;
            sent.expect("somebody reads").expect("and does not reset");
            let answer = answer(&mut stream).await;
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "{path} {fields}: {answer}"
            );
            assert!(answer.contains("connection: close"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_waits_for_the_answer_gets_it_at_once() {
    let uri = refusing();
    for (fields, begun) in [
        ("content-length: 10", ""),
        ("content-length: 10", "12345"),
        ("content-length: 10\r\nexpect: 100-continue", ""),
        ("transfer-encoding: chunked", ""),
        ("transfer-encoding: chunked", "5\r\n12345\r\n"),
    ] {
        let mut stream = connect(&uri).await;
        let request = head("/none", fields) + begun;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{fields}: {answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn a_small_body_costs_no_connection() {
    let uri = refusing();
    for (fields, body) in [
        ("content-length: 5", "12345"),
        ("transfer-encoding: chunked", "5\r\n12345\r\n0\r\n\r\n"),
    ] {
        let mut stream = connect(&uri).await;
        let request = head("/none", fields) + body;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let whole = async {
            while !answer.ends_with(b"no") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
            }
        };
        timeout(DEADLINE, whole).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(!answer.contains("connection: close"), "{answer}");
        let last = head("/none", "connection: close");
        stream.write_all(last.as_bytes()).await.unwrap();
        let answer = self::answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{fields}: {answer}");
    }
}

#[tokio::test]
async fn http2_resets_the_stream_after_the_answer() {
    let uri = refusing();
    let options = ClientOptions {
        http2_only: true,
        ..ClientOptions::default()
    };
    // A body without an end: only a reset stops it.
    let endless = futures::stream::repeat_with(|| {
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 1024])))
    });
    let client = client(Connector::plain(), options);
    let request = Request::post(uri).body(StreamBody::new(endless)).unwrap();
    let response = timeout(DEADLINE, client.request(request)).await;
    let response = response.expect("an answer").unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "no");
}
