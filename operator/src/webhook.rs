//! The webhook that converts Subscriptions between their versions for the API server (contract 3.5, 5.2).

use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Path of the webhook, as the CRD names it.
pub const PATH: &str = "/convert";

/// The largest request, in bytes: the API server sends a whole page of a list at once.
const MOST_BYTES: usize = 64 << 20;

/// The service behind the webhook's port.
pub fn router() -> Router {
    Router::new()
        .route(PATH, post(convert))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
}

/// `ConversionReview` of `apiextensions.k8s.io/v1`, both ways.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired: String,
    #[serde(default)]
    objects: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reviewed {
    api_version: String,
    kind: String,
    response: Response,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    converted_objects: Vec<Value>,
    result: Verdict,
}

#[derive(Serialize)]
struct Verdict {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

async fn convert(Json(review): Json<Review>) -> Json<Reviewed> {
    let Request {
        uid,
        desired,
        objects,
    } = review.request;
    let converted: Result<Vec<_>, _> = objects
        .into_iter()
        .map(|object| crds::subscription::convert(object, &desired))
        .collect();
    let (converted_objects, result) = match converted {
        Ok(objects) => {
            let verdict = Verdict {
                status: "Success",
                message: None,
            };
            (objects, verdict)
        }
        Err(error) => {
            tracing::error!(%error, "cannot convert");
            let verdict = Verdict {
                status: "Failure",
                message: Some(error.to_string()),
            };
            (Vec::new(), verdict)
        }
    };
    Json(Reviewed {
        api_version: review.api_version,
        kind: review.kind,
        response: Response {
            uid,
            converted_objects,
            result,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt;
    use serde_json::json;
    use tower::ServiceExt;

    async fn post(body: String) -> (http::StatusCode, Value) {
        let request = http::Request::post(PATH)
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let response = router().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn review(objects: &Value) -> String {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": "u-1", "desiredAPIVersion": "dapr.io/v2alpha1", "objects": objects},
        })
        .to_string()
    }

    #[tokio::test]
    async fn subscriptions_are_converted() {
        let old = json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Subscription", "metadata": {"name": "s"},
            "spec": {"pubsubname": "bus", "topic": "t", "route": "/r"},
        });
        let (status, answer) = post(review(&json!([old]))).await;
        assert_eq!(status, 200);
        assert_eq!(answer["kind"], "ConversionReview");
        assert_eq!(answer["response"]["uid"], "u-1");
        assert_eq!(answer["response"]["result"], json!({"status": "Success"}));
        let new = &answer["response"]["convertedObjects"][0];
        assert_eq!(new["apiVersion"], "dapr.io/v2alpha1");
        assert_eq!(new["spec"]["routes"]["default"], "/r");
    }

    #[tokio::test]
    async fn what_cannot_be_converted_fails_the_review() {
        let stranger = json!({"apiVersion": "dapr.io/v1alpha1", "kind": "Component", "metadata": {"name": "c"}});
        let (status, answer) = post(review(&json!([stranger]))).await;
        assert_eq!(status, 200);
        assert_eq!(answer["response"]["result"]["status"], "Failure");
        assert_eq!(answer["response"]["convertedObjects"], json!([]));
        for bad in ["", "{}", "[]", "nonsense"] {
            let (status, _) = post(bad.to_owned()).await;
            assert!(status.is_client_error(), "{bad}: {status}");
        }
    }
}
