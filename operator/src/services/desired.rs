//! The Service that an app should have, and what that makes of the one there, without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubernetes::owner;
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

/// The workloads that an app has at the moment, two of them while one takes over from the other. The Service is there for
/// as long as one of them is; it selects the pods of the one that controls it.
pub struct Owners<'a> {
    pub controller: (&'a Key, &'a Workload),
    pub others: Vec<(&'a Key, &'a Workload)>,
}

impl<'a> Owners<'a> {
    /// Those of an app. The one that controls the Service there stays in control.
    pub fn new(all: &'a [(Key, Arc<Workload>)], there: Option<&Service>) -> Option<Self> {
        let controller = there.and_then(|there| owner::controller(&there.metadata));
        let controls = |workload: &Workload| controller.is_some_and(|it| it.uid == workload.uid);
        let mut all: Vec<_> = all.iter().map(|(key, it)| (key, &**it)).collect();
        let first = all
            .iter()
            .position(|(_, it)| controls(it))
            .unwrap_or_default();
        (!all.is_empty()).then(|| Self {
            controller: all.remove(first),
            others: all,
        })
    }

    fn references(&self) -> Vec<OwnerReference> {
        let reference = |(key, workload): &(&Key, &Workload), controller: bool| {
            let resource = key.kind.resource();
            OwnerReference {
                api_version: resource.api_version,
                kind: resource.kind,
                name: key.name.clone(),
                uid: workload.uid.clone(),
                controller: Some(controller),
                block_owner_deletion: Some(true),
            }
        };
        let others = self.others.iter().map(|it| reference(it, false));
        std::iter::once(reference(&self.controller, true))
            .chain(others)
            .collect()
    }
}

/// The Service of an app. With mTLS the internal port is declared as TLS, or meshes would take it for h2c.
pub fn service(owners: &Owners<'_>, app_id: &str, mtls: bool) -> Service {
    let (key, workload) = owners.controller;
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
    Service {
        metadata: ObjectMeta {
            name: Some(name(app_id)),
            namespace: Some(key.namespace.clone()),
            labels: Some([(annotations::ENABLED.to_owned(), "true".to_owned())].into()),
            annotations: Some(service_annotations(workload, app_id, metrics)),
            owner_references: Some(owners.references()),
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

#[cfg(test)]
mod tests;
