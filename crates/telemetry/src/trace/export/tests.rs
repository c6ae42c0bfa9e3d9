//! Spans as collectors on loopback receive them.

use std::convert::Infallible;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message as _;

use super::otlp_messages::ExportRequest;
use crate::trace::{
    Event, Kind, OtlpOptions, Protocol, Record, Status, TraceContext, TraceOptions, Tracer, Value,
};

use super::*;

struct Received {
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// A collector that refuses the first `refusals` requests with 503, or takes them all in gRPC's way.
async fn collector(
    refusals: usize,
    grpc: bool,
) -> (String, mpsc::Receiver<Received>, CancellationToken) {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let listener = transport::Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = mpsc::channel(16);
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(refusals));
    let service = tower::service_fn(move |request: Request<transport::RequestBody>| {
        let (sender, left) = (sender.clone(), left.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let relaxed = std::sync::atomic::Ordering::Relaxed;
            if left
                .fetch_update(relaxed, relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let refusal = Response::builder()
                    .status(503)
                    .body(Full::<Bytes>::default().boxed());
                return Ok::<_, Infallible>(refusal.unwrap());
            }
            let path = head.uri.path().to_owned();
            sender
                .send(Received {
                    path,
                    headers: head.headers,
                    body,
                })
                .await
                .unwrap();
            Ok(Response::new(if grpc {
                trailers()
            } else {
                Full::default().boxed()
            }))
        }
    });
    let shutdown = CancellationToken::new();
    let server = transport::serve(
        listener,
        transport::ServerOptions::default(),
        service,
        shutdown.clone(),
    );
    tokio_util::task::TaskTracker::new().spawn(server);
    (address, receiver, shutdown)
}

fn trailers() -> http_body_util::combinators::BoxBody<Bytes, Infallible> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [
        http_body::Frame::data(Bytes::from_static(&[0; 5])),
        http_body::Frame::trailers(trailers),
    ];
    StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed()
}

/// Records one span, waits for the collector, and stops.
async fn export(options: TraceOptions, mut receiver: mpsc::Receiver<Received>) -> Received {
    let options = TraceOptions {
        sampling_rate: "1".into(),
        service_name: "myapp".into(),
        ..options
    };
    let (tracer, task) = Tracer::new(&options).unwrap();
    let mut span = tracer.start("first", Kind::Client, None);
    span.set_attribute("dapr.protocol", "http");
    span.set_attribute("dapr.protocol", "grpc");
    span.set_attribute("empty", "");
    span.set_name("CallLocal/app/method");
    span.set_status(Status::from_http(http::StatusCode::NOT_FOUND));
    span.end();
    let shutdown = CancellationToken::new();
    let stop = async {
        let received = timeout(Duration::from_secs(10), receiver.recv())
            .await
            .unwrap()
            .unwrap();
        shutdown.cancel();
        received
    };
    tokio::join!(task.run(shutdown.clone()), stop).1
}

fn otlp(endpoint: String, protocol: Protocol) -> TraceOptions {
    let headers = vec![("x-api-key".to_owned(), "test".to_owned())];
    let otlp = OtlpOptions {
        endpoint,
        protocol,
        secure: false,
        headers,
        timeout: None,
    };
    let resource = vec![("k8s.pod.name".to_owned(), "pod".to_owned())];
    TraceOptions {
        otlp: Some(otlp),
        resource,
        ..TraceOptions::default()
    }
}

