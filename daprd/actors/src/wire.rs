//! Calls of actors as sidecars send them to each other. Names of headers are in Go's spelling, in which upstream's sidecars look
//! for them.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use peers::metadata::{self, Metadata};
use proto::{
    common::v1::{HttpExtension, InvokeRequest, InvokeResponse, http_extension::Verb},
    internals::v1::{Actor, ApiVersion, InternalInvokeRequest, InternalInvokeResponse, Status},
};

use crate::{ActorId, Request, Response, identity::check_method};

pub fn into_request(request: Request) -> InternalInvokeRequest {
    let Request {
        actor,
        method,
        query,
        content_type,
        headers,
        data,
    } = request;
    InternalInvokeRequest {
        ver: ApiVersion::V1.into(),
        metadata: into_metadata(headers),
        message: Some(InvokeRequest {
            method,
            data: Some(prost_types::Any {
                value: data.into(),
                ..prost_types::Any::default()
            }),
            content_type,
            http_extension: Some(HttpExtension {
                verb: Verb::Put.into(),
                querystring: query,
            }),
        }),
        actor: Some(Actor {
            actor_type: actor.kind,
            actor_id: actor.id,
        }),
    }
}

fn from_request(request: InternalInvokeRequest) -> Request {
    let message = request.message.unwrap_or_default();
    let actor = request.actor.unwrap_or_default();
    Request {
        actor: ActorId {
            kind: actor.actor_type,
            id: actor.actor_id,
        },
        method: message.method,
        query: message.http_extension.unwrap_or_default().querystring,
        content_type: message.content_type,
        headers: from_metadata(&request.metadata),
        data: message.data.unwrap_or_default().value.into(),
    }
}

/// A request of another sidecar, which is marked, so that it goes no further. `caller`: the app that its connection proved.
///
/// # Errors
/// `InvalidArgument` for names that leave their place in a path.
pub fn from_remote(
    request: InternalInvokeRequest,
    caller: Option<&str>,
) -> Result<Request, tonic::Status> {
    let mut request = from_request(request);
    request.headers.remove(CALLER);
    if let Some(caller) = caller.and_then(|caller| HeaderValue::from_str(caller).ok()) {
        request.headers.insert(CALLER, caller);
    }
    let checked = request
        .actor
        .check()
        .and_then(|()| check_method(&request.method));
    checked.map_err(tonic::Status::invalid_argument)?;
    let marker = HeaderValue::from_static("true");
    request.headers.insert(REMOTE, marker);
    Ok(request)
}

pub fn into_response(response: Response) -> InternalInvokeResponse {
    InternalInvokeResponse {
        status: Some(Status {
            code: i32::from(response.status),
            ..Status::default()
        }),
        headers: into_metadata(response.headers),
        message: Some(InvokeResponse {
            data: Some(prost_types::Any {
                value: response.data.into(),
                ..prost_types::Any::default()
            }),
            content_type: response.content_type,
        }),
        ..InternalInvokeResponse::default()
    }
}

pub fn from_response(response: InternalInvokeResponse) -> Response {
    let message = response.message.unwrap_or_default();
    let code = response.status.unwrap_or_default().code;
    Response {
        status: u16::try_from(code).unwrap_or(200),
        content_type: message.content_type,
        headers: from_metadata(&response.headers),
        data: message.data.unwrap_or_default().value.into(),
    }
}

fn into_metadata(mut headers: HeaderMap) -> Metadata {
    remove_connection(&mut headers);
    metadata::from_headers(&headers, metadata::as_go)
}

fn from_metadata(metadata: &Metadata) -> HeaderMap {
    let mut headers = metadata::into_headers(metadata);
    remove_connection(&mut headers);
    headers
}

/// Drops what concerns one connection, or what whoever sends the body writes.
pub fn remove_connection(headers: &mut HeaderMap) {
    transport::remove_hop_by_hop(headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        headers.remove(name);
    }
}

/// A call that has come from another sidecar.
pub const REMOTE: HeaderName = HeaderName::from_static("x-dapr-remote");

/// The app that has sent a call, as its connection proved; nobody else may say so.
pub const CALLER: HeaderName = HeaderName::from_static("dapr-caller-app-id");

/// The chain of calls that a call belongs to.
pub const REENTRANCY: HeaderName = HeaderName::from_static("dapr-reentrancy-id");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_survives_the_way() {
        let mut headers = HeaderMap::new();
        headers.insert(REENTRANCY, HeaderValue::from_static("a"));
        headers.append("x-two", HeaderValue::from_static("1"));
        headers.append("x-two", HeaderValue::from_static("2"));
        let request = Request {
            actor: ActorId {
                kind: "k".to_owned(),
                id: "1".to_owned(),
            },
            method: "m".to_owned(),
            query: "q=1".to_owned(),
            content_type: "text/plain".to_owned(),
            headers,
            data: "body".into(),
        };
        let wire = into_request(request.clone());
        assert!(wire.metadata.contains_key("Dapr-Reentrancy-Id"));
        assert_eq!(from_request(wire), request);
    }
}
