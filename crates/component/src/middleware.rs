//! HTTP middleware: a chain around the API (`httpPipeline`) or around calls to the app (`appHttpPipeline`).

pub mod answer;

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::{Body, Component};

/// One link of a chain.
#[async_trait]
pub trait HttpMiddleware: Component {
    /// Answers a request, itself or by what comes after it.
    async fn call(&self, request: http::Request<Body>, next: Next<'_>) -> http::Response<Body>;
}

/// What stands at the end of a chain.
#[async_trait]
pub trait Endpoint: Send + Sync {
    /// Answers a request.
    async fn call(&self, request: http::Request<Body>) -> http::Response<Body>;
}

/// The address that a request came from, in its extensions where it came over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller(pub IpAddr);

/// The rest of a chain.
pub struct Next<'a> {
    rest: &'a [Arc<dyn HttpMiddleware>],
    end: &'a dyn Endpoint,
}

impl<'a> Next<'a> {
    /// The whole chain: `links` in order, then `end`.
    pub fn new(links: &'a [Arc<dyn HttpMiddleware>], end: &'a dyn Endpoint) -> Self {
        Self { rest: links, end }
    }

    /// Runs the rest of the chain.
    pub fn run(self, request: http::Request<Body>) -> BoxFuture<'a, http::Response<Body>> {
        match self.rest.split_first() {
            Some((first, rest)) => {
                let next = Next {
                    rest,
                    end: self.end,
                };
                first.call(request, next)
            }
            None => self.end.call(request),
        }
    }
}
