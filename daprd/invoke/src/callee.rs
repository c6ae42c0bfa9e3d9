//! The callee's side: the internal gRPC server that other sidecars call. Who calls is known from the connection.

use std::sync::Arc;

use component::{Body, body};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use proto::{
    common::v1::{InvokeRequest, InvokeResponse, StreamPayload},
    internals::v1::{
        InternalInvokeRequest, InternalInvokeRequestStream, InternalInvokeResponse,
        InternalInvokeResponseStream, Status as HttpStatus,
    },
};
use security::SpiffeId;
use tonic::{Status, Streaming, server::Grpc};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};
use transport::Peer;

use crate::{
    Invoker,
    access_control::Call,
    answer::{self, GrpcAnswer},
    headers,
    message::{self, MessageHead},
    method::{self, MethodPath},
    remote,
};

const SERVICE: &str = "/dapr.proto.internals.v1.ServiceInvocation/";
const CALL_LOCAL: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";
const CALL_LOCAL_STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";
const REFLECTION: &str = "/grpc.reflection.";

/// The internal server, but for what other sidecars ask of actors. Clones share it.
#[derive(Clone)]
pub struct Internal(Invoker);

impl Internal {
    pub(crate) fn new(invoker: Invoker) -> Self {
        Self(invoker)
    }

    /// Answers one request of another sidecar.
    pub async fn handle<B>(self, request: Request<B>) -> Response<tonic::body::Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<component::BoxError>,
    {
        let request = request.map(body::streamed);
        let callee = Callee(self.0);
        let path = request.uri().path();
        match path {
            CALL_LOCAL => Box::pin(callee.serve_one(request)).await,
            CALL_LOCAL_STREAM => Box::pin(callee.serve_stream(request)).await,
            _ if path.starts_with(REFLECTION) => reflection(request).await,
            _ if path.starts_with(SERVICE) => Status::unimplemented(path).into_http(),
            _ => callee.0.pass_to_app(request).await,
        }
    }
}

/// Lists the services of our proto files, in either version of the protocol: Go's tools still ask by the older one.
pub async fn reflection(request: Request<Body>) -> Response<tonic::body::Body> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET);
    let answer = if request.uri().path().contains(".v1alpha.") {
        match builder.build_v1alpha() {
            Ok(mut service) => service.call(request).await,
            Err(error) => return Status::internal(error.to_string()).into_http(),
        }
    } else {
        match builder.build_v1() {
            Ok(mut service) => service.call(request).await,
            Err(error) => return Status::internal(error.to_string()).into_http(),
        }
    };
    let Ok(response) = answer;
    response
}

/// The identity that a connection proved, if it is one of mTLS.
pub(crate) fn caller<T>(request: &tonic::Request<T>) -> Result<Option<SpiffeId>, Status> {
    match request.extensions().get::<Peer>() {
        Some(peer) => security::peer_id(peer)
            .map_err(|error| Status::unauthenticated(component::error::chain(&error))),
        None => Ok(None),
    }
}

#[derive(Clone)]
struct Callee(Invoker);

type Chunks<T> = stream::BoxStream<'static, Result<T, Status>>;

impl Callee {
    async fn serve_one(self, request: Request<Body>) -> Response<tonic::body::Body> {
        let mut grpc: Grpc<ProstCodec<_, _>> = self.grpc();
        let call = service_fn(move |request| {
            let callee = self.clone();
            async move { callee.call_local(request).await }
        });
        grpc.unary(call, request).await
    }

    async fn serve_stream(self, request: Request<Body>) -> Response<tonic::body::Body> {
        let mut grpc: Grpc<ProstCodec<_, _>> = self.grpc();
        let call = service_fn(move |request| {
            let callee = self.clone();
            async move { callee.call_local_stream(request).await }
        });
        grpc.streaming(call, request).await
    }

    fn grpc<A, Q>(&self) -> Grpc<ProstCodec<A, Q>>
    where
        A: prost::Message + Send + 'static,
        Q: prost::Message + Default + Send + 'static,
    {
        let limit = Some(self.0.0.options.max_message);
        Grpc::new(ProstCodec::default()).apply_max_message_size_config(limit, limit)
    }

