//! What must not hurt: broken, hostile and oversized input on every port. After each the sidecar answers as
//! before, and it has not restarted.

use std::time::Duration;

use e2e::{App, Daprd, wait};
use http::Method;
use proto::common::v1::StateItem;
use proto::runtime::v1::SaveStateRequest;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use crate::resources::{PUBSUB, STATE};

async fn sidecar() -> Daprd {
    Daprd::builder("app")
        .resources(STATE)
        .resources(PUBSUB)
        .start()
        .await
}

/// Still the same process, and healthy.
async fn unharmed(mut daprd: Daprd) {
    daprd.http().get("/v1.0/healthz").await.expect_status(204);
    assert_eq!(daprd.process().exited(), None);
    assert!(
        !daprd.process().stderr().contains("panicked"),
        "{}",
        daprd.process().stderr()
    );
    daprd.stop().await;
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let daprd = sidecar().await;
    let http = daprd.http();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 7] = [
        b"",
        b"{",
        b"nul",
        b"\xff\xfe",
        b"[1,2",
        b"{\"keys\": 5, \"operations\": {}}",
        deep.as_bytes(),
    ];
    let paths = [
        "/v1.0/state/statestore",
        "/v1.0/state/statestore/bulk",
        "/v1.0/state/statestore/transaction",
        "/v1.0/publish/bulk/pubsub/orders",
        "/v1.0/bindings/none",
        "/v1.0-alpha1/lock/none",
        "/v1.0-alpha1/unlock/none",
        "/v1.0-alpha2/conversation/none/converse",
        "/v1.0/actors/type/id/state",
        "/v1.0/actors/type/id/reminders/name",
        "/v1.0/jobs/name",
    ];
    for path in paths {
        for body in bodies {
            let request = http
                .request(Method::POST, path)
                .header("content-type", "application/json");
            let reply = request.body(body.to_vec()).send().await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert!(
                (400..600).contains(&reply.status),
                "{path} {shown:?}: {}",
                reply.status
            );
            assert!(
                reply.json()["errorCode"].is_string(),
                "{path} {shown:?}: {}",
                reply.text()
            );
        }
    }
    unharmed(daprd).await;
}

#[tokio::test]
async fn paths_that_are_not_what_they_should_be() {
    let daprd = sidecar().await;
    // As raw bytes, because no client would send them.
    for (path, expected) in [
        ("/v1.0/state/statestore/%zz", "400"),
        ("/v1.0/state/statestore/%", "400"),
        ("/v1.0/state/statestore/%ff%00", ""),
        ("/v1.0/invoke/../../etc/passwd", ""),
        ("/v1.0/invoke/%2e%2e/method/%2e%2e", ""),
        ("*", ""),
        ("http://other.host/v1.0/healthz", ""),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = raw(daprd.http_port(), request.as_bytes()).await;
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.starts_with(&format!("HTTP/1.1 {expected}")),
            "{path}: {text}"
        );
    }
    unharmed(daprd).await;
}

/// Sends bytes, and answers what comes back until the server closes the connection.
async fn raw(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the port is open");
    stream.write_all(bytes).await.ok(); // the server may have had enough before the end
    // A whole request is answered; after half of one the server must not wait for the rest. A client that hangs up is not
    // answered, so the end of the stream may not overtake the answer.
    if !bytes.ends_with(b"\r\n\r\n") {
        stream.shutdown().await.ok();
    }
    let mut answer = Vec::new();
    wait::within(
        "the end of the connection",
        wait::DEADLINE,
        stream.read_to_end(&mut answer),
    )
    .await
    .ok();
    answer
}