/// What is said of work that has ended carries its own times, numbers and events.
#[tokio::test]
async fn spans_of_finished_work() {
    let (endpoint, mut receiver, stop) = collector(0, false).await;
    let options = TraceOptions {
        sampling_rate: "1".into(),
        ..otlp(endpoint, Protocol::Http)
    };
    let (tracer, task) = Tracer::new(&options).unwrap();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let record = Record {
        name: "timer".into(),
        kind: Kind::Internal,
        context: TraceContext::new([1; 16], [2; 8], true).unwrap(),
        parent: Some([3; 8]),
        start: at(5),
        end: at(7),
        attributes: vec![
            ("id".into(), 4_i64.into()),
            ("list".into(), Value::List(vec!["a".into()])),
        ],
        events: vec![Event {
            name: "paid".into(),
            at: at(6),
            attributes: vec![("by".into(), "me".into())],
        }],
        status: Status::Unset,
    };
    let unsampled = TraceContext::new([1; 16], [2; 8], false).unwrap();
    tracer.record(Record {
        context: unsampled,
        ..record.clone()
    });
    tracer.record(record);
    let shutdown = CancellationToken::new();
    let received = async {
        let received = timeout(Duration::from_secs(10), receiver.recv()).await;
        shutdown.cancel();
        received.unwrap().unwrap()
    };
    let received = tokio::join!(task.run(shutdown.clone()), received).1;
    let request = ExportRequest::decode(received.body).unwrap();
    let [span] = &request.resource_spans[0].scope_spans[0].spans[..] else {
        panic!("one span: {request:?}");
    };
    let second = 1_000_000_000;
    assert_eq!(
        (span.kind, span.parent_span_id.as_slice()),
        (1, &[3; 8][..])
    );
    let times = (span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!(times, (5 * second, 7 * second));
    let value = |at: usize| span.attributes[at].value.clone().unwrap();
    assert_eq!(value(0).int_value, Some(4));
    let list = value(1).array_value.unwrap();
    assert_eq!(list.values[0].string_value.as_deref(), Some("a"));
    let event = &span.events[0];
    let said = (event.name.as_str(), event.time_unix_nano);
    assert_eq!(said, ("paid", 6 * second));
    stop.cancel();
}

fn check_otlp(message: &[u8]) {
    let request = ExportRequest::decode(message).unwrap();
    let spans = &request.resource_spans[0];
    let resource: Vec<_> = spans
        .resource
        .as_ref()
        .unwrap()
        .attributes
        .iter()
        .map(|a| a.key.as_str())
        .collect();
    assert_eq!(resource, ["service.name", "k8s.pod.name"]);
    let span = &spans.scope_spans[0].spans[0];
    assert_eq!(
        (span.name.as_str(), span.kind, span.flags),
        ("CallLocal/app/method", 3, 1)
    );
    assert_eq!(
        (
            span.trace_id.len(),
            span.span_id.len(),
            span.parent_span_id.len()
        ),
        (16, 8, 0)
    );
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
    assert_eq!(span.attributes.len(), 1);
    let value = span.attributes[0]
        .value
        .as_ref()
        .unwrap()
        .string_value
        .as_deref();
    assert_eq!(value, Some("grpc"));
    let status = span.status.as_ref().unwrap();
    assert_eq!(
        (status.message.as_str(), status.code),
        ("Code(404): Not Found", 2)
    );
}

#[tokio::test]
async fn otlp_http_after_a_refusal() {
    let (address, receiver, _stop) = collector(1, false).await;
    let received = export(otlp(address, Protocol::Http), receiver).await;
    assert_eq!(received.path, "/v1/traces");
    assert_eq!(received.headers["content-type"], "application/x-protobuf");
    assert_eq!(received.headers["x-api-key"], "test");
    check_otlp(&received.body);
}

#[tokio::test]
async fn otlp_grpc() {
    let (address, receiver, _stop) = collector(0, true).await;
    let received = export(otlp(address, Protocol::Grpc), receiver).await;
    assert_eq!(
        received.path,
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    );
    assert_eq!(received.headers["content-type"], "application/grpc");
    assert_eq!(received.headers["x-api-key"], "test");
    assert_eq!(received.body[0], 0);
    assert_eq!(
        received.body[1..5],
        u32::try_from(received.body.len() - 5)
            .unwrap()
            .to_be_bytes()
    );
    check_otlp(&received.body[5..]);
}

#[tokio::test]
async fn a_port_alone_is_one_of_this_machine() {
    for (protocol, scheme) in [(Protocol::Grpc, ""), (Protocol::Http, "http://")] {
        let (address, receiver, _stop) = collector(0, protocol == Protocol::Grpc).await;
        let (_, port) = address.rsplit_once(':').unwrap();
        let endpoint = format!("{scheme}:{port}");
        let received = export(otlp(endpoint, protocol), receiver).await;
        assert_eq!(received.headers["x-api-key"], "test");
    }
}

#[tokio::test]
async fn zipkin() {
    let (address, receiver, _stop) = collector(0, false).await;
    let zipkin = Some(format!("http://{address}/api/v2/spans"));
    let received = export(
        TraceOptions {
            zipkin,
            ..TraceOptions::default()
        },
        receiver,
    )
    .await;
    assert_eq!(received.path, "/api/v2/spans");
    let spans: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
    let span = &spans[0];
    assert_eq!(span["name"], "CallLocal/app/method");
    assert_eq!(span["kind"], "CLIENT");
    assert_eq!(span["localEndpoint"]["serviceName"], "myapp");
    assert_eq!(span["tags"]["dapr.protocol"], "grpc");
    assert_eq!(span["tags"]["error"], "Code(404): Not Found");
    assert!(span["duration"].as_u64().unwrap() >= 1);
    assert!(span.get("parentId").is_none());
}

#[test]
fn bad_endpoints_are_named() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    for zipkin in ["localhost:9411", "not a url", "ftp://x"] {
        let options = TraceOptions {
            zipkin: Some(zipkin.into()),
            ..TraceOptions::default()
        };
        let error = Tracer::new(&options).err().unwrap().to_string();
        assert!(error.contains(zipkin), "{error}");
    }
    for protocol in [Protocol::Grpc, Protocol::Http] {
        for odd in [
            "a b:1",
            "host:port",
            "ftp://host",
            "http://",
            "http:///x",
            "4317",
            "host:99999",
            "[::1",
        ] {
            let error = Tracer::new(&otlp(odd.into(), protocol)).err();
            let error = error
                .unwrap_or_else(|| panic!("{odd} is accepted"))
                .to_string();
            let named = format!("endpointAddress {odd:?}");
            assert!(error.contains(&named), "{error}");
        }
    }
    let mut options = otlp("localhost:1".into(), Protocol::Grpc);
    options
        .otlp
        .as_mut()
        .unwrap()
        .headers
        .push(("bad name".into(), String::new()));
    assert!(
        Tracer::new(&options)
            .err()
            .unwrap()
            .to_string()
            .contains("bad name")
    );
}
