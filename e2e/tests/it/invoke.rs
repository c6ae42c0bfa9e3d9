//! Service invocation (contract 2.3): HTTP to HTTP, gRPC to HTTP, gRPC proxying, tokens.

use e2e::app::{Answer, Callbacks};
use e2e::{App, Daprd, golden, mesh, wait};
use http::Method;
use proto::common::v1::{HttpExtension, InvokeRequest, http_extension::Verb};
use proto::internals::v1::service_invocation_client::ServiceInvocationClient;
use proto::internals::v1::{ApiVersion, InternalInvokeRequest};
use proto::placement::v1::{Host, placement_client::PlacementClient};
use proto::runtime::v1::InvokeServiceRequest;
use proto::runtime::v1::app_callback_client::AppCallbackClient;
use serde_json::json;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

/// Version and id of the trace that the caller's app sends.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c";

async fn echo() -> App {
    App::builder()
        .respond("/echo", |call| async move {
            let kind = call.header("content-type").to_owned();
            Answer::bytes(call.body)
                .header("content-type", &kind)
                .header("x-app", "yes")
                .with_status(201)
        })
        .route("/teapot", Answer::bytes("short and stout").with_status(418))
        .route(
            "/moved",
            Answer::status(302).header("location", "/elsewhere"),
        )
        .start()
        .await
}

#[tokio::test]
async fn between_two_sidecars() {
    let _alone = wait::alone().await;
    let app = echo().await;
    let callee = Daprd::builder("callee").app(&app).start().await;
    let caller = Daprd::builder("caller").start().await;
    let body = vec![0_u8, 255, 10, 13];
    let reply = caller
        .http()
        .request(Method::POST, "/v1.0/invoke/callee/method/echo?a=1&b=%2F")
        .header("content-type", "application/octet-stream")
        .header("x-caller", "kept")
        .header("traceparent", &format!("{TRACE}-b7ad6b7169203331-00"))
        .body(body.clone())
        .send()
        .await
        .expect_status(201);
    assert_eq!(reply.body, body);
    assert_eq!(reply.header("x-app"), "yes");
    assert_eq!(reply.header("content-type"), "application/octet-stream");

    let call = &app.calls("/echo")[0];
    assert_eq!(
        (call.method.as_str(), call.query.as_str()),
        ("POST", "a=1&b=%2F")
    );
    assert_eq!(call.header("x-caller"), "kept");
    assert_eq!(call.header("dapr-caller-app-id"), "caller");
    assert_eq!(call.header("dapr-callee-app-id"), "callee");
    assert!(
        call.header("traceparent").starts_with(TRACE),
        "{:?}",
        call.headers
    );
    assert!(
        !call.headers.contains_key("dapr-app-id"),
        "{:?}",
        call.headers
    );
    caller.stop().await;
    callee.stop().await;
}

#[tokio::test]
async fn own_app_and_every_method() {
    let app = App::builder()
        .respond("/m", |call| async move {
            Answer::bytes(call.method.to_string())
        })
        .start()
        .await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let method: Method = method.parse().expect("a method");
        let reply = daprd
            .http()
            .request(method.clone(), "/v1.0/invoke/app/method/m")
            .send()
            .await
            .expect_status(200);
        assert_eq!(reply.text(), method.as_str());
    }
    let reply = daprd
        .http()
        .request(Method::HEAD, "/v1.0/invoke/app/method/m")
        .send()
        .await
        .expect_status(200);
    assert!(reply.body.is_empty());
    daprd.stop().await;
}

#[tokio::test]
async fn statuses_and_redirects_pass_through() {
    let app = echo().await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let reply = daprd
        .http()
        .get("/v1.0/invoke/app/method/teapot")
        .await
        .expect_status(418);
    assert_eq!(reply.text(), "short and stout");
    daprd
        .http()
        .get("/v1.0/invoke/app/method/unknown")
        .await
        .expect_status(404);
    let reply = daprd
        .http()
        .get("/v1.0/invoke/app/method/moved")
        .await
        .expect_status(302);
    assert_eq!(reply.header("location"), "/elsewhere");
    daprd.stop().await;
}