#[tokio::test]
async fn garbage_on_every_port() {
    let daprd = sidecar().await;
    let noise: Vec<u8> = (0..20_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let half_frame =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x04\x00\x00\x00\x00\x00\x00\xff\xff".to_vec();
    let giant_frame =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x05\x00\x00\x00\x01".to_vec();
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    for port in [
        daprd.http_port(),
        daprd.grpc_port(),
        daprd.internal_port(),
        daprd.public_port(),
    ] {
        for bytes in [&noise, &half_frame, &giant_frame, &hello] {
            raw(port, bytes).await;
        }
    }
    unharmed(daprd).await;
}

#[tokio::test]
async fn too_much() {
    let app = App::builder().start().await;
    let daprd = Daprd::builder("app")
        .resources(STATE)
        .app(&app)
        .flag("max-body-size", "64Ki")
        .flag("read-buffer-size", "8Ki")
        .start()
        .await;
    let http = daprd.http();
    let large = vec![b'x'; 128 << 10];
    for path in [
        "/v1.0/state/statestore",
        "/v1.0/invoke/app/method/x",
        "/v1.0/publish/pubsub/orders",
    ] {
        let reply = http
            .request(Method::POST, path)
            .body(large.clone())
            .attempt()
            .await;
        // Refusing early, the server may close the connection while the body is still on its way.
        assert!(
            reply.as_ref().is_ok_and(|reply| reply.status >= 400) || reply.is_err(),
            "{path}: {reply:?}"
        );
    }
    // The app may see the call begin, but never a body over the limit; what breaks off is recorded empty.
    assert!(app.calls("/x").iter().all(|call| call.body.is_empty()));
    let reply = http
        .request(Method::GET, "/v1.0/healthz")
        .header("x-large", &"y".repeat(64 << 10))
        .attempt()
        .await;
    assert!(
        reply.as_ref().is_ok_and(|reply| reply.status == 431) || reply.is_err(),
        "{reply:?}"
    );

    let item = StateItem {
        key: "k".into(),
        value: large.into(),
        ..Default::default()
    };
    let request = SaveStateRequest {
        store_name: "statestore".into(),
        states: vec![item],
    };
    let error = daprd
        .grpc()
        .save_state(request)
        .await
        .expect_err("over the limit");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    unharmed(daprd).await;
}

#[tokio::test]
async fn slow_clients_hold_nobody_up() {
    let daprd = sidecar().await;
    let mut open = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(("127.0.0.1", daprd.http_port()))
            .await
            .expect("the port is open");
        stream
            .write_all(b"GET /v1.0/healthz HTTP/1.1\r\nhost: x")
            .await
            .expect("the port is open");
        open.push(stream);
    }
    let health = daprd.http();
    wait::within(
        "a healthy answer",
        Duration::from_secs(5),
        health.get("/v1.0/healthz"),
    )
    .await
    .expect_status(204);
    // Ten seconds is the time a client has for its headers (contract 2.1).
    let mut rest = Vec::new();
    wait::within(
        "the end of a slow client",
        Duration::from_secs(15),
        open[0].read_to_end(&mut rest),
    )
    .await
    .ok();
    unharmed(daprd).await;
}

#[tokio::test]
async fn grpc_messages_that_are_none() {
    let daprd = sidecar().await;
    let client = e2e::http::Client::h2c(format!("http://127.0.0.1:{}", daprd.grpc_port()));
    let bodies: [&[u8]; 4] = [
        b"\x00\x00\x00\x00\x02\xff\xff",
        b"\x01\x00\x00\x00\x01x",
        b"\x00\xff\xff\xff\xffx",
        b"\x09\x00\x00\x00\x00",
    ];
    for body in bodies {
        let request = client
            .request(Method::POST, "/dapr.proto.runtime.v1.Dapr/SaveState")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body.to_vec());
        // An answer that the client cannot even read would be an error here, and fine, too.
        let answer = wait::within(
            &format!("an answer to {body:?}"),
            wait::DEADLINE,
            request.attempt(),
        )
        .await;
        if let Ok(reply) = answer {
            assert_ne!(reply.header("grpc-status"), "0", "{body:?}");
        }
    }
    unharmed(daprd).await;
}

#[tokio::test]
async fn an_app_that_talks_nonsense() {
    let app = App::builder()
        .route("GET /dapr/config", e2e::app::Answer::bytes("not json"))
        .route(
            "GET /dapr/subscribe",
            e2e::app::Answer::json(&json!({"not": "a list"})),
        )
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .start()
        .await;
    app.called("/dapr/config", 1).await;
    unharmed(daprd).await;
}

#[tokio::test]
async fn flags_and_resources_that_are_wrong_end_with_a_reason() {
    let _alone = wait::alone().await;
    for (what, builder) in [
        (
            "a port",
            Daprd::builder("app").flag("dapr-http-port", "many"),
        ),
        ("a mode", Daprd::builder("app").flag("mode", "submarine")),
        ("no app id", Daprd::builder("")),
        ("an app id with dots", Daprd::builder("a.b")),
        (
            "a component type",
            Daprd::builder("app").resources(&STATE.replace("in-memory", "in-dreams")),
        ),
        (
            "the same name twice",
            Daprd::builder("app").resources(STATE).resources(STATE),
        ),
        (
            "a configuration",
            Daprd::builder("app").config("kind: Configuration\nspec: ["),
        ),
    ] {
        let mut daprd = builder.spawn();
        let code = daprd.process().exit_code(Duration::from_secs(20)).await;
        assert!(code > 0, "{what}: exit code {code}");
        let said = format!("{}{}", daprd.log(), daprd.process().stderr());
        assert!(
            !said.is_empty() && !said.contains("panicked"),
            "{what}: {said}"
        );
    }
}
