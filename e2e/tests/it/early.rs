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

/// Sends these bytes on a connection of their own; the status line of the answer, once it has ended.
async fn exchange(port: u16, head: &str, body: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("it listens");
        stream
            .write_all(head.as_bytes())
            .await
            .expect("the head is read");
        stream
            .write_all(body)
            .await
            .expect("the body is read or waits");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("no reset");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = timeout(DEADLINE, exchange).await;
    let answer = answer.unwrap_or_else(|_| panic!("{head} {}: no answer", body.len()));
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
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\n{fields}content-length: {LARGE}\r\n\r\n"
            );
            let line = exchange(port, &head, &vec![b'x'; sent]).await;
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
    let head = "POST /v1.0/invoke/taker/method/m HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    // One chunk, and no end: only the limit can end it.
    let chunk = [format!("{LARGE:x}\r\n").into_bytes(), vec![b'x'; LARGE]].concat();
    for port in [taker.http_port(), giver.http_port()] {
        let line = exchange(port, head, &chunk).await;
        assert_eq!(line, "HTTP/1.1 413 Payload Too Large");
    }
    // What breaks off is recorded empty.
    assert!(app.calls("/m").iter().all(|call| call.body.is_empty()));
    giver.stop().await;
    taker.stop().await;
}
