//! The Service a workload should have, and whether the one there is the same, without I/O.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use values::is_truthy;

use super::workload::{Key, Workload};
use crate::annotations;

/// Why a workload cannot have a Service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("value for the {} annotation is empty", annotations::APP_ID)]
    NoAppId,
    #[error(
        "invalid app id {app_id}: {app_id}-dapr is not a lower case RFC 1123 label of at most {LONGEST_NAME} characters"
    )]
    InvalidAppId { app_id: String },
}

/// The longest name of a Service.
const LONGEST_NAME: usize = 63;

const HTTP_PORT: i32 = 3500;
const GRPC_PORT: i32 = 50001;
const INTERNAL_GRPC_PORT: i32 = 50002;
const METRICS_PORT: i32 = 9090;

/// The app id of a workload, checked.
pub fn app_id(workload: &Workload) -> Result<&str, Error> {
    let app_id = workload
        .annotations
        .get(annotations::APP_ID)
        .map_or("", String::as_str);
    if app_id.is_empty() {
        return Err(Error::NoAppId);
    }
    if is_label(&name(app_id)) {
        Ok(app_id)
    } else {
        Err(Error::InvalidAppId {
            app_id: app_id.to_owned(),
        })
    }
}

/// The name of an app's Service.
pub fn name(app_id: &str) -> String {
    format!("{app_id}-dapr")
}

fn is_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    bytes.len() <= LONGEST_NAME
        && bytes.iter().all(|&byte| plain(byte) || byte == b'-')
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
}

