//! The operation of output bindings.

use std::collections::BTreeMap;

use ::bindings::Error;
use component::bindings::InvokeRequest;
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::runtime::v1::{InvokeBindingRequest, InvokeBindingResponse};
use telemetry::trace::{BAGGAGE, Baggage, TRACEPARENT, TRACESTATE};

use super::{Api, Operation, Route, rpc};
use crate::{
    ApiError, CallContext, Reply, Transport, http::bindings as codec, reason::bindings as reason,
    reason::general,
};

pub static ROWS: &[Operation] = &[Operation::new(
    "InvokeBinding",
    "bindings",
    &[rpc!("InvokeBinding", "v1", invoke_binding)],
    &[Route {
        methods: &["POST", "PUT"],
        path: "/v1.0/bindings/{name}",
        codec: |api, call| Box::pin(codec::invoke(api, call)),
    }],
)];

/// Metadata of an answer are headers with this prefix, also where it is an error.
const PREFIX: &str = "metadata.";

/// An answer; whether there is any data tells the HTTP API its status.
pub(crate) struct Invoked {
    pub data: Option<bytes::Bytes>,
    pub metadata: BTreeMap<String, String>,
    pub headers: HeaderMap,
}

impl Api {
    /// Calls an output binding.
    pub async fn invoke_binding(
        &self,
        call: &CallContext,
        request: InvokeBindingRequest,
    ) -> Result<Reply<InvokeBindingResponse>, ApiError> {
        let invoked = self.invoke_output(call, request).await?;
        Ok(Reply {
            message: InvokeBindingResponse {
                data: invoked.data.unwrap_or_default(),
                metadata: invoked.metadata,
            },
            metadata: invoked.headers,
        })
    }

    pub(crate) async fn invoke_output(
        &self,
        call: &CallContext,
        request: InvokeBindingRequest,
    ) -> Result<Invoked, ApiError> {
        let name = request.name;
        let request = InvokeRequest {
            operation: request.operation,
            data: request.data,
            metadata: metadata(call, request.metadata)?,
        };
        match self.options.bindings.invoke(&name, &request).await {
            Ok(answer) => Ok(Invoked {
                headers: headers(&answer.metadata),
                data: answer.data,
                metadata: answer.metadata,
            }),
            Err(error) => {
                let text = format!("error invoking output binding {name}: {error}");
                let failed = ApiError::new(&reason::INVOKE, text);
                Err(match &error {
                    Error::Component(said) => failed.headers(headers(said.metadata())),
                    _ => failed,
                })
            }
        }
    }
}

fn headers(metadata: &BTreeMap<String, String>) -> HeaderMap {
    let pairs = metadata.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes()).ok()?;
        Some((name, HeaderValue::from_str(value).ok()?))
    });
    pairs.collect()
}

/// The request's metadata, and of the call what travels with it: the trace, and over gRPC all that the caller sent.
fn metadata(
    call: &CallContext,
    mut metadata: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, ApiError> {
    let baggage = Baggage::from_headers(&call.headers)
        .map_err(|problem| ApiError::new(&general::MALFORMED_REQUEST, problem.to_string()))?;
    // Compat: Q-binding-metadata: what a caller puts on a gRPC call is metadata for the binding, too.
    if call.transport == Transport::Grpc {
        for name in call.headers.keys() {
            let Some(value) = call.header(name.as_str()) else {
                continue;
            };
            let name = match name.as_str() {
                reserved if reserved.starts_with("grpc-") => format!("dapr-{reserved}"),
                other => other.to_owned(),
            };
            metadata.entry(name).or_insert_with(|| value.to_owned());
        }
    }
    if let Some(trace) = &call.trace {
        metadata.insert(TRACEPARENT.to_owned(), trace.traceparent());
        if let Some(state) = trace.tracestate() {
            metadata.insert(TRACESTATE.to_owned(), state.to_owned());
        }
    } else if let Some(none) = call.header(TRACEPARENT) {
        metadata.insert(TRACEPARENT.to_owned(), none.to_owned());
    }
    if let Some(baggage) = baggage {
        metadata.insert(BAGGAGE.to_owned(), baggage.as_str().to_owned());
    }
    Ok(metadata)
}
