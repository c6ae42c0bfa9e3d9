//! Service invocation over HTTP: who is called is in the path, in a header, or in Basic credentials; everything else of the
//! request is passed on, streamed.

use base64::{Engine, engine::general_purpose::STANDARD};
use component::{Body, body};
use http::{HeaderMap, Request, Response, header};
use http_body::Body as _;
use http_body_util::Limited;

use super::unescape;
use crate::{
    Api, ApiError,
    reason::{general, invoke as reason},
};

/// Segments that the path of an invocation begins with.
const PREFIX: [&str; 2] = ["v1.0", "invoke"];

const METHOD: &str = "/method/";
const APP_ID_HEADER: &str = "dapr-app-id";
const BASIC_PREFIX: &str = "dapr-app-id:";

/// Who is called, and what.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// App id, `app.namespace`, name of an HTTPEndpoint, or a URL.
    pub app_id: String,
    /// Path at the callee, still escaped, without a leading slash.
    pub method: String,
}

/// The callee of a request that no route matches.
pub fn target(request: &Request<Body>) -> Option<Target> {
    let path = request.uri().path();
    if let Some(target) = named(path).and_then(from_path) {
        return Some(target);
    }
    let app_id = from_headers(request.headers())?;
    Some(Target {
        app_id,
        method: path.trim_start_matches('/').to_owned(),
    })
}

/// What follows the prefix of an invocation. Slashes in a row count once there, and not behind it: a URL may follow.
pub fn named(path: &str) -> Option<&str> {
    let mut rest = path;
    for segment in PREFIX {
        let begun = rest.strip_prefix('/')?.trim_start_matches('/');
        rest = begun.strip_prefix(segment)?;
    }
    Some(rest.strip_prefix('/')?.trim_start_matches('/'))
}

fn from_path(rest: &str) -> Option<Target> {
    let (app_id, method) = rest.split_once(METHOD)?;
    let app_id = app_id.trim_end_matches('/');
    let app_id = unescape(app_id).filter(|app_id| !app_id.is_empty())?;
    Some(Target {
        app_id,
        method: method.to_owned(),
    })
}

fn from_headers(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(APP_ID_HEADER) {
        return Some(value.to_str().ok()?.to_owned()).filter(|id| !id.is_empty());
    }
    let credentials = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = STANDARD.decode(credentials.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let app_id = text.strip_prefix(BASIC_PREFIX)?;
    Some(app_id.to_owned()).filter(|id| !id.is_empty())
}

/// Limits the body of a call: one that says its length is refused at once, any other breaks off at the limit.
pub fn limited(request: Request<Body>, limit: usize) -> Result<Request<Body>, ApiError> {
    let size = request.body().size_hint();
    if limit == 0 || size.upper().is_some_and(|most| most <= limit as u64) {
        return Ok(request);
    }
    // Q-body-limit: the app is not called with a body that is known to be too large.
    if size.lower() > limit as u64 {
        return Err(ApiError::new(
            &general::BODY_TOO_LARGE,
            format!("failed to read request body: the body is larger than {limit} bytes"),
        ));
    }
    Ok(request.map(|body| body::streamed(Limited::new(body, limit))))
}

/// Calls the target and streams its answer.
pub async fn call(
    api: &Api,
    target: Target,
    mut request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    request.headers_mut().remove(APP_ID_HEADER);
    api.invoke_http(&target.app_id, &target.method, request)
        .await
}

/// Nobody to call.
pub fn no_target() -> ApiError {
    ApiError::new(
        &reason::NO_APP_ID,
        "failed getting app id either from the URL path or the header dapr-app-id",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str, headers: &[(&'static str, &str)]) -> Option<(String, String)> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let target = target(&request.body(body::empty()).unwrap())?;
        Some((target.app_id, target.method))
    }

    fn pair(app_id: &str, method: &str) -> Option<(String, String)> {
        Some((app_id.to_owned(), method.to_owned()))
    }

    #[test]
    fn the_path_names_the_callee() {
        let from = |uri| of(uri, &[]);
        assert_eq!(
            from("/v1.0/invoke/app.ns/method/a/b%20c?x=1"),
            pair("app.ns", "a/b%20c")
        );
        assert_eq!(from("/v1.0/invoke/app/method/"), pair("app", ""));
        let url = pair("http://host:80", "m");
        assert_eq!(from("/v1.0/invoke/http%3A%2F%2Fhost%3A80/method/m"), url);
        assert_eq!(from("/v1.0/invoke/http://host:80/method/m"), url);
        assert_eq!(from("//v1.0///invoke//app/method//m"), pair("app", "/m"));
        assert_eq!(from("/v1.0/invoke//method/m"), None);
        assert_eq!(from("/v1.0/invoked/app/method/m"), None);
    }

    #[test]
    fn a_header_or_credentials_name_it_too() {
        assert_eq!(of("/a/b", &[("dapr-app-id", "app")]), pair("app", "a/b"));
        let basic = format!("Basic {}", STANDARD.encode("dapr-app-id:app"));
        assert_eq!(of("/a", &[("authorization", &basic)]), pair("app", "a"));
        assert_eq!(of("/a", &[("authorization", "Basic !")]), None);
        assert_eq!(of("/a", &[]), None);
    }
}