#[tokio::test]
async fn by_header_and_by_basic_auth() {
    let app = echo().await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let http = daprd.http();
    let by_header = http
        .request(Method::POST, "/echo")
        .header("dapr-app-id", "app")
        .body("x");
    assert_eq!(by_header.send().await.expect_status(201).text(), "x");
    let by_user = http
        .request(Method::POST, "/echo")
        .header("authorization", "Basic ZGFwci1hcHAtaWQ6YXBw")
        .body("y");
    assert_eq!(by_user.send().await.expect_status(201).text(), "y");
    golden::check(
        "invoke_no_app_id",
        &http.get("/echo").await,
        &["content-type"],
    );
    let h2c = daprd
        .h2c()
        .request(Method::POST, "/v1.0/invoke/app/method/echo")
        .body("z");
    assert_eq!(h2c.send().await.expect_status(201).text(), "z");
    daprd.stop().await;
}

#[tokio::test]
async fn an_app_that_is_not_there() {
    let app = echo().await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let reply = daprd.http().get("/v1.0/invoke/nobody/method/echo").await;
    let reply = reply.expect_error(500, "ERR_DIRECT_INVOKE");
    let expected = "failed to invoke, id: nobody, err: couldn't find service: nobody";
    assert_eq!(reply.json()["message"], expected);
    let mut request = invocation("echo", "");
    request.id = "nobody".into();
    let error = daprd.grpc().invoke_service(request).await;
    let error = error.expect_err("nobody is there");
    assert_eq!((error.code(), error.message()), (Code::Internal, expected));
    assert!(error.details().is_empty(), "{error:?}");
    daprd.stop().await;
}

#[tokio::test]
async fn why_nobody_answers_is_told_in_words() {
    let app = echo().await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let closed = e2e::ports::reserve().release();
    let path = format!("/v1.0/invoke/http://127.0.0.1:{closed}/method/x");
    let reply = daprd.http().get(&path).await;
    let text = reply.expect_error(500, "ERR_DIRECT_INVOKE").text();
    assert!(text.contains("Connection refused"), "{text}");
    assert!(!text.contains("(Connect"), "{text}");

    drop(app);
    // The first call may still find the connection that breaks.
    wait::eventually("a refused connection", wait::DEADLINE, async || {
        let reply = daprd.http().get("/v1.0/invoke/app/method/echo").await;
        let text = reply.expect_error(500, "ERR_DIRECT_INVOKE").text();
        assert!(!text.contains("(Connect"), "{text}");
        text.contains("Connection refused")
    })
    .await;
    daprd.stop().await;
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let app = App::builder()
        .respond("/size", |call| async move {
            Answer::json(&json!(call.body.len()))
        })
        .route("/large", Answer::bytes(vec![b'x'; 20 << 20]))
        .start()
        .await;
    // Streaming means that no limit of the sidecar's memory applies to the answer.
    let daprd = Daprd::builder("app")
        .app(&app)
        .flag("max-body-size", "30Mi")
        .start()
        .await;
    let body = vec![b'y'; 20 << 20];
    let upload = daprd
        .http()
        .request(Method::POST, "/v1.0/invoke/app/method/size")
        .body(body);
    assert_eq!(
        upload.send().await.expect_status(200).json(),
        json!(20 << 20)
    );
    assert_eq!(
        daprd
            .http()
            .get("/v1.0/invoke/app/method/large")
            .await
            .expect_status(200)
            .body
            .len(),
        20 << 20
    );
    daprd.stop().await;
}

/// Older sidecars ask for the answer in one message: one that does not fit is refused, whatever the caller would take.
#[tokio::test]
async fn an_answer_in_one_message_has_a_limit() {
    let app = App::builder()
        .route("/small", Answer::bytes("hello"))
        .route("/large", Answer::bytes(vec![b'x'; 5 << 20]))
        .start()
        .await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let mut client = ServiceInvocationClient::new(mesh::plain(daprd.internal_port()))
        .max_decoding_message_size(usize::MAX);
    let mut call = async |method: &str| {
        let request = InternalInvokeRequest {
            ver: ApiVersion::V1.into(),
            message: invocation(method, "").message,
            ..Default::default()
        };
        client.call_local(request).await
    };
    let reply = call("small").await.expect("it fits").into_inner();
    let data = reply.message.and_then(|message| message.data);
    assert_eq!(data.expect("an answer").value, b"hello");
    let error = call("large").await.expect_err("it does not fit");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    daprd.stop().await;
}

