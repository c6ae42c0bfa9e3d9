//! What an operation answers when it fails, and its one way into an HTTP response and into a gRPC status.

use std::collections::BTreeMap;

use component::{Body, body};
use http::{Response, StatusCode, header};
use serde_json::{Value, json};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Reason;

/// Domain of every `ErrorInfo`.
const DOMAIN: &str = "dapr.io";

/// A failed operation.
#[derive(Clone, Debug)]
pub struct ApiError {
    reason: &'static Reason,
    message: String,
    field: Option<(String, String)>,
    help: Option<(&'static str, &'static str)>,
    resource: Option<Resource>,
    metadata: Option<BTreeMap<String, String>>,
    passed: Option<tonic::Status>,
}

#[derive(Clone, Debug)]
struct Resource {
    kind: &'static str,
    name: String,
    description: String,
}

impl ApiError {
    pub fn new(reason: &'static Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            field: None,
            help: None,
            resource: None,
            metadata: None,
            passed: None,
        }
    }

    /// A status that another app answered with: gRPC callers get it as it is.
    pub fn passing(mut self, status: tonic::Status) -> Self {
        self.passed = Some(status);
        self
    }

    /// Names the field of the request that is wrong.
    pub fn field(mut self, field: &str) -> Self {
        self.field = Some((field.to_owned(), self.message.clone()));
        self
    }

    /// Where to read on.
    pub fn help(mut self, url: &'static str, description: &'static str) -> Self {
        self.help = Some((url, description));
        self
    }

    /// Names the component that the error is about.
    pub fn resource(mut self, kind: &'static str, name: &str, description: &str) -> Self {
        self.resource = Some(Resource {
            kind,
            name: name.to_owned(),
            description: description.to_owned(),
        });
        self
    }

    /// Metadata of the `ErrorInfo`; without it there is none, which JSON shows as null.
    pub fn metadata<K: Into<String>, V: Into<String>>(
        mut self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.metadata = Some(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        );
        self
    }

    pub fn reason(&self) -> &'static Reason {
        self.reason
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The HTTP response: `errorCode`, `message` and, for rich reasons, `details` (contract 2.1).
    pub fn into_response(self) -> Response<Body> {
        let mut value = json!({ "errorCode": self.reason.name(), "message": self.message });
        let details = self.http_details();
        if !details.is_empty() {
            value["details"] = Value::Array(details);
        }
        let mut response = Response::new(body::full(value.to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.reason.http).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        response.extensions_mut().insert(Recorded(self.reason));
        response
    }

    fn http_details(&self) -> Vec<Value> {
        if self.reason.info.is_empty() {
            return Vec::new();
        }
        let mut details = Vec::new();
        if let Some((field, description)) = &self.field {
            details.push(json!({
                "@type": type_url("BadRequest"),
                "field_violations": [{ "field": field, "description": description }],
            }));
        }
        if let Some((url, description)) = self.help {
            details.push(json!({
                "@type": type_url("Help"),
                "links": [{ "description": description, "url": url }],
            }));
        }
        if let Some(resource) = &self.resource {
            details.push(json!({
                "@type": type_url("ResourceInfo"),
                "resource_type": resource.kind,
                "resource_name": resource.name,
                "owner": "",
                "description": resource.description,
            }));
        }
        details.push(json!({
            "@type": type_url("ErrorInfo"),
            "reason": self.reason.info,
            "domain": DOMAIN,
            "metadata": self.metadata,
        }));
        details
    }

    /// The gRPC status with the same details; plain reasons carry their code as `ErrorInfo`.
    pub fn into_status(self) -> tonic::Status {
        if let Some(status) = self.passed {
            return status;
        }
        let mut details = ErrorDetails::new();
        if let Some((field, description)) = &self.field {
            details.add_bad_request_violation(field, description);
        }
        if let Some((url, description)) = self.help {
            details.add_help_link(description, url);
        }
        if let Some(resource) = &self.resource {
            details.set_resource_info(resource.kind, &resource.name, "", &resource.description);
        }
        let reason = if self.reason.info.is_empty() {
            self.reason.code
        } else {
            self.reason.info
        };
        let metadata = self
            .metadata
            .unwrap_or_default()
            .into_iter()
            .collect::<std::collections::HashMap<_, _>>();
        details.set_error_info(reason, DOMAIN, metadata);
        tonic::Status::with_error_details(self.reason.grpc, self.message, details)
    }
}

/// Left in the extensions of a failed response, for the layer that counts error codes.
#[derive(Clone, Copy)]
pub struct Recorded(pub &'static Reason);

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.message)
    }
}

impl std::error::Error for ApiError {}

fn type_url(name: &str) -> String {
    format!("type.googleapis.com/google.rpc.{name}")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::reason;

    async fn json_of(error: ApiError) -> (u16, Value) {
        let response = error.into_response();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_plain_reason_has_no_details() {
        let error = ApiError::new(&reason::state::GET, "fail");
        assert_eq!(
            json_of(error).await,
            (
                500,
                json!({"errorCode": "ERR_STATE_GET", "message": "fail"})
            )
        );
    }

    #[tokio::test]
    async fn a_rich_reason_lists_its_details_in_order() {
        let error = ApiError::new(&reason::state::ILLEGAL_KEY, "bad key")
            .field("a||b")
            .resource("state", "store", "");
        let (status, value) = json_of(error).await;
        assert_eq!(status, 400);
        let details = value["details"].as_array().unwrap();
        assert_eq!(details.len(), 3);
        assert_eq!(details[0]["field_violations"][0]["field"], "a||b");
        assert_eq!(details[1]["resource_name"], "store");
        assert_eq!(details[2]["reason"], "DAPR_STATE_ILLEGAL_KEY");
        assert_eq!(details[2]["metadata"], Value::Null);
    }

    #[test]
    fn grpc_carries_the_same_reason() {
        let status = ApiError::new(&reason::state::NOT_FOUND, "no store").into_status();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let info = status.get_error_details();
        assert_eq!(info.error_info().unwrap().reason, "DAPR_STATE_NOT_FOUND");
    }
}
