//! The middleware against servers of ours: an OpenID Connect provider, and a token endpoint.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bearer;
mod oauth2;
mod server;

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Body, Catalog, HttpMiddleware, Lent, Open, Result, body,
    middleware::{Endpoint, Next},
    outgoing::HttpClients,
};
use component_conformance::{fields, open};
use http::{Request, Response};

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_middleware::register(&mut catalog).expect("no name is taken twice");
    catalog
}

async fn opened(
    name: &str,
    fields: &[(&str, &str)],
    http: Arc<dyn HttpClients>,
) -> Result<Arc<dyn HttpMiddleware>> {
    let lent = Lent {
        http,
        ..Lent::default()
    };
    let open = Open {
        lent,
        ..open(name, fields)
    };
    catalog().middleware.open(name, "v1", open).await
}

/// What stands behind the middleware: tells what came through.
struct Behind;

#[async_trait]
impl Endpoint for Behind {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let (parts, _) = request.into_parts();
        let mut response = Response::new(body::full(parts.uri.to_string()));
        let values = parts.headers.get_all("authorization").iter();
        for value in values {
            response.headers_mut().append("x-seen", value.clone());
        }
        response
    }
}

async fn ask(middleware: &Arc<dyn HttpMiddleware>, request: Request<Body>) -> Response<Body> {
    let links = [Arc::clone(middleware)];
    Next::new(&links, &Behind).run(request).await
}

fn get(path: &str) -> http::request::Builder {
    Request::get(path)
}

#[test]
fn fields_are_declared_as_the_reference_lists_them() {
    fields::suite(&catalog());
}