fn invocation(method: &str, body: &str) -> InvokeServiceRequest {
    let data = prost_types::Any {
        type_url: String::new(),
        value: body.into(),
    };
    InvokeServiceRequest {
        id: "app".into(),
        message: Some(InvokeRequest {
            method: method.into(),
            data: Some(data),
            content_type: "text/plain".into(),
            http_extension: Some(HttpExtension {
                verb: Verb::Post.into(),
                querystring: "q=1".into(),
            }),
        }),
    }
}

#[tokio::test]
async fn grpc_caller_and_http_app() {
    let app = echo().await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let reply = daprd
        .grpc()
        .invoke_service(invocation("echo", "hello"))
        .await
        .expect("called")
        .into_inner();
    assert_eq!(reply.data.expect("a body").value, b"hello");
    assert_eq!(reply.content_type, "text/plain");
    assert_eq!(app.calls("/echo")[0].query, "q=1");
    let mut request = Request::new(invocation("echo", "hello"));
    request
        .metadata_mut()
        .insert("x-caller", "kept".parse().expect("ASCII"));
    let reply = daprd.grpc().invoke_service(request).await.expect("called");
    for (name, value) in [
        ("dapr-http-status", "201"),
        ("dapr-content-type", "text/plain"),
        ("x-app", "yes"),
    ] {
        let given = reply.metadata().get(name);
        assert_eq!(given.expect(name), value);
    }
    let call = &app.calls("/echo")[1];
    assert_eq!(call.header("x-caller"), "kept");
    daprd.stop().await;
}

#[tokio::test]
async fn errors_of_an_http_app_reach_grpc_callers() {
    let app = echo().await;
    let daprd = Daprd::builder("app").app(&app).start().await;
    let error = daprd
        .grpc()
        .invoke_service(invocation("unknown", ""))
        .await
        .expect_err("the app has no such path");
    assert_eq!(
        (error.code(), error.message()),
        (Code::NotFound, "Not Found")
    );
    let error = daprd
        .grpc()
        .invoke_service(invocation("teapot", ""))
        .await
        .expect_err("it is a teapot");
    assert_eq!(error.code(), Code::Unknown, "{error}");
    let status = error.metadata().get("dapr-http-status");
    assert_eq!(status.expect("the app's status"), "418");
    let info = error.get_details_error_info().expect("details");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("I'm a teapot", "dapr.io")
    );
    assert_eq!(info.metadata["http.code"], "418");
    assert_eq!(info.metadata["http.error_message"], "short and stout");

    let mut request = invocation("echo", "");
    let message = request.message.as_mut().expect("there is one");
    message.http_extension = None;
    for (request, problem) in [
        (request, "missing HTTP extension field"),
        (
            invocation("echo#x", ""),
            "invalid method: method contains forbidden character: \"echo#x\"",
        ),
    ] {
        let error = daprd.grpc().invoke_service(request).await;
        let error = error.expect_err(problem);
        let expected = format!(
            "failed to invoke, id: app, err: rpc error: code = InvalidArgument desc = {problem}"
        );
        assert_eq!(
            (error.code(), error.message()),
            (Code::Internal, &*expected)
        );
    }
    daprd.stop().await;
}

#[tokio::test]
async fn what_a_grpc_app_says_passes_through_two_sidecars() {
    let _alone = wait::alone().await;
    let callbacks = Callbacks::default();
    let app = App::builder().callbacks(callbacks.clone()).start().await;
    let callee = Daprd::builder("callee").grpc_app(&app).start().await;
    let caller = Daprd::builder("caller").start().await;
    let request = |method: &str| {
        let mut request = invocation(method, "hello");
        request.id = "callee".into();
        let message = request.message.as_mut().expect("there is one");
        message.content_type = "any text".into();
        let data = message.data.as_mut().expect("there is some");
        data.type_url = "a.type".into();
        message.http_extension = None;
        request
    };
    let reply = caller.grpc().invoke_service(request("m")).await;
    let reply = reply.expect("called");
    let header = reply.metadata().get("x-app");
    assert_eq!(header.expect("headers of the app pass"), "called");
    let reply = reply.into_inner();
    let data = reply.data.expect("there is some");
    assert_eq!(
        (data.type_url.as_str(), &data.value[..]),
        ("a.type", &b"hello"[..])
    );
    assert_eq!(reply.content_type, "any text");
    assert_eq!(callbacks.invocations()[0].1.http_extension, None);

    let error = caller.grpc().invoke_service(request("refuse")).await;
    let error = error.expect_err("the app refuses");
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, "refused by the app")
    );
    let reply = caller.http().get("/v1.0/invoke/callee/method/refuse").await;
    let reply = reply.expect_status(400);
    assert_eq!(
        reply.json(),
        json!({"code": 9, "message": "refused by the app"})
    );
    caller.stop().await;
    callee.stop().await;
}

