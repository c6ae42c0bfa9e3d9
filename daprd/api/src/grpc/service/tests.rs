//! Operations of each shape behind tonic's own client.

use std::{convert::Infallible, time::Duration};

use component::body;
use futures::stream;
use http::{HeaderMap, HeaderValue};
use proto::runtime::v1::{GetSecretRequest, GetSecretResponse};
use telemetry::{Meter, MetricOptions};
use tonic::{Code, client::Grpc as Client};

use super::*;
use crate::{Reply, reason};

type Ask = GetSecretRequest;
type Tell = GetSecretResponse;

fn ask(key: &str) -> Ask {
    Ask {
        key: key.to_owned(),
        ..Ask::default()
    }
}

fn tell(key: &str) -> Tell {
    Tell {
        data: [(key.to_owned(), String::new())].into(),
    }
}

fn denied() -> ApiError {
    ApiError::new(&reason::secrets::DENIED, "no")
}

struct Counted {
    registry: prometheus::Registry,
    serving: Serving,
}

impl Counted {
    fn new() -> Self {
        let registry = prometheus::Registry::new();
        let meter = Meter::new(&registry, MetricOptions::default()).unwrap();
        let errors = ErrorCodes::new(&meter, true);
        let serving = Serving {
            max_message: 1 << 20,
            errors,
        };
        Self { registry, serving }
    }

    /// How many errors have been counted.
    fn errors(&self) -> f64 {
        let families = self.registry.gather();
        let series = families.iter().flat_map(|family| family.get_metric());
        series.map(|one| one.get_counter().get_value()).sum()
    }
}

/// A client of one function.
fn client<F>(
    serve: fn(Serving, http::Request<Body>, F) -> BoxFuture<'static, Response>,
    serving: &Serving,
    operation: F,
) -> Client<
    impl tower::Service<
        http::Request<tonic::body::Body>,
        Response = Response,
        Error = Infallible,
        Future = impl Future<Output = Result<Response, Infallible>>,
    >,
>
where
    F: Clone + 'static,
{
    let serving = serving.clone();
    Client::new(tower::service_fn(
        move |request: http::Request<tonic::body::Body>| {
            let answer = serve(
                serving.clone(),
                request.map(body::streamed),
                operation.clone(),
            );
            async move { Ok(answer.await) }
        },
    ))
}

fn codec() -> ProstCodec<Ask, Tell> {
    ProstCodec::default()
}

fn path() -> http::uri::PathAndQuery {
    http::uri::PathAndQuery::from_static("/s/M")
}

#[tokio::test]
async fn metadata_go_in_and_out() {
    let counted = Counted::new();
    let operation = |call: CallContext, message: Ask| async move {
        if message.key == "bad" {
            return Err(denied());
        }
        let mut metadata = HeaderMap::new();
        let given = call.headers.get("x-in").cloned();
        metadata.insert("x-out", given.unwrap_or(HeaderValue::from_static("none")));
        Ok(Reply {
            message: tell(&message.key),
            metadata,
        })
    };
    let mut client = client(
        |serving, request, operation| Box::pin(unary(serving, request, operation)),
        &counted.serving,
        operation,
    );
    let mut request = tonic::Request::new(ask("k"));
    request.metadata_mut().insert("x-in", "1".parse().unwrap());
    let reply = client.unary(request, path(), codec()).await.unwrap();
    assert_eq!(reply.metadata().get("x-out").unwrap(), "1");
    assert_eq!(reply.into_inner(), tell("k"));
    assert_eq!(counted.errors(), 0.0);

    let request = tonic::Request::new(ask("bad"));
    let status = client.unary(request, path(), codec()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "no")
    );
    assert_eq!(counted.errors(), 1.0);
}

