//! Metrics as a scrape shows them.

use prometheus::{Encoder as _, TextEncoder};

use super::*;

fn page(registry: &Registry) -> String {
    let mut text = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut text)
        .unwrap();
    String::from_utf8(text).unwrap()
}

fn meter(options: MetricOptions) -> (Registry, Meter) {
    let registry = Registry::new();
    let meter = Meter::new(&registry, options).unwrap();
    (registry, meter)
}

#[test]
fn names_labels_and_identity() {
    let app_id = Some("myapp".to_owned());
    let (registry, meter) = meter(MetricOptions {
        app_id,
        ..MetricOptions::default()
    });
    let labels = ["status", "path", "method"];
    meter
        .counter("http/server/request_count", "x", &labels)
        .add(&["200", "", "GET"], 1);
    meter
        .counter("http/server/request_count", "x", &labels)
        .add(&["200", "", "GET"], 2);
    let line =
        r#"dapr_http_server_request_count{app_id="myapp",method="GET",path="",status="200"} 3"#;
    assert!(page(&registry).contains(line), "{}", page(&registry));
    assert_eq!(
        prometheus_name("grpc.io/server/server_latency"),
        "dapr_grpc_io_server_server_latency"
    );
}

#[test]
fn gauges_and_histograms() {
    let (registry, meter) = meter(MetricOptions {
        latency_buckets: vec![10.0, 5.0, 5.0, f64::NAN],
        ..MetricOptions::default()
    });
    let gauge = meter.gauge("placement/leader_status", "x", &[]);
    gauge.set(&[], 1.0);
    let timers = meter.gauge("runtime/actor/timers", "x", &["actor_type"]);
    timers.add(&["a"], 2.0);
    timers.add(&["a"], -1.0);
    timers.set(&["b"], 4.0);
    timers.remove(&["b"]);
    meter
        .latency("x/latency", "x", &[])
        .observe_duration(&[], std::time::Duration::from_micros(5500));
    let text = page(&registry);
    assert!(text.contains("dapr_placement_leader_status 1"), "{text}");
    assert!(
        text.contains(r#"dapr_runtime_actor_timers{actor_type="a"} 1"#),
        "{text}"
    );
    assert!(!text.contains(r#"actor_type="b""#), "{text}");
    assert!(
        text.contains(r#"dapr_x_latency_bucket{le="5"} 0"#),
        "{text}"
    );
    assert!(
        text.contains(r#"dapr_x_latency_bucket{le="10"} 1"#),
        "{text}"
    );
    assert!(text.contains("dapr_x_latency_sum 5.5"), "{text}");
}

#[test]
fn rules_rewrite_values() {
    let rule = MetricRule {
        name: "dapr_http_server_request_count".into(),
        labels: vec![LabelRule {
            name: "path".into(),
            regex: [("/orders/$1".to_owned(), "/orders/([a-z])[0-9]+".to_owned())].into(),
        }],
    };
    let (registry, meter) = meter(MetricOptions {
        rules: vec![rule],
        ..MetricOptions::default()
    });
    let counter = meter.counter("http/server/request_count", "x", &["path"]);
    counter.add(&["/orders/a1"], 1);
    counter.add(&["/orders/a2"], 1);
    let text = page(&registry);
    assert!(
        text.contains(r#"dapr_http_server_request_count{path="/orders/a"} 2"#),
        "{text}"
    );
}

#[test]
fn a_bad_rule_is_named() {
    let rule = MetricRule {
        name: "x".into(),
        labels: vec![LabelRule {
            name: "l".into(),
            regex: [("r".to_owned(), "(".to_owned())].into(),
        }],
    };
    let options = MetricOptions {
        rules: vec![rule],
        ..MetricOptions::default()
    };
    let error = Meter::new(&Registry::new(), options).err().unwrap();
    assert_eq!(
        error.to_string(),
        r#"metric rule "x", label "l": expression "(" is not valid"#
    );
}

#[test]
fn series_are_limited() {
    let (registry, meter) = meter(MetricOptions::default());
    let counter = meter.counter("x", "x", &["id"]);
    for id in 0..family::MAX_SERIES + 7 {
        counter.add(&[&id.to_string()], 1);
    }
    counter.add(&["0"], 1);
    let text = page(&registry);
    assert!(text.contains(r#"dapr_x{id="overflow"} 7"#));
    assert!(text.contains(r#"dapr_x{id="0"} 2"#));
}
