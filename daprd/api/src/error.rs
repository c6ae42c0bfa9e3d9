//! What an operation answers when it fails, and its one way into an HTTP response and into a gRPC status.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use component::{Body, body, error::Presented};
use http::{HeaderMap, Response, StatusCode, header};
use proto::ERROR_DOMAIN as DOMAIN;
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic_types::{
    BadRequest, ErrorDetail, ErrorDetails, ErrorInfo, Help, ResourceInfo, StatusExt,
};

use crate::{Reason, reason::general};

/// Label of the error code metric where a component chose the error code.
const COMPONENT_CATEGORY: &str = "pluggable-component";

/// A failed operation. Boxed, because results carry it far and it is rarely there.
#[derive(Clone, Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    reason: &'static Reason,
    message: String,
    field: Option<(String, String)>,
    help: Option<(&'static str, &'static str)>,
    resource: Option<Resource>,
    metadata: Option<BTreeMap<String, String>>,
    passed: Option<tonic::Status>,
    presented: Option<Box<Presented>>,
    headers: HeaderMap,
}

/// The body of an error over HTTP, its fields in the order in which upstream writes them: people match it as text.
#[derive(serde::Serialize)]
struct Said<'a> {
    #[serde(rename = "errorCode")]
    error_code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Value>,
}

#[derive(Clone, Debug)]
struct Resource {
    kind: &'static str,
    name: String,
    description: String,
}

impl ApiError {
    pub fn new(reason: &'static Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            reason,
            message: message.into(),
            field: None,
            help: None,
            resource: None,
            metadata: None,
            passed: None,
            presented: None,
            headers: HeaderMap::new(),
        }))
    }

    /// An error that a component chose the form of. Its status is the component's; a plain reason keeps its own code and
    /// `message` over HTTP, a rich one gives way to the component's altogether. gRPC callers get the component's status.
    pub fn presenting(
        reason: &'static Reason,
        message: impl Into<String>,
        said: &str,
        presented: Presented,
    ) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            &presented.reason,
            &presented.domain,
            HashMap::<String, String>::new(),
        );
        let code = tonic::Code::from_i32(presented.grpc);
        let status = tonic::Status::with_error_details(code, said, details);
        let message = match reason.info {
            "" => message.into(),
            _ => said.to_owned(),
        };
        let mut error = Self::new(reason, message).passing(status);
        error.0.presented = Some(Box::new(presented));
        error
    }

    /// A status that stands for itself: what an app answered, or what broke a stream. It is no failure of ours to count.
    pub fn of_status(status: tonic::Status) -> Self {
        Self::new(&general::UNKNOWN, status.message()).passing(status)
    }

    /// A status that another app answered with: gRPC callers get it as it is.
    pub fn passing(mut self, status: tonic::Status) -> Self {
        self.0.passed = Some(status);
        self
    }

    /// Names the field of the request that is wrong; an empty name is left out.
    pub fn field(mut self, field: &str) -> Self {
        self.0.field = Some((field.to_owned(), self.0.message.clone()));
        self
    }

    /// Headers of the HTTP response, or metadata of the gRPC call.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        self.0.headers = headers;
        self
    }

    /// Where to read on.
    pub fn help(mut self, url: &'static str, description: &'static str) -> Self {
        self.0.help = Some((url, description));
        self
    }

    /// Names the component that the error is about.
    pub fn resource(mut self, kind: &'static str, name: &str, description: &str) -> Self {
        self.0.resource = Some(Resource {
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
        self.0.metadata = Some(
            pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        );
        self
    }

    pub fn reason(&self) -> &'static Reason {
        self.0.reason
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The HTTP response: `errorCode`, `message` and, for rich reasons, `details` (contract 2.1).
    pub fn into_response(self) -> Response<Body> {
        let status = self.http_status();
        let shown = self.shown();
        let said = Said {
            error_code: &shown.code,
            message: &self.0.message,
            details: self.http_details(),
        };
        // Texts and lists of JSON can always be written.
        let said = serde_json::to_vec(&said).unwrap_or_default();
        let mut response = Response::new(body::full(said));
        *response.status_mut() = status;
        *response.headers_mut() = self.0.headers.clone();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        if self.is_counted() {
            response.extensions_mut().insert(shown);
        }
        response
    }

    /// A component may choose any status that ends a response.
    fn http_status(&self) -> StatusCode {
        let chosen = self.0.presented.as_ref().map(|presented| presented.http);
        StatusCode::from_u16(chosen.unwrap_or(self.0.reason.http))
            .ok()
            .filter(|status| !status.is_informational())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What the metric of error codes counts; none for a status that stands for itself.
    pub(crate) fn recorded(&self) -> Option<Recorded> {
        self.is_counted().then(|| self.shown())
    }

    fn is_counted(&self) -> bool {
        self.0.passed.is_none() || self.0.presented.is_some()
    }

    /// The code that callers see.
    fn shown(&self) -> Recorded {
        let Some(presented) = self.replaced() else {
            return Recorded {
                code: Cow::Borrowed(self.0.reason.name()),
                category: self.0.reason.category,
            };
        };
        let named = [&presented.tag, &presented.reason].into_iter();
        let code = named
            .map(String::as_str)
            .find(|name| !name.is_empty())
            .or_else(|| self.http_status().canonical_reason());
        Recorded {
            code: Cow::Owned(code.unwrap_or_default().to_owned()),
            category: COMPONENT_CATEGORY,
        }
    }

    /// The component's own error, where it is shown in place of a rich reason.
    fn replaced(&self) -> Option<&Presented> {
        self.0
            .presented
            .as_deref()
            .filter(|_| !self.0.reason.info.is_empty())
    }

    fn http_details(&self) -> Vec<Value> {
        if self.0.reason.info.is_empty() {
            return Vec::new();
        }
        if let Some(presented) = self.replaced() {
            return vec![json!({
                "@type": type_url("ErrorInfo"),
                "reason": presented.reason,
                "domain": presented.domain,
                "metadata": null,
            })];
        }
        let mut details = Vec::new();
        if let Some((field, description)) = &self.0.field {
            let mut violation = json!({ "description": description });
            if !field.is_empty() {
                violation["field"] = field.as_str().into();
            }
            details.push(json!({
                "@type": type_url("BadRequest"),
                "field_violations": [violation],
            }));
        }
        if let Some((url, description)) = self.0.help {
            details.push(json!({
                "@type": type_url("Help"),
                "links": [{ "description": description, "url": url }],
            }));
        }
        if let Some(resource) = &self.0.resource {
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
            "reason": self.0.reason.info,
            "domain": DOMAIN,
            "metadata": self.0.metadata,
        }));
        details
    }

    /// The gRPC status with the same details; plain reasons carry their code as `ErrorInfo`.
    pub fn into_status(self) -> tonic::Status {
        let error = *self.0;
        if let Some(status) = error.passed {
            return status;
        }
        if !error.reason.detailed {
            return tonic::Status::new(error.reason.grpc, error.message);
        }
        let mut details: Vec<ErrorDetail> = Vec::new();
        if let Some((field, description)) = &error.field {
            details.push(BadRequest::with_violation(field, description).into());
        }
        if let Some((url, description)) = error.help {
            details.push(Help::with_link(description, url).into());
        }
        if let Some(Resource {
            kind,
            name,
            description,
        }) = error.resource
        {
            details.push(ResourceInfo::new(kind, name, "", description).into());
        }
        let reason = if error.reason.info.is_empty() {
            error.reason.code
        } else {
            error.reason.info
        };
        let metadata = error.metadata.unwrap_or_default();
        let metadata: HashMap<_, _> = metadata.into_iter().collect();
        details.push(ErrorInfo::new(reason, DOMAIN, metadata).into());
        let metadata = MetadataMap::from_headers(error.headers);
        tonic::Status::with_error_details_vec_and_metadata(
            error.reason.grpc,
            error.message,
            details,
            metadata,
        )
    }
}

