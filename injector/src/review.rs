//! AdmissionReviews: what the API server asks, and how it wants to be answered (contract 4.1).
//!
//! Own types rather than kube's: the patch travels as base64 text, the group and version are echoed, and a request
//! that lacks a field gets an answer instead of a parse error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::PatchOperation;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::metrics::shown;

/// A question, as far as the injector reads it.
#[derive(Debug, Deserialize)]
pub struct Review<'a> {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow, default)]
    request: Option<Request<'a>>,
}

/// What is to be admitted.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    pub kind: ObjectKind,
    #[serde(default)]
    pub namespace: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    pub user_info: UserInfo,
    /// The object, not parsed yet.
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

impl Request<'_> {
    /// The pod; none where none is made.
    ///
    /// # Errors
    /// For what is no pod (Q-injector-reviews).
    pub fn pod(&self) -> Result<Option<Pod>, Error> {
        let Some(object) = self.object else {
            let makes = self.operation.is_empty() || self.operation == "CREATE";
            return if makes {
                Err(Error::NoObject)
            } else {
                Ok(None)
            };
        };
        let pod: Pod = serde_json::from_str(object.get()).map_err(Error::Pod)?;
        let annotations = pod.metadata.annotations.iter().flatten();
        let bytes: usize = annotations
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if bytes > MAX_ANNOTATION_BYTES {
            return Err(Error::Annotations { bytes });
        }
        Ok(Some(pod))
    }
}

/// The kind of the object.
#[derive(Debug, Default, Deserialize)]
pub struct ObjectKind {
    #[serde(default)]
    pub kind: String,
}

/// Why a body is no question.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot decode the AdmissionReview")]
    Json(#[source] serde_json::Error),
    #[error(
        "expected kind AdmissionReview of group admission.k8s.io, got {kind:?} of {api_version:?}"
    )]
    Kind { kind: String, api_version: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
    #[error("the AdmissionReview has no request.uid")]
    NoUid,
    #[error("the AdmissionReview has no request.object")]
    NoObject,
    #[error("cannot read the pod in request.object")]
    Pod(#[source] serde_json::Error),
    #[error(
        "the annotations of request.object have {bytes} bytes, and at most {MAX_ANNOTATION_BYTES} are allowed"
    )]
    Annotations { bytes: usize },
}

/// Kubernetes' own limit for the annotations of an object. It checks that after the webhooks, too late for what reads them.
const MAX_ANNOTATION_BYTES: usize = 256 << 10;

/// Group, version and kind to answer with, and the request.
pub fn parse(body: &[u8]) -> (Types, Result<Request<'_>, Error>) {
    let review: Review<'_> = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return (Types::default(), Err(Error::Json(error))),
    };
    if review.kind != KIND || !review.api_version.starts_with(GROUP) {
        let error = Error::Kind {
            kind: shown(&review.kind).to_owned(),
            api_version: shown(&review.api_version).to_owned(),
        };
        return (Types::default(), Err(error));
    }
    let types = Types {
        kind: review.kind,
        api_version: review.api_version,
    };
    let request = review.request.ok_or(Error::NoRequest);
    let named = request.and_then(|request| match request.uid.is_empty() {
        true => Err(Error::NoUid),
        false => Ok(request),
    });
    (types, named)
}

/// Group, version and kind of a review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Types {
    kind: String,
    #[serde(rename = "apiVersion")]
    api_version: String,
}

impl Default for Types {
    fn default() -> Self {
        Self {
            kind: KIND.to_owned(),
            api_version: format!("{GROUP}v1"),
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    #[serde(flatten)]
    types: Types,
    response: Response,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Status {
    message: String,
}

impl Answer {
    /// The object may be created as it is.
    pub fn allow(types: Types, uid: &str) -> Self {
        Self {
            types,
            response: Response {
                uid: uid.to_owned(),
                allowed: true,
                ..Response::default()
            },
        }
    }

    /// The object must not be created; the message is shown to whoever tried.
    pub fn refuse(types: Types, uid: &str, message: String) -> Self {
        let response = Response {
            uid: uid.to_owned(),
            status: Some(Status { message }),
            ..Response::default()
        };
        Self { types, response }
    }

    /// The object may be created with these changes; warnings are shown to whoever creates it.
    pub fn patch(
        types: Types,
        uid: &str,
        operations: &[PatchOperation],
        warnings: Vec<String>,
    ) -> serde_json::Result<Self> {
        let mut answer = Self::allow(types, uid);
        if !operations.is_empty() {
            answer.response.patch = Some(STANDARD.encode(serde_json::to_vec(operations)?));
            answer.response.patch_type = Some("JSONPatch");
        }
        answer.response.warnings = warnings;
        Ok(answer)
    }
}

const KIND: &str = "AdmissionReview";
const GROUP: &str = "admission.k8s.io/";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_version_is_echoed() {
        let body = br#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"7"}}"#;
        let (types, request) = parse(body);
        assert_eq!(request.unwrap().uid, "7");
        let answer = serde_json::to_value(Answer::allow(types, "7")).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
        assert_eq!(answer["response"], json!({"uid": "7", "allowed": true}));
    }

    #[test]
    fn what_is_no_question_is_named() {
        let message = |body: &str| parse(body.as_bytes()).1.unwrap_err().to_string();
        assert!(message("{").starts_with("cannot decode"));
        assert!(message(r#"{"kind":"Pod","apiVersion":"v1"}"#).contains("got \"Pod\" of \"v1\""));
        assert!(
            message(r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#)
                .contains("no request")
        );
    }

    #[test]
    fn refusals_and_patches_have_the_wire_form() {
        let refused =
            serde_json::to_value(Answer::refuse(Types::default(), "u", "no".into())).unwrap();
        assert_eq!(
            refused["response"],
            json!({"uid": "u", "allowed": false, "status": {"message": "no"}})
        );
        let operations = [json_patch::PatchOperation::Test(
            json_patch::TestOperation {
                path: json_patch::jsonptr::PointerBuf::root(),
                value: json!(1),
            },
        )];
        let patched = Answer::patch(Types::default(), "u", &operations, vec!["w".into()]).unwrap();
        let patched = serde_json::to_value(patched).unwrap();
        let text = STANDARD
            .decode(patched["response"]["patch"].as_str().unwrap())
            .unwrap();
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&text).unwrap(),
            json!([{"op": "test", "path": "", "value": 1}])
        );
        assert_eq!(patched["response"]["patchType"], "JSONPatch");
        assert_eq!(patched["response"]["warnings"], json!(["w"]));
    }
}
