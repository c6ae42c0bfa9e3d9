//! Which web pages may call the sidecar from a browser: `--allowed-origins` (contract 2.1).

use component::{Body, body};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};

/// The allowed origins; none switches CORS off.
#[derive(Clone, Debug, Default)]
pub struct Cors(Vec<Origin>);

#[derive(Clone, Debug)]
enum Origin {
    Any,
    /// With what stands before and behind the one `*` that an origin may have.
    Between(String, String),
    Exactly(String),
}

const METHODS: [&str; 6] = ["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD"];

/// What else the answer to a preflight depends on.
const ASKED: [&str; 2] = [
    "Access-Control-Request-Method",
    "Access-Control-Request-Headers",
];

/// How long browsers may remember the answer to a preflight, in seconds.
const MAX_AGE: &str = "300";

impl Cors {
    pub fn new(origins: &[String]) -> Self {
        let parse = |origin: &String| match origin.trim().to_ascii_lowercase() {
            any if any == "*" => Origin::Any,
            origin => match origin.split_once('*') {
                Some((before, behind)) => Origin::Between(before.to_owned(), behind.to_owned()),
                None => Origin::Exactly(origin),
            },
        };
        Self(origins.iter().map(parse).collect())
    }

    pub fn is_on(&self) -> bool {
        !self.0.is_empty()
    }

    /// Answers a preflight. One from an origin that is not allowed gets no permission, which is answer enough.
    pub fn preflight(&self, request: &Request<Body>, origin: &str) -> Response<Body> {
        let mut response = Response::new(body::empty());
        let headers = response.headers_mut();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        for name in ASKED {
            headers.append(header::VARY, HeaderValue::from_static(name));
        }
        let asked = request.headers();
        let method = asked
            .get(header::ACCESS_CONTROL_REQUEST_METHOD)
            .filter(|asked| METHODS.iter().any(|method| *asked == method));
        if let (Some(allowed), Some(method)) = (self.allowed(origin), method) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
            if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            let max_age = HeaderValue::from_static(MAX_AGE);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age);
        }
        response
    }

    /// Says on an answer whether the page may read it.
    pub fn label(&self, headers: &mut HeaderMap, origin: &str) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(allowed) = self.allowed(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
    }

    fn allowed(&self, origin: &str) -> Option<HeaderValue> {
        if origin.is_empty() {
            return None;
        }
        let lower = origin.to_ascii_lowercase();
        let matches = |one: &Origin| match one {
            Origin::Any => true,
            Origin::Exactly(text) => *text == lower,
            Origin::Between(before, behind) => {
                lower.len() >= before.len() + behind.len()
                    && lower.starts_with(before)
                    && lower.ends_with(behind)
            }
        };
        if !self.0.iter().any(matches) {
            return None;
        }
        if self.0.iter().any(|one| matches!(one, Origin::Any)) {
            return Some(HeaderValue::from_static("*"));
        }
        HeaderValue::from_str(origin).ok()
    }
}

/// Whether a browser asks if it may call.
pub fn is_preflight(request: &Request<Body>) -> bool {
    request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Cors {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Cors::new(&origins)
    }

    fn preflight(cors: &Cors, origin: &'static str, method: &str) -> HeaderMap {
        let request = Request::builder()
            .method("OPTIONS")
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "x-one")
            .body(body::empty())
            .unwrap();
        assert!(is_preflight(&request));
        let response = cors.preflight(&request, origin);
        assert_eq!(response.status(), 200);
        response.headers().clone()
    }

    #[test]
    fn an_allowed_page_learns_what_it_may() {
        let page = "https://example.com";
        let headers = preflight(&cors(&[page]), page, "GET");
        assert_eq!(headers["access-control-allow-origin"], page);
        assert_eq!(headers["access-control-allow-methods"], "GET");
        assert_eq!(headers["access-control-allow-headers"], "x-one");
        assert_eq!(headers["vary"], "Origin");
        let headers = preflight(&cors(&["*"]), page, "PUT");
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(!cors(&[]).is_on());
    }

    #[test]
    fn any_other_gets_no_permission() {
        let cors = cors(&["https://example.com"]);
        for (page, method) in [
            ("https://elsewhere.com", "GET"),
            ("", "GET"),
            ("https://example.com", "TRACE"),
        ] {
            let headers = preflight(&cors, page, method);
            let allowed = headers.get("access-control-allow-origin");
            assert_eq!(allowed, None, "{page} {method}");
            assert!(headers.contains_key("vary"));
        }
    }

    #[test]
    fn one_star_stands_for_any_text() {
        let cors = cors(&["https://*.example.com"]);
        assert!(cors.allowed("https://a.Example.com").is_some());
        assert!(cors.allowed("https://example.com").is_none());
        assert!(cors.allowed("https://.example.com.evil").is_none());
    }
}
