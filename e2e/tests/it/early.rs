//! Answers that are given before the request has been sent: they arrive at a plain client that sends everything first, and at
//! one that waits for the answer.

use std::time::Duration;

use e2e::{App, Daprd};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// More than the limit on bodies, and more than sockets hold on their way.
const LARGE: usize = 5 << 20;
const DEADLINE: Duration = Duration::from_secs(30);

/// Sends the head and `sent` bytes of a large body; the status line of the answer.
async fn status(port: u16, path: &str, fields: &str, sent: usize) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\n{fields}content-length: {LARGE}\r\n\r\n");
        stream
            .write_all(head.as_bytes())
            .await
            .expect("the head is read");
        let body = vec![b'x'; sent];
        stream
            .write_all(&body)
            .await
            .expect("the body is read or waits");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("no reset");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = timeout(DEADLINE, exchange).await;
    let answer = answer.unwrap_or_else(|_| panic!("{path} {fields} {sent}: no answer"));
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn refusals_arrive() {
    let app = App::builder().start().await;
    let daprd = Daprd::builder("app")
        .app(&app)
        .env("DAPR_API_TOKEN", "secret")
        .start()
        .await;
    let port = daprd.http_port();
    let token = "dapr-api-token: secret\r\n";
    for (path, fields, expected) in [
        ("/v1.0/state/store", "", "401 Unauthorized"),
        ("/v1.0/invoke/app/method/m", "", "401 Unauthorized"),
        ("/v1.0/nothing", token, "404 Not Found"),
        ("/v1.0/state/store", token, "500 Internal Server Error"),
        ("/v1.0/publish/pubsub/topic", token, "404 Not Found"),
        ("/v1.0/invoke/app/method/m", token, "413 Payload Too Large"),
    ] {
        for sent in [0, 100, LARGE] {
            let line = status(port, path, fields, sent).await;
            assert_eq!(line, format!("HTTP/1.1 {expected}"), "{path} {sent}");
        }
    }
    daprd.stop().await;
}

/// Nobody knows how long a chunked body is until it ends: the app sees it break off, and the caller learns why.
#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_on_its_way() {
    let app = App::builder().start().await;
    let taker = Daprd::builder("taker").app(&app).start().await;
    let giver = Daprd::builder("giver").start().await;
    for port in [taker.http_port(), giver.http_port()] {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port))
                .await
                .expect("it listens");
            let head = "POST /v1.0/invoke/taker/method/m HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
            stream
                .write_all(head.as_bytes())
                .await
                .expect("the head is read");
            // One chunk, and no end: only the limit can end it.
            let chunk = [format!("{LARGE:x}\r\n").into_bytes(), vec![b'x'; LARGE]].concat();
            stream
                .write_all(&chunk)
                .await
                .expect("the body is read or waits");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("no reset");
            String::from_utf8_lossy(&answer).into_owned()
        };
        let answer = timeout(DEADLINE, exchange).await.expect("an answer");
        assert_eq!(
            answer.lines().next(),
            Some("HTTP/1.1 413 Payload Too Large")
        );
    }
    // What breaks off is recorded empty.
    assert!(app.calls("/m").iter().all(|call| call.body.is_empty()));
    giver.stop().await;
    taker.stop().await;
}