#[tokio::test]
async fn thousands_of_calls_at_a_time() {
    let _alone = wait::alone().await;
    let app = App::builder().callbacks(Callbacks::default()).start().await;
    // Other suites have sidecars named `app`, which mDNS finds as well.
    let callee = Daprd::builder("callee").grpc_app(&app).start().await;
    let caller = Daprd::builder("caller").start().await;
    let request = || InvokeServiceRequest {
        id: "callee".into(),
        ..invocation("m", "x")
    };
    caller
        .grpc()
        .invoke_service(request())
        .await
        .expect("they have found each other");
    for sidecar in [&callee, &caller] {
        let grpc = sidecar.grpc();
        let calls: tokio::task::JoinSet<_> = (0..3000)
            .map(|_| {
                let (mut grpc, request) = (grpc.clone(), request());
                async move { grpc.invoke_service(request).await.map(drop) }
            })
            .collect();
        for answer in calls.join_all().await {
            answer.expect("every call is answered");
        }
    }
    caller.stop().await;
    callee.stop().await;
}

#[tokio::test]
async fn http_caller_and_grpc_app() {
    let callbacks = Callbacks::default();
    let app = App::builder().callbacks(callbacks.clone()).start().await;
    let daprd = Daprd::builder("app").grpc_app(&app).start().await;
    let request = daprd
        .http()
        .request(Method::PUT, "/v1.0/invoke/app/method/some/where?q=1");
    let reply = request
        .header("content-type", "text/plain")
        .body("hello")
        .send()
        .await
        .expect_status(200);
    assert_eq!(reply.text(), "hello");
    let (_, message) = &callbacks.invocations()[0];
    assert_eq!(message.method, "some/where");
    let extension = message
        .http_extension
        .as_ref()
        .expect("HTTP callers say how");
    assert_eq!(
        (extension.verb(), extension.querystring.as_str()),
        (Verb::Put, "q=1")
    );
    daprd.stop().await;
}

fn to<T>(app_id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("dapr-app-id", app_id.parse().expect("ASCII"));
    request
}

