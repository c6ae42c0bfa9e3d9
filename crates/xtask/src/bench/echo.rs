//! The app at the far end: answers what it is sent, over HTTP or as the gRPC callback.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use proto::common::v1::{InvokeRequest, InvokeResponse};
use proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use proto::runtime::v1::{
    BindingEventRequest, BindingEventResponse, JobEventRequest, JobEventResponse,
    ListInputBindingsResponse, ListTopicSubscriptionsResponse, TopicEventBulkRequest,
    TopicEventBulkResponse, TopicEventRequest, TopicEventResponse,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use transport::{Listener, RequestBody, ServerOptions};

use super::arrivals::Arrivals;
use super::calls::Target;

/// A running app; it stops when dropped.
pub(super) struct Echo {
    protocol: Protocol,
    port: u16,
    _thread: JoinHandle<()>,
    _stop: DropGuard,
}

/// How an app or a sidecar is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

impl Protocol {
    /// As flags spell it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Grpc => "grpc",
        }
    }
}

impl Echo {
    /// Starts one; it notes events when they arrive.
    pub fn start(protocol: Protocol, arrivals: &Arrivals) -> Result<Self> {
        Self::of(App(arrivals.clone(), None), protocol)
    }

    /// Starts one that hosts actors of a type.
    pub fn hosting(actors: &'static str) -> Result<Self> {
        Self::of(App(Arrivals::default(), Some(actors)), Protocol::Http)
    }

    fn of(app: App, protocol: Protocol) -> Result<Self> {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().drop_guard();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            // Whoever waits for the port sees the end of the channel.
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            else {
                return;
            };
            runtime.block_on(async {
                let Ok(listener) = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
                else {
                    return;
                };
                let port = listener.local_addr().map_or(0, |address| address.port());
                if sender.send(port).is_ok() {
                    serve(protocol, app, listener, shutdown).await;
                }
            });
        });
        let port = receiver
            .recv()
            .map_err(|_| anyhow!("no port"))
            .context("starting the echo app")?;
        Ok(Echo {
            protocol,
            port,
            _thread: thread,
            _stop: stop,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A call of it, without a sidecar.
    pub fn target(&self, payload: usize) -> Target {
        let target = match self.protocol {
            Protocol::Http => {
                Target::http(self.port, Method::POST, "/echo", BYTES).body(body(payload))
            }
            Protocol::Grpc => Target::grpc(
                self.port,
                "/dapr.proto.runtime.v1.AppCallback/OnInvoke",
                &message(payload),
            ),
        };
        target.answers(payload..=usize::MAX)
    }
}

async fn serve(protocol: Protocol, app: App, listener: Listener, shutdown: CancellationToken) {
    let options = ServerOptions::default();
    match protocol {
        Protocol::Http => {
            let service = tower::service_fn(move |request| echo(app.clone(), request));
            transport::serve(listener, options, service, shutdown).await;
        }
        Protocol::Grpc => {
            transport::serve(listener, options, AppCallbackServer::new(app), shutdown).await;
        }
    }
}

async fn echo(
    app: App,
    request: Request<RequestBody>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let is_event = path == DELIVER;
    if let (Some(kind), &Method::GET) = (app.1, request.method())
        && path == "/dapr/config"
    {
        let config = format!("{{\"entities\": [\"{kind}\"]}}");
        return Ok(Response::new(Full::new(config.into())));
    }
    let status = if request.method() == Method::GET && !(app.1.is_some() && path == "/healthz") {
        StatusCode::NOT_FOUND
    } else {
        StatusCode::OK
    };
    let body = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let body = if is_event {
        app.0.note(&body);
        Bytes::new()
    } else {
        body
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    Ok(response)
}

/// What it notes, and the type of its actors.
#[derive(Clone)]
struct App(Arrivals, Option<&'static str>);

#[tonic::async_trait]
impl AppCallback for App {
    async fn on_invoke(
        &self,
        request: tonic::Request<InvokeRequest>,
    ) -> Result<tonic::Response<InvokeResponse>, tonic::Status> {
        let InvokeRequest {
            data, content_type, ..
        } = request.into_inner();
        Ok(tonic::Response::new(InvokeResponse { data, content_type }))
    }

    async fn list_topic_subscriptions(
        &self,
        _: tonic::Request<()>,
    ) -> Result<tonic::Response<ListTopicSubscriptionsResponse>, tonic::Status> {
        Ok(tonic::Response::new(Default::default()))
    }

    async fn on_topic_event(
        &self,
        request: tonic::Request<TopicEventRequest>,
    ) -> Result<tonic::Response<TopicEventResponse>, tonic::Status> {
        self.0.note(&request.into_inner().data);
        Ok(tonic::Response::new(Default::default()))
    }

    async fn list_input_bindings(
        &self,
        _: tonic::Request<()>,
    ) -> Result<tonic::Response<ListInputBindingsResponse>, tonic::Status> {
        Ok(tonic::Response::new(Default::default()))
    }

    async fn on_binding_event(
        &self,
        _: tonic::Request<BindingEventRequest>,
    ) -> Result<tonic::Response<BindingEventResponse>, tonic::Status> {
        Ok(tonic::Response::new(Default::default()))
    }

    async fn on_bulk_topic_event(
        &self,
        _: tonic::Request<TopicEventBulkRequest>,
    ) -> Result<tonic::Response<TopicEventBulkResponse>, tonic::Status> {
        Ok(tonic::Response::new(Default::default()))
    }

    async fn on_job_event(
        &self,
        _: tonic::Request<JobEventRequest>,
    ) -> Result<tonic::Response<JobEventResponse>, tonic::Status> {
        Ok(tonic::Response::new(Default::default()))
    }
}

/// What is sent to it over gRPC.
pub(super) fn message(payload: usize) -> InvokeRequest {
    InvokeRequest {
        method: "echo".to_owned(),
        data: Some(prost_types::Any {
            value: body(payload),
            ..prost_types::Any::default()
        }),
        content_type: BYTES.to_owned(),
        http_extension: None,
    }
}

/// What is sent to it over HTTP.
pub(super) fn body(payload: usize) -> Vec<u8> {
    vec![b'x'; payload]
}

/// Content type of what is sent to it.
pub(super) const BYTES: &str = "application/octet-stream";

/// Where events are delivered to; everything else is answered with what it held.
pub(super) const DELIVER: &str = "/deliver";