#[tokio::test]
async fn the_trace_of_a_call_goes_back_with_its_answer() {
    let counted = Counted::new();
    let operation = |_: CallContext, message: Ask| async move {
        let mut metadata = HeaderMap::new();
        match message.key.as_str() {
            "bad" => return Err(denied()),
            "own" => TraceContext::new([3; 16], [4; 8], true)
                .unwrap()
                .inject(&mut metadata),
            _ => {}
        }
        Ok(Reply {
            message: tell(&message.key),
            metadata,
        })
    };
    let mut client = client(
        |serving, mut request, operation| {
            let context = TraceContext::new([1; 16], [2; 8], true).unwrap();
            let of_app = request.headers().contains_key("x-of-app");
            request.extensions_mut().insert(Traced { context, of_app });
            Box::pin(unary(serving, request, operation))
        },
        &counted.serving,
        operation,
    );
    let trace = |metadata: &MetadataMap| {
        let told = TraceContext::from_grpc(metadata.as_ref());
        told.map(|told| told.trace_id()[..2].to_owned())
    };
    let reply = client.unary(tonic::Request::new(ask("k")), path(), codec());
    let reply = reply.await.unwrap();
    assert_eq!(trace(reply.metadata()).unwrap(), "01");
    assert!(!reply.metadata().contains_key("traceparent"));
    let status = client.unary(tonic::Request::new(ask("bad")), path(), codec());
    let status = status.await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(trace(status.metadata()).unwrap(), "01");
    for (key, told) in [("k", Some("01")), ("own", Some("03")), ("bad", None)] {
        let mut request = tonic::Request::new(ask(key));
        let yes = "yes".parse().unwrap();
        request.metadata_mut().insert("x-of-app", yes);
        let (metadata, own) = match client.unary(request, path(), codec()).await {
            Ok(reply) => (reply.metadata().clone(), true),
            Err(status) => (status.metadata().clone(), false),
        };
        assert_eq!(trace(&metadata).as_deref(), told, "{key}");
        assert_eq!(metadata.contains_key("traceparent"), own, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_ends_with_the_patience_of_its_caller() {
    let counted = Counted::new();
    let operation = |_: CallContext, _: Ask| std::future::pending::<Result<Tell, ApiError>>();
    let mut client = client(
        |serving, request, operation| Box::pin(unary(serving, request, operation)),
        &counted.serving,
        operation,
    );
    let mut request = tonic::Request::new(ask("k"));
    request.set_timeout(Duration::from_secs(7));
    let began = tokio::time::Instant::now();
    let status = client.unary(request, path(), codec()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed(), Duration::from_secs(7));
}

#[tokio::test]
async fn a_stream_of_replies_ends_with_its_error() {
    let counted = Counted::new();
    let operation = |_: CallContext, message: Ask| async move {
        if message.key.is_empty() {
            return Err(denied());
        }
        let items = [Ok(tell(&message.key)), Ok(tell("b")), Err(denied())];
        Ok(stream::iter(items).boxed())
    };
    let mut client = client(
        |serving, request, operation| Box::pin(server_stream(serving, request, operation)),
        &counted.serving,
        operation,
    );
    let request = tonic::Request::new(ask("a"));
    let reply = client.server_streaming(request, path(), codec()).await;
    let mut replies = reply.unwrap().into_inner();
    assert_eq!(replies.message().await.unwrap(), Some(tell("a")));
    assert_eq!(replies.message().await.unwrap(), Some(tell("b")));
    let status = replies.message().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(counted.errors(), 1.0);

    let request = tonic::Request::new(ask(""));
    let reply = client.server_streaming(request, path(), codec()).await;
    assert_eq!(reply.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(counted.errors(), 2.0);
}

#[tokio::test]
async fn streams_go_both_ways() {
    let counted = Counted::new();
    let operation = |_: CallContext, incoming: Incoming<Ask>| async move {
        let replies = incoming.map(|message| message.map(|message| tell(&message.key)));
        Ok(replies.boxed())
    };
    let mut client = client(
        |serving, request, operation| Box::pin(bidirectional(serving, request, operation)),
        &counted.serving,
        operation,
    );
    let request = tonic::Request::new(stream::iter([ask("a"), ask("b")]));
    let reply = client.streaming(request, path(), codec()).await;
    let replies: Vec<_> = reply.unwrap().into_inner().collect().await;
    let replies: Vec<Tell> = replies.into_iter().map(Result::unwrap).collect();
    assert_eq!(replies, [tell("a"), tell("b")]);
}

#[tokio::test]
async fn metadata_of_a_component_that_failed_stand_ahead_of_the_status() {
    let mut status = Status::internal("no");
    let metadata = status.metadata_mut();
    metadata.insert("metadata.statuscode", "404".parse().unwrap());
    metadata.insert("other", "1".parse().unwrap());
    let response = metadata_first(status.into_http());
    assert_eq!(response.headers()["metadata.statuscode"], "404");
    assert_eq!(response.headers()["content-type"], "application/grpc");
    assert!(!response.headers().contains_key("other"));
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    let body = body.unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "13");
    assert_eq!(trailers["other"], "1");

    let plain = metadata_first(Status::internal("no").into_http());
    assert_eq!(plain.headers()["grpc-status"], "13");
}

#[test]
fn a_status_behind_metadata_is_known() {
    let mut answer: Response = Status::permission_denied("no").into_http();
    let name = HeaderName::from_static(GRPC_TRACE_BIN);
    let context = TraceContext::new([1; 16], [2; 8], true).unwrap();
    answer
        .headers_mut()
        .insert(name, context.to_grpc_trace_bin());
    let answer = metadata_first(answer);
    assert!(answer.headers().contains_key(GRPC_TRACE_BIN));
    assert!(!answer.headers().contains_key(Status::GRPC_STATUS));
    let status = status_of(&answer).expect("it is known all the same");
    assert_eq!(status.code(), Code::PermissionDenied);
}
