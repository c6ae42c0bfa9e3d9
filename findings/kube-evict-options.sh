#!/bin/bash
# An eviction through kube-rs loses its delete options on the way, preconditions and grace period included.
#
# Versions: kube-core 5.0.0 (crates of Rust), k8s-openapi 0.29.0 for the type of a pod.
# Source: the Kubernetes API, policy/v1 Eviction: the field is called `deleteOptions`. An API server drops fields that it does
# not know, with a warning at most.
# Behaviour: the request holds `delete_options` instead. The eviction is carried out as if nothing had been asked for: a pod
# that has taken the name of the one that was meant meanwhile is evicted, although the uid in the preconditions forbids it.
# Output seen: the lines below `expected`.
# What a program can do: send the Eviction itself, as an object of k8s-openapi, to the subresource.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "evict"
version = "0.0.0"
edition = "2024"
[dependencies]
kube-core = "=5.0.0"
k8s-openapi = { version = "=0.29.0", features = ["latest"] }
serde_json = "1"
TOML
cat >src/main.rs <<'RUST'
use k8s_openapi::api::{core::v1::Pod, policy::v1::Eviction};
use kube_core::{
    Request, Resource,
    params::{DeleteParams, Preconditions},
    subresource::EvictParams,
};

fn main() {
    let only_this = Preconditions {
        uid: Some("1".into()),
        resource_version: None,
    };
    let params = EvictParams {
        delete_options: Some(DeleteParams::default().preconditions(only_this)),
        ..EvictParams::default()
    };
    let request = Request::new(Pod::url_path(&(), Some("ns")));
    let body = request.evict("web", &params).expect("a request").into_body();
    let sent: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    println!("sent {sent}");
    let read: Eviction = serde_json::from_value(sent).expect("an Eviction");
    println!("a server reads options: {}", read.delete_options.is_some());
}
RUST
cat >expected <<'TEXT'
sent {"delete_options":{"preconditions":{"uid":"1"}},"metadata":{"name":"web"}}
a server reads options: false
TEXT
CARGO_TARGET_DIR="$folder/target" cargo run --quiet | tee seen
diff expected seen
