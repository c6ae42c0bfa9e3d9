//! The layer around services that answer in each of gRPC's ways.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::meter::MetricOptions;

fn page(registry: &Registry) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut text)
        .unwrap();
    String::from_utf8(text).unwrap()
}

fn setup() -> (Registry, GrpcMetrics) {
    let registry = Registry::new();
    let meter = Meter::new(&registry, MetricOptions::default()).unwrap();
    let metrics = GrpcMetrics::new(&meter);
    (registry, metrics)
}

#[tokio::test]
async fn unary_with_trailers() {
    let (registry, metrics) = setup();
    let service = tower::service_fn(|request: Request<CountedBody<Full<Bytes>>>| async {
        request.into_body().collect().await.unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        let frames = [
            http_body::Frame::data(Bytes::from_static(b"12345678")),
            http_body::Frame::trailers(trailers),
        ];
        let stream = futures::stream::iter(frames.map(Ok::<_, Infallible>));
        Ok::<_, Infallible>(Response::new(StreamBody::new(stream)))
    });
    let request = Request::post("http://x/dapr.Dapr/GetState")
        .body(Full::from("123456"))
        .unwrap();
    let response = metrics
        .server_layer(unary_but([]))
        .layer(service)
        .oneshot(request)
        .await
        .unwrap();
    response.into_body().collect().await.unwrap();
    let page = page(&registry);
    assert!(page.contains(r#"dapr_grpc_io_server_completed_rpcs{grpc_server_method="/dapr.Dapr/GetState",grpc_server_status="NotFound"} 1"#), "{page}");
    assert!(
        page.contains(r#"received_bytes_per_rpc_sum{grpc_server_method="/dapr.Dapr/GetState"} 1"#),
        "{page}"
    );
    assert!(
        page.contains(r#"sent_bytes_per_rpc_sum{grpc_server_method="/dapr.Dapr/GetState"} 3"#),
        "{page}"
    );
}

#[tokio::test]
async fn status_in_headers_cancelled_and_ignored() {
    let (registry, metrics) = setup();
    let refuse = tower::service_fn(|_: Request<CountedBody<Full<Bytes>>>| async {
        let response = Response::builder()
            .status(StatusCode::OK)
            .header("grpc-status", "12");
        Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).unwrap())
    });
    let endless = tower::service_fn(|_: Request<CountedBody<Full<Bytes>>>| async {
        let body = StreamBody::new(futures::stream::pending::<
            Result<http_body::Frame<Bytes>, Infallible>,
        >());
        Ok::<_, Infallible>(Response::new(body))
    });
    let request = |path: &str| {
        Request::post(format!("http://x{path}"))
            .body(Full::default())
            .unwrap()
    };
    let layer = metrics.client_layer(unary_but(["/s/Stream"]));
    layer
        .layer(refuse)
        .oneshot(request("/s/Refused"))
        .await
        .unwrap();
    drop(
        layer
            .layer(endless)
            .oneshot(request("/s/Stream"))
            .await
            .unwrap(),
    );
    let ignore = metrics.client_layer(Arc::new(|_, _| Call::Ignored));
    ignore
        .layer(refuse)
        .oneshot(request("/s/Ignored"))
        .await
        .unwrap();
    metrics.health_probe(14, Duration::ZERO);
    let page = page(&registry);
    assert!(
        page.contains(r#"grpc_client_method="/s/Refused",grpc_client_status="Unimplemented"} 1"#),
        "{page}"
    );
    assert!(
        page.contains(r#"grpc_client_method="/s/Stream",grpc_client_status="Canceled"} 1"#),
        "{page}"
    );
    assert!(!page.contains("/s/Ignored"), "{page}");
    assert!(
        !page.contains(r#"sent_bytes_per_rpc_sum{grpc_client_method="/s/Stream"#),
        "{page}"
    );
    assert!(
        page.contains(
            r#"dapr_grpc_io_healthprobes_completed_count{grpc_client_status="Unavailable"} 1"#
        ),
        "{page}"
    );
}

#[test]
fn names() {
    assert_eq!(status_name(0), "OK");
    assert_eq!(status_name(16), "Unauthenticated");
    assert_eq!(status_name(17), "Unknown");
    assert_eq!(status_name(-1), "Unknown");
}