/// Left in the extensions of a failed response, for the layer that counts error codes.
#[derive(Clone)]
pub struct Recorded {
    pub code: Cow<'static, str>,
    pub category: &'static str,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.reason.name(), self.0.message)
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
    async fn the_code_comes_first_then_the_message_then_details() {
        let error = ApiError::new(&reason::state::NOT_FOUND, "no store");
        let body = error.into_response().into_body();
        let text = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let places = ["\"errorCode\"", "\"message\"", "\"details\""].map(|key| text.find(key));
        assert!(places.iter().all(Option::is_some), "{text}");
        assert!(places.is_sorted(), "{text}");
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

    fn chosen() -> Presented {
        Presented {
            http: 509,
            grpc: 15,
            tag: "query-tag".to_owned(),
            reason: "query-reason".to_owned(),
            domain: "query-domain".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_component_chooses_the_status_of_a_plain_reason() {
        let error = ApiError::presenting(&reason::state::GET, "fail to get", "gone", chosen());
        let status = error.clone().into_status();
        assert_eq!(
            (status.code(), status.message()),
            (tonic::Code::DataLoss, "gone")
        );
        let details = status.get_error_details_vec();
        assert_eq!(details.len(), 1);
        assert_eq!(
            json_of(error).await,
            (
                509,
                json!({"errorCode": "ERR_STATE_GET", "message": "fail to get"})
            )
        );
    }

    #[tokio::test]
    async fn a_component_replaces_a_rich_reason() {
        let error = ApiError::presenting(&reason::state::QUERY, "failed", "gone", chosen());
        let (status, value) = json_of(error).await;
        assert_eq!(status, 509);
        assert_eq!(
            value,
            json!({"errorCode": "query-tag", "message": "gone", "details": [{
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "domain": "query-domain",
                "metadata": null,
                "reason": "query-reason",
            }]})
        );
    }

    #[test]
    fn the_oldest_reasons_have_no_details_over_grpc() {
        let status = ApiError::new(&reason::secrets::NOT_FOUND, "no store").into_status();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.details().is_empty());
    }

    #[test]
    fn grpc_carries_the_same_reason() {
        let status = ApiError::new(&reason::state::NOT_FOUND, "no store").into_status();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        let info = status.get_error_details();
        assert_eq!(info.error_info().unwrap().reason, "DAPR_STATE_NOT_FOUND");

        let error = ApiError::new(&reason::state::ILLEGAL_KEY, "bad key")
            .field("a||b")
            .resource("state", "store", "");
        let details = error.into_status().get_error_details_vec();
        assert!(
            matches!(
                details.as_slice(),
                [
                    ErrorDetail::BadRequest(_),
                    ErrorDetail::ResourceInfo(_),
                    ErrorDetail::ErrorInfo(_)
                ]
            ),
            "{details:?}"
        );
    }
}
