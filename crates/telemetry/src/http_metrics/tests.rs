//! Labels under each setting, and the layers around a service.

use std::convert::Infallible;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tower::{Layer as _, ServiceExt as _};

use super::*;
use crate::meter::MetricOptions;

struct Setup {
    registry: Registry,
    metrics: HttpMetrics,
}

fn setup(increased_cardinality: bool, path_matching: &[&str], exclude_verbs: bool) -> Setup {
    let registry = Registry::new();
    let options = MetricOptions {
        app_id: Some("myapp".into()),
        ..MetricOptions::default()
    };
    let meter = Meter::new(&registry, options).unwrap();
    let path_matching = path_matching
        .iter()
        .map(|path| (*path).to_owned())
        .collect();
    let options = HttpOptions {
        increased_cardinality,
        path_matching,
        exclude_verbs,
    };
    Setup {
        metrics: HttpMetrics::new(&meter, &options).unwrap(),
        registry,
    }
}

impl Setup {
    fn serve(&self, method: &str, path: &str) {
        self.metrics.server_completed(&Completed {
            method,
            path,
            status: 200,
            request_bytes: 0,
            response_bytes: 0,
            elapsed: Duration::from_millis(1),
        });
    }

    fn page(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .unwrap();
        String::from_utf8(text).unwrap()
    }

    fn served(&self, method: &str, path: &str) -> bool {
        let series = format!(
            r#"dapr_http_server_request_count{{app_id="myapp",method="{method}",path="{path}",status="200"}}"#
        );
        self.page().contains(&series)
    }
}

#[test]
fn increased_cardinality() {
    let setup = setup(true, &[], false);
    setup.serve("GET", "/v1.0/invoke/myapp/method/hi");
    setup.serve("BREW", "/v1.0/state/mystore/key1");
    assert!(
        setup.served("GET", "/v1.0/invoke/myapp/method/hi"),
        "{}",
        setup.page()
    );
    assert!(setup.served("UNKNOWN", "/v1.0/state/mystore"));
    assert!(setup.page().contains("dapr_http_server_response_count"));
}

#[test]
fn low_cardinality() {
    let setup = setup(false, &[], false);
    setup.serve("GET", "/v1.0/invoke/myapp/method/hi");
    assert!(setup.served("GET", ""), "{}", setup.page());
    assert!(!setup.page().contains("dapr_http_server_response_count"));
}

#[test]
fn path_matching_with_low_cardinality() {
    let patterns = [
        "/v1.0/invoke/myapp/method/orders/{orderID}",
        "/v1.0/invoke/myapp/method/orders",
        "/v1.0/state/mystore/{key}",
    ];
    let setup = setup(false, &patterns, false);
    setup.serve("GET", "/v1.0/invoke/myapp/method/orders/1");
    setup.serve("GET", "/v1.0/invoke/myapp/method/orders");
    setup.serve("GET", "/v1.0/state/mystore/k");
    setup.serve("GET", "/v1.0/other");
    for path in patterns {
        assert!(setup.served("GET", path), "{path}: {}", setup.page());
    }
    assert!(setup.served("GET", ""));
}

#[test]
fn path_matching_with_increased_cardinality_keeps_the_rest() {
    let setup = setup(true, &["/orders/{id}"], true);
    setup.serve("GET", "/v1.0/invoke/a/method/orders/1");
    setup.serve("GET", "/v1.0/invoke/a/method/items/1");
    setup.serve("GET", "/v1.0/state/store/key");
    assert!(
        setup.served("", "/v1.0/invoke/{app_id}/method/orders/{id}"),
        "{}",
        setup.page()
    );
    assert!(setup.served("", "/v1.0/invoke/a/method/items/1"));
    assert!(setup.served("", "/v1.0/state/store"));
}

#[test]
fn static_paths_stay() {
    let setup = setup(false, &[], false);
    setup.metrics.client_completed(&Completed {
        method: "GET",
        path: "/dapr/config",
        status: 200,
        request_bytes: 0,
        response_bytes: 2,
        elapsed: Duration::ZERO,
    });
    setup.metrics.health_probe(503, Duration::ZERO);
    let page = setup.page();
    assert!(page.contains(r#"dapr_http_client_completed_count{app_id="myapp",method="GET",path="/dapr/config",status="200"} 1"#), "{page}");
    assert!(
        page.contains(r#"dapr_http_healthprobes_completed_count{app_id="myapp",status="503"} 1"#),
        "{page}"
    );
}

#[tokio::test]
async fn layers_record_when_the_body_is_over() {
    let setup = setup(true, &[], false);
    let echo = tower::service_fn(|_: Request<Full<bytes::Bytes>>| async {
        let mut response = Response::new(Full::<bytes::Bytes>::from("12345"));
        *response.status_mut() = StatusCode::CREATED;
        Ok::<_, Infallible>(response)
    });
    let request = || {
        Request::post("/a%20b?q=1")
            .header("content-length", "3")
            .body(Full::from("abc"))
            .unwrap()
    };
    let response = setup
        .metrics
        .server_layer()
        .layer(echo)
        .oneshot(request())
        .await
        .unwrap();
    assert!(!setup.page().contains("request_count{"));
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "12345"
    );
    let page = setup.page();
    assert!(
        page.contains(r#"method="POST",path="/a b",status="201"} 1"#),
        "{page}"
    );
    assert!(
        page.contains(r#"dapr_http_server_request_bytes_sum{app_id="myapp"} 3"#),
        "{page}"
    );
    assert!(
        page.contains(r#"dapr_http_server_response_bytes_sum{app_id="myapp"} 5"#),
        "{page}"
    );

    let response = setup
        .metrics
        .client_layer()
        .layer(echo)
        .oneshot(request())
        .await
        .unwrap();
    drop(response);
    let fail = tower::service_fn(|_: Request<Full<bytes::Bytes>>| async {
        Err::<Response<Full<bytes::Bytes>>, _>(std::io::Error::other("down"))
    });
    assert!(
        setup
            .metrics
            .client_layer()
            .layer(fail)
            .oneshot(request())
            .await
            .is_err()
    );
    let page = setup.page();
    assert!(page.contains(r#"dapr_http_client_completed_count{app_id="myapp",method="POST",path="/a b",status="201"} 1"#), "{page}");
    assert!(page.contains(r#"dapr_http_client_completed_count{app_id="myapp",method="POST",path="/a b",status="500"} 1"#), "{page}");
    assert!(page.contains(r#"dapr_http_client_sent_bytes_sum{app_id="myapp",method="POST",path="/a b",status=""} 6"#), "{page}");
}