    async fn call_local(
        &self,
        request: tonic::Request<InternalInvokeRequest>,
    ) -> Result<tonic::Response<InternalInvokeResponse>, Status> {
        let id = caller(&request)?;
        let mut head = request.into_inner();
        let data = head
            .message
            .as_mut()
            .and_then(|message| message.data.take());
        let data = data.unwrap_or_default().value;
        let response = self.invoke(id.as_ref(), head, body::full(data)).await?;
        let (parts, body) = response.into_parts();
        let limit = self.0.0.options.max_message;
        let whole = body::read(body, limit).await.map_err(unread)?;
        let mut reply = reply_head(&parts);
        if let Some(message) = &mut reply.message {
            let data = message.data.get_or_insert_default();
            data.value = whole.into();
        }
        Ok(tonic::Response::new(reply))
    }

    async fn call_local_stream(
        &self,
        request: tonic::Request<Streaming<InternalInvokeRequestStream>>,
    ) -> Result<tonic::Response<Chunks<InternalInvokeResponseStream>>, Status> {
        let id = caller(&request)?;
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.unwrap_or_default();
        let head = first.request.ok_or_else(missing)?;
        let rest = incoming.map(|message| {
            let message = message?;
            if message.request.is_some() {
                return Err(Status::invalid_argument(
                    "request metadata found in non-leading chunk",
                ));
            }
            Ok(message.payload)
        });
        let body = remote::numbered(first.payload, rest);
        let response = self.invoke(id.as_ref(), head, body).await?;
        let (parts, body) = response.into_parts();
        Ok(tonic::Response::new(chunks(reply_head(&parts), body)))
    }
}

fn unread(error: body::ReadError) -> Status {
    let text = format!("the app's answer cannot be sent as one message: {error}");
    match error {
        body::ReadError::TooLarge { .. } => Status::resource_exhausted(text),
        body::ReadError::Broken(_) => Status::internal(text),
    }
}

fn missing() -> Status {
    Status::invalid_argument(
        "parsing InternalInvokeRequest error: request does not contain the required fields in the leading chunk",
    )
}

impl Callee {
    /// Checks the access list, then asks the app.
    async fn invoke(
        &self,
        caller: Option<&SpiffeId>,
        head: InternalInvokeRequest,
        body: Body,
    ) -> Result<Response<Body>, Status> {
        let inner = &self.0.0;
        let message = head.message.ok_or_else(missing)?;
        let method = MethodPath::from_message(&message.method)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let verb = message.http_extension.clone().unwrap_or_default().verb();
        let source = match caller {
            Some(id) => id.app_id(),
            None => headers::caller_app_id(&head.metadata),
        };
        let source: Arc<str> = source.into();
        let is_grpc = inner.options.app.protocol().is_grpc();
        let call = if is_grpc {
            Call::Grpc
        } else {
            Call::Http {
                verb: verb.as_str_name(),
            }
        };
        self.0.authorize(caller, &method, call)?;
        inner.metrics.called(&source);
        if !is_grpc {
            message::check_extension(message.http_extension.as_ref()).map_err(|error| {
                Status::internal(format!("error invoking app channel: {error}"))
            })?;
        }
        let mut request = http_request(message, &head.metadata, body)?;
        if let Some(id) = caller {
            headers::name_caller(request.headers_mut(), id);
        }
        // Q-sse-status: also where the caller accepts nothing but events, the app's own status is the answer.
        let answer = self.0.local(&method, request).await;
        let response = answer.map_err(|error| match error {
            crate::Error::Method(_) => Status::internal(error.to_string()),
            other => other.into_status(),
        })?;
        inner.metrics.answered(&source, response.status());
        Ok(response)
    }
}

