//! Output bindings over HTTP: the data is JSON on the way in, and bytes on the way out.

use std::collections::BTreeMap;

use component::{Body, body};
use http::{HeaderValue, Response, StatusCode, header};
use proto::runtime::v1::InvokeBindingRequest;
use serde::Deserialize;
use serde_json::value::RawValue;
use values::json;

use super::{Call, status};
use crate::{Api, ApiError, reason::general};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Option<BTreeMap<String, String>>,
    operation: String,
}

/// POST `/v1.0/bindings/{name}`
pub async fn invoke(api: &Api, mut call: Call) -> Result<Response<Body>, ApiError> {
    let text = call.text().await?;
    let wire: Wire<'_> = json::read_first(&text).map_err(|error| {
        let text = format!("failed deserializing HTTP body: {error}");
        ApiError::new(&general::MALFORMED_REQUEST, text)
    })?;
    let request = InvokeBindingRequest {
        name: call.param("name").to_owned(),
        data: json::canonical(wire.data.unwrap_or(RawValue::NULL)).into(),
        metadata: wire.metadata.unwrap_or_default(),
        operation: wire.operation,
    };
    let invoked = api.invoke_output(&call.context, request).await?;
    let mut response = match invoked.data {
        Some(data) => {
            let mut response = Response::new(body::full(data));
            // Whatever the data are: callers have been told so ever since.
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        None if invoked.metadata.is_empty() => status(StatusCode::NO_CONTENT),
        None => status(StatusCode::OK),
    };
    response.headers_mut().extend(invoked.headers);
    Ok(response)
}