#[tokio::test]
async fn grpc_calls_are_proxied() {
    let _alone = wait::alone().await;
    let callbacks = Callbacks::default();
    let app = App::builder().callbacks(callbacks.clone()).start().await;
    let callee = Daprd::builder("callee").grpc_app(&app).start().await;
    let caller = Daprd::builder("caller").start().await;
    let mut client = AppCallbackClient::new(caller.channel());

    let message = InvokeRequest {
        method: "m".into(),
        content_type: "a/b".into(),
        ..Default::default()
    };
    let mut request = to("callee", message);
    request
        .metadata_mut()
        .insert("x-caller", "kept".parse().expect("ASCII"));
    let reply = client.on_invoke(request).await.expect("proxied");
    assert_eq!(
        reply
            .metadata()
            .get("x-app")
            .expect("headers of the app pass"),
        "called"
    );
    assert_eq!(reply.into_inner().content_type, "a/b");
    let (metadata, _) = &callbacks.invocations()[0];
    assert_eq!(
        metadata
            .get("x-caller")
            .expect("headers of the caller pass"),
        "kept"
    );

    let mut by_callee = Request::new(InvokeRequest::default());
    let callee_id = "callee".parse().expect("ASCII");
    by_callee
        .metadata_mut()
        .insert("dapr-callee-app-id", callee_id);
    client.on_invoke(by_callee).await.expect("proxied");

    let refuse = InvokeRequest {
        method: "refuse".into(),
        ..Default::default()
    };
    let error = client
        .on_invoke(to("callee", refuse))
        .await
        .expect_err("the app refuses");
    assert_eq!(
        (error.code(), error.message()),
        (Code::FailedPrecondition, "refused by the app")
    );

    let error = client
        .on_invoke(InvokeRequest::default())
        .await
        .expect_err("no target");
    assert_eq!(error.code(), Code::Unknown, "{error}");
    let error = client
        .on_invoke(to("nobody", InvokeRequest::default()))
        .await
        .expect_err("nobody is there");
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, "couldn't find service: nobody")
    );
    let text = caller.metrics().get("/metrics").await.text();
    let counted = |family: &str, labels: [&str; 3], count: u32| {
        let line = text.lines().find(|line| {
            let of_family =
                line.starts_with(&format!("dapr_runtime_service_invocation_{family}{{"));
            of_family && labels.iter().all(|label| line.contains(label))
        });
        let line = line.unwrap_or_else(|| panic!("{family} {labels:?} in {text}"));
        assert!(line.ends_with(&format!(" {count}")), "{line}");
    };
    let unary = r#"type="unary""#;
    let sent = ["app_id=\"caller\"", r#"dst_app_id="callee""#, unary];
    counted("req_sent_total", sent, 3);
    for (status, count) in [(r#"status="0""#, 2), (r#"status="9""#, 1)] {
        let received = [r#"src_app_id="callee""#, status, unary];
        counted("res_recv_total", received, count);
    }
    caller.stop().await;
    callee.stop().await;
}

#[tokio::test]
async fn streams_are_proxied_message_by_message() {
    let app = App::builder().callbacks(Callbacks::default()).start().await;
    let daprd = Daprd::builder("app").grpc_app(&app).start().await;
    let mut client = PlacementClient::new(mesh::plain(daprd.grpc_port()));
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let hosts = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let host = |name: &str| Host {
        name: name.into(),
        ..Default::default()
    };
    sender.send(host("one")).await.expect("the stream is open");
    let mut orders = client
        .report_dapr_status(to("app", hosts))
        .await
        .expect("proxied")
        .into_inner();
    let next = wait::within("the first answer", wait::DEADLINE, orders.message()).await;
    assert_eq!(
        next.expect("no error").expect("not the end").operation,
        "one"
    );
    // The second goes out only after the first came back: nothing waits for the whole request.
    sender.send(host("two")).await.expect("the stream is open");
    let next = wait::within("the second answer", wait::DEADLINE, orders.message()).await;
    assert_eq!(
        next.expect("no error").expect("not the end").operation,
        "two"
    );
    sender
        .send(host("refuse"))
        .await
        .expect("the stream is open");
    let error = wait::within("the error", wait::DEADLINE, orders.message())
        .await
        .expect_err("the app refuses");
    assert_eq!(
        (error.code(), error.message()),
        (Code::OutOfRange, "refused by the app")
    );
    daprd.stop().await;
}

#[tokio::test]
async fn tokens_guard_both_sides() {
    let app = echo().await;
    let builder = Daprd::builder("app")
        .app(&app)
        .env("DAPR_API_TOKEN", "in")
        .env("APP_API_TOKEN", "out");
    let daprd = builder.start().await; // its health check needs no token
    let http = daprd.http();
    http.get("/v1.0/metadata").await.expect_status(401);
    http.get("/v1.0/healthz").await.expect_status(204);
    http.get("/v1.0/healthz/outbound").await.expect_status(204);
    http.request(Method::GET, "/v1.0/metadata")
        .header("dapr-api-token", "wrong")
        .send()
        .await
        .expect_status(401);

    let call = http
        .request(Method::POST, "/v1.0/invoke/app/method/echo")
        .header("dapr-api-token", "in")
        .body("x");
    call.send().await.expect_status(201);
    assert_eq!(app.calls("/echo")[0].header("dapr-api-token"), "out");

    let error = daprd
        .grpc()
        .get_metadata(proto::runtime::v1::GetMetadataRequest {})
        .await
        .expect_err("no token");
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    daprd.stop().await;
}