impl Invoker {
    /// Asks the access list; a denial is counted and logged.
    pub(crate) fn authorize(
        &self,
        caller: Option<&SpiffeId>,
        method: &MethodPath,
        call: Call<'_>,
    ) -> Result<(), Status> {
        let inner = &self.0;
        let verdict = inner.options.access_control.judge(caller, method, call);
        let domain = caller.map(|id| id.trust_domain().to_string());
        let namespace = caller.map(SpiffeId::namespace);
        inner.metrics.judged(
            domain.as_deref().unwrap_or_default(),
            namespace.unwrap_or_default(),
            verdict.allowed,
            verdict.by_policy,
        );
        if verdict.allowed {
            return Ok(());
        }
        let who = caller.map_or_else(|| "an unknown caller".to_owned(), SpiffeId::to_string);
        let method = method.as_str();
        tracing::debug!(target: "dapr.runtime.acl", "access of {who} to method {method:?} is denied");
        Err(Status::permission_denied(format!(
            "access control policy has denied access to id: {who} operation: {method}"
        )))
    }
}

/// The request that an HTTP app gets.
fn http_request(
    message: InvokeRequest,
    metadata: &peers::metadata::Metadata,
    body: Body,
) -> Result<Request<Body>, Status> {
    let extension = message.http_extension.clone().unwrap_or_default();
    let mut request = Request::new(body);
    *request.method_mut() = message::verb(&extension);
    // The path is the method's only for an HTTP app, which is asked last.
    *request.uri_mut() = method::query_only(&extension.querystring)
        .map_err(|error| Status::internal(error.to_string()))?;
    let mut all: HeaderMap = peers::metadata::into_headers(metadata);
    transport::remove_hop_by_hop(&mut all);
    all.remove(header::HOST);
    if let Ok(content_type) = HeaderValue::from_str(&message.content_type)
        && !message.content_type.is_empty()
    {
        all.insert(header::CONTENT_TYPE, content_type);
    }
    *request.headers_mut() = all;
    request.extensions_mut().insert(MessageHead {
        http_extension: message.http_extension,
        type_url: message.data.unwrap_or_default().type_url,
        content_type: message.content_type,
    });
    Ok(request)
}

/// The first message of an answer: everything but the body.
fn reply_head(parts: &http::response::Parts) -> InternalInvokeResponse {
    let mut all = parts.headers.clone();
    transport::remove_hop_by_hop(&mut all);
    let (status, message) = match parts.extensions.get::<GrpcAnswer>() {
        Some(answer) => {
            let data = prost_types::Any {
                type_url: answer.type_url.clone(),
                value: Vec::new(),
            };
            let message = InvokeResponse {
                data: Some(data),
                content_type: answer.content_type.clone(),
            };
            (answer::into_internal(&answer.status), message)
        }
        None => {
            let status = HttpStatus {
                code: i32::from(parts.status.as_u16()),
                ..HttpStatus::default()
            };
            let content_type = all.get(header::CONTENT_TYPE);
            let message = InvokeResponse {
                data: None,
                content_type: content_type
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default()
                    .to_owned(),
            };
            (status, message)
        }
    };
    InternalInvokeResponse {
        status: Some(status),
        message: Some(message),
        headers: headers::from_headers(&all),
        ..InternalInvokeResponse::default()
    }
}

/// The answer in numbered chunks, its head at once.
fn chunks(head: InternalInvokeResponse, body: Body) -> Chunks<InternalInvokeResponseStream> {
    let first = InternalInvokeResponseStream {
        response: Some(head),
        payload: None,
    };
    let rest = stream::unfold((body, 0u64), |(mut body, seq)| async move {
        loop {
            let frame = match body.frame().await? {
                Ok(frame) => frame,
                Err(error) => {
                    let status = Status::internal(format!("the app's answer broke off: {error}"));
                    return Some((Err(status), (body::empty(), seq)));
                }
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.is_empty() {
                continue;
            }
            let message = InternalInvokeResponseStream {
                response: None,
                payload: Some(StreamPayload { data, seq }),
            };
            return Some((Ok(message), (body, seq + 1)));
        }
    });
    stream::once(async { Ok(first) }).chain(rest).boxed()
}
