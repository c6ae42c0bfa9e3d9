//! The middleware with guests of ours, written in the text format.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bodies;
mod limits;
mod logging;
mod opening;
mod pool;
mod request;
mod response;
mod wasi;

use std::{io::Write, sync::Arc};

use async_trait::async_trait;
use component::{
    Body, Catalog, HttpMiddleware, Result, body,
    middleware::{Endpoint, Next},
};
use component_conformance::{fields, open};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;

/// What every guest here imports.
const HOST: &str = r#"
  (import "http_handler" "enable_features" (func $enable_features (param i32) (result i32)))
  (import "http_handler" "get_config" (func $get_config (param i32 i32) (result i32)))
  (import "http_handler" "log_enabled" (func $log_enabled (param i32) (result i32)))
  (import "http_handler" "log" (func $log (param i32 i32 i32)))
  (import "http_handler" "get_method" (func $get_method (param i32 i32) (result i32)))
  (import "http_handler" "set_method" (func $set_method (param i32 i32)))
  (import "http_handler" "get_uri" (func $get_uri (param i32 i32) (result i32)))
  (import "http_handler" "set_uri" (func $set_uri (param i32 i32)))
  (import "http_handler" "get_protocol_version" (func $get_version (param i32 i32) (result i32)))
  (import "http_handler" "get_source_addr" (func $get_source (param i32 i32) (result i32)))
  (import "http_handler" "get_header_names" (func $names (param i32 i32 i32) (result i64)))
  (import "http_handler" "get_header_values" (func $values (param i32 i32 i32 i32 i32) (result i64)))
  (import "http_handler" "set_header_value" (func $set_header (param i32 i32 i32 i32 i32)))
  (import "http_handler" "add_header_value" (func $add_header (param i32 i32 i32 i32 i32)))
  (import "http_handler" "remove_header" (func $remove_header (param i32 i32 i32)))
  (import "http_handler" "read_body" (func $read (param i32 i32 i32) (result i64)))
  (import "http_handler" "write_body" (func $write (param i32 i32 i32)))
  (import "http_handler" "get_status_code" (func $get_status (result i32)))
  (import "http_handler" "set_status_code" (func $set_status (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "x-a\00\00\00\00\00x-b\00\00\00\00\00one\00\00\00\00\00two")
"#;

/// A module of functions.
fn module(functions: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {HOST} {functions})")).unwrap()
}

/// One that does something with requests, and nothing with responses.
fn on_request(does: &str) -> Vec<u8> {
    module(&format!(
        r#"(func (export "handle_request") (result i64) {does})
           (func (export "handle_response") (param i32 i32))"#
    ))
}

/// One that enables features, hands requests on, and does something with responses.
fn on_response(features: u32, does: &str) -> Vec<u8> {
    module(&format!(
        r#"(func (export "handle_request") (result i64)
             (drop (call $enable_features (i32.const {features}))) (i64.const 0x700000001))
           (func (export "handle_response") (param $context i32) (param $failed i32) {does})"#
    ))
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_wasm::register(&mut catalog).expect("no name is taken twice");
    catalog
}

async fn opened_with(module: &[u8], fields: &[(&str, &str)]) -> Result<Arc<dyn HttpMiddleware>> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(module).unwrap();
    let url = format!("file://{}", file.path().display());
    let mut all = vec![("url", &*url)];
    all.extend(fields);
    catalog()
        .middleware
        .open("wasm", "v1", open("guest", &all))
        .await
}

async fn opened(module: &[u8]) -> Arc<dyn HttpMiddleware> {
    opened_with(module, &[]).await.unwrap()
}

/// What stands behind the middleware: tells what came through.
struct Behind;

#[async_trait]
impl Endpoint for Behind {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let (text, trailers) = read(body).await;
        let told = format!("{} {} {text}", parts.method, parts.uri);
        let mut response = Response::builder().status(201).header("x-b", "next");
        for (name, value) in parts.headers.iter().chain(&trailers) {
            response = response.header(format!("seen-{name}"), value);
        }
        response.body(body::full(told)).unwrap()
    }
}

async fn ask(middleware: &Arc<dyn HttpMiddleware>, request: Request<Body>) -> Response<Body> {
    let links = [Arc::clone(middleware)];
    Next::new(&links, &Behind).run(request).await
}

fn post(text: &'static str) -> Request<Body> {
    let request = Request::post("/a?b=c").header("x-a", "1");
    request.body(body::full(text)).unwrap()
}

async fn read(body: Body) -> (String, HeaderMap) {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    (
        String::from_utf8(collected.to_bytes().to_vec()).unwrap(),
        trailers,
    )
}

/// Status and body.
async fn said(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    (status, read(response.into_body()).await.0)
}

/// What the guest answers a request with `abc`.
async fn answered(module: &[u8]) -> (u16, String) {
    said(ask(&opened(module).await, post("abc")).await).await
}

#[test]
fn fields_are_declared_as_the_reference_lists_them() {
    fields::suite(&catalog());
}