/// The Service of a workload. With mTLS the internal port is declared as TLS, or meshes would take it for h2c.
pub fn service(key: &Key, workload: &Workload, app_id: &str, mtls: bool) -> Service {
    let grpc = port(workload, annotations::GRPC_PORT, GRPC_PORT);
    let internal = port(
        workload,
        annotations::INTERNAL_GRPC_PORT,
        INTERNAL_GRPC_PORT,
    );
    let metrics = port(workload, annotations::METRICS_PORT, METRICS_PORT);
    let ports = vec![
        service_port("dapr-http", 80, HTTP_PORT, "http"),
        service_port("dapr-grpc", grpc, grpc, "grpc"),
        service_port(
            "dapr-internal",
            internal,
            internal,
            if mtls { "tls" } else { "grpc" },
        ),
        service_port("dapr-metrics", metrics, metrics, "http"),
    ];
    let resource = key.kind.resource();
    Service {
        metadata: ObjectMeta {
            name: Some(name(app_id)),
            namespace: Some(key.namespace.clone()),
            labels: Some([(annotations::ENABLED.to_owned(), "true".to_owned())].into()),
            annotations: Some(service_annotations(workload, app_id, metrics)),
            owner_references: Some(vec![OwnerReference {
                api_version: resource.api_version,
                kind: resource.kind,
                name: key.name.clone(),
                uid: workload.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(workload.selector.clone()),
            cluster_ip: Some("None".to_owned()),
            ports: Some(ports),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn service_annotations(
    workload: &Workload,
    app_id: &str,
    metrics_port: i32,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([(annotations::APP_ID.to_owned(), app_id.to_owned())]);
    let metrics = workload.annotations.get(annotations::ENABLE_METRICS);
    if metrics.is_none_or(|value| value.is_empty() || is_truthy(value)) {
        let port = metrics_port.to_string();
        for (name, value) in [
            ("probe", "true"),
            ("scrape", "true"),
            ("port", &port),
            ("path", "/"),
        ] {
            all.insert(format!("prometheus.io/{name}"), value.to_owned());
        }
    }
    let wanted = workload.annotations.get(annotations::SERVICE_ANNOTATIONS);
    for pair in wanted.map_or("", String::as_str).split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() {
            continue;
        }
        if all.contains_key(key) {
            tracing::warn!(
                app = app_id,
                annotation = key,
                "annotation is kept by the operator, the wanted value is ignored"
            );
            continue;
        }
        all.insert(key.to_owned(), value.to_owned());
    }
    all
}

fn port(workload: &Workload, annotation: &str, default: i32) -> i32 {
    let value = workload.annotations.get(annotation);
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn service_port(name: &str, port: i32, target: i32, protocol: &str) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::Int(target)),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some(protocol.to_owned()),
        node_port: None,
    }
}

/// Whether a Service is as it should be, apart from what the API server adds.
pub fn is_same(there: &Service, desired: &Service) -> bool {
    let metadata = |service: &Service| {
        let metadata = &service.metadata;
        (
            metadata.labels.clone(),
            metadata.annotations.clone(),
            metadata.owner_references.clone(),
        )
    };
    let spec = |service: &Service| {
        let spec = service.spec.clone().unwrap_or_default();
        (spec.selector, spec.ports, spec.cluster_ip)
    };
    metadata(there) == metadata(desired) && spec(there) == spec(desired)
}

#[cfg(test)]
mod tests {
    use super::super::workload::Kind;
    use super::*;

    fn workload(annotations: &[(&str, &str)]) -> Workload {
        Workload {
            uid: "u".to_owned(),
            selector: [("app".to_owned(), "shop".to_owned())].into(),
            annotations: annotations
                .iter()
                .map(|(name, value)| (format!("dapr.io/{name}"), (*value).to_owned()))
                .collect(),
        }
    }

    fn key() -> Key {
        Key {
            kind: Kind::Deployment,
            namespace: "n".to_owned(),
            name: "shop-deployment".to_owned(),
        }
    }

    fn made(annotations: &[(&str, &str)], mtls: bool) -> Service {
        service(&key(), &workload(annotations), "shop", mtls)
    }

    fn ports(service: &Service) -> Vec<(String, i32, IntOrString, String)> {
        let ports = service.spec.as_ref().unwrap().ports.clone().unwrap();
        ports
            .into_iter()
            .map(|port| {
                (
                    port.name.unwrap(),
                    port.port,
                    port.target_port.unwrap(),
                    port.app_protocol.unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_service_of_an_app() {
        let service = made(&[], true);
        assert_eq!(service.metadata.name.as_deref(), Some("shop-dapr"));
        assert_eq!(
            service.metadata.labels.as_ref().unwrap()["dapr.io/enabled"],
            "true"
        );
        let owner = &service.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.controller),
            ("Deployment", Some(true))
        );
        let line = |name: &str, port, target, protocol: &str| {
            (
                name.to_owned(),
                port,
                IntOrString::Int(target),
                protocol.to_owned(),
            )
        };
        assert_eq!(
            ports(&service),
            [
                line("dapr-http", 80, 3500, "http"),
                line("dapr-grpc", 50001, 50001, "grpc"),
                line("dapr-internal", 50002, 50002, "tls"),
                line("dapr-metrics", 9090, 9090, "http"),
            ]
        );
        let annotations = service.metadata.annotations.unwrap();
        let expected = [
            ("dapr.io/app-id", "shop"),
            ("prometheus.io/path", "/"),
            ("prometheus.io/port", "9090"),
            ("prometheus.io/probe", "true"),
            ("prometheus.io/scrape", "true"),
        ];
        let pairs: Vec<_> = annotations
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(pairs, expected);
    }

    #[test]
    fn annotations_change_ports_and_more() {
        let service = made(
            &[
                ("grpc-port", "1"),
                ("internal-grpc-port", "2"),
                ("metrics-port", "x"),
                ("enable-metrics", "false"),
                (
                    "sidecar-svc-annotations",
                    "a = b, c=d=e,dapr.io/app-id=evil,=x,none",
                ),
            ],
            false,
        );
        let ports = ports(&service);
        assert_eq!((ports[1].1, ports[2].1, ports[3].1), (1, 2, 9090));
        assert_eq!(ports[2].3, "grpc");
        let annotations = service.metadata.annotations.unwrap();
        let pairs: Vec<_> = annotations
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("a", "b"), ("c", "d=e"), ("dapr.io/app-id", "shop")]
        );
    }

    #[test]
    fn app_ids_have_to_make_a_name() {
        let check = |id: &str| app_id(&workload(&[("app-id", id)])).map(str::to_owned);
        assert_eq!(check("my-app1"), Ok("my-app1".to_owned()));
        assert_eq!(check(&"a".repeat(58)), Ok("a".repeat(58)));
        assert_eq!(check(""), Err(Error::NoAppId));
        for bad in ["My", "a.b", "-a", "a_b", &"a".repeat(59)] {
            assert!(
                matches!(check(bad), Err(Error::InvalidAppId { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn what_the_api_server_adds_is_no_difference() {
        let desired = made(&[], true);
        let mut there = desired.clone();
        there.metadata.resource_version = Some("7".to_owned());
        there.spec.as_mut().unwrap().cluster_ips = Some(vec!["None".to_owned()]);
        there.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
        assert!(is_same(&there, &desired));
        there.spec.as_mut().unwrap().ports.as_mut().unwrap()[2].port = 7;
        assert!(!is_same(&there, &desired));
        assert!(!is_same(&made(&[], false), &desired));
    }
}
