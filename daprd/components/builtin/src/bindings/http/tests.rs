//! The endpoint as a fake that keeps what it is sent.

use component::{Body, Instance, Lent, Metadata, outgoing::HttpClients};
use component_conformance::Tasks;
use http::Response;
use parking_lot::Mutex;

use super::*;

/// Answers what it is told, and keeps what it was sent.
#[derive(Clone, Default)]
struct Endpoint(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    status: u16,
    answer: &'static str,
    requests: Vec<(http::request::Parts, Bytes)>,
    tls: Vec<Tls>,
}

#[async_trait]
impl HttpClient for Endpoint {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let data = body::read(body, 1 << 20).await.expect("a body");
        let mut seen = self.0.lock();
        seen.requests.push((parts, data));
        let mut answer = Response::new(body::full(seen.answer));
        *answer.status_mut() = http::StatusCode::from_u16(seen.status).expect("a status");
        let headers = answer.headers_mut();
        headers.append("x-several", HeaderValue::from_static("a"));
        headers.append("x-several", HeaderValue::from_static("b"));
        Ok(answer)
    }
}

impl HttpClients for Endpoint {
    fn client(&self, tls: &Tls) -> Result<Arc<dyn HttpClient>> {
        self.0.lock().tls.push(tls.clone());
        Ok(Arc::new(self.clone()))
    }
}

impl Endpoint {
    fn answering(status: u16, answer: &'static str) -> Self {
        let endpoint = Self::default();
        endpoint.0.lock().status = status;
        endpoint.0.lock().answer = answer;
        endpoint
    }

    async fn open(&self, fields: &[(&str, &str)]) -> Result<Http> {
        let url = [("url", "http://there/base/")];
        let lent = Lent {
            http: Arc::new(self.clone()),
            ..Lent::default()
        };
        Http::open(Open::new(
            "http",
            Metadata::from_iter(url.iter().chain(fields).copied()),
            Arc::new(Instance::default()),
            Arc::new(Tasks::default()),
            lent,
        ))
        .await
    }

    fn last(&self) -> (http::request::Parts, Bytes) {
        let last = self.0.lock().requests.pop();
        last.expect("a request")
    }
}

fn ask(operation: &str, metadata: &[(&str, &str)]) -> InvokeRequest {
    let pairs = metadata.iter();
    InvokeRequest {
        operation: operation.to_owned(),
        data: Bytes::from_static(b"data"),
        metadata: pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[tokio::test]
async fn requests_are_made_of_operation_path_and_metadata() {
    let endpoint = Endpoint::answering(200, "answer");
    let token = [("securityToken", "t"), ("securityTokenHeader", "X-Token")];
    let binding = endpoint.open(&token).await.unwrap();
    let metadata = [
        ("path", "/a?b=c"),
        ("X-Own", "1"),
        ("small", "2"),
        ("traceparent", "trace"),
        ("Traceparent", "forged"),
    ];
    let answer = binding.invoke(&ask("create", &metadata)).await.unwrap();
    assert_eq!(answer.data.as_deref(), Some(&b"answer"[..]));
    assert_eq!(answer.metadata["statusCode"], "200");
    assert_eq!(answer.metadata["status"], "200 OK");
    assert_eq!(answer.metadata["X-Several"], "a, b");
    let (parts, data) = endpoint.last();
    assert_eq!((parts.method, &*data), (Method::POST, &b"data"[..]));
    assert_eq!(parts.uri, "http://there/base/a?b=c");
    assert_eq!(parts.headers["x-own"], "1");
    assert_eq!(parts.headers["x-token"], "t");
    assert_eq!(parts.headers["traceparent"], "trace");
    assert_eq!(parts.headers["content-type"], JSON);
    assert!(!parts.headers.contains_key("small"));

    binding.invoke(&ask("get", &[])).await.unwrap();
    let (parts, data) = endpoint.last();
    assert_eq!(parts.uri, "http://there/base/");
    assert!(data.is_empty() && !parts.headers.contains_key("content-type"));
}

#[tokio::test]
async fn other_answers_than_success_are_errors_unless_that_is_not_wanted() {
    let endpoint = Endpoint::answering(404, "none");
    let binding = endpoint.open(&[]).await.unwrap();
    let error = binding.invoke(&ask("get", &[])).await.unwrap_err();
    assert_eq!(error.to_string(), "received status code 404");
    assert_eq!(error.metadata()["statusCode"], "404");
    assert!(!error.kind().is_transient());
    let lenient = ask("get", &[("errorIfNot2XX", "false")]);
    let answer = binding.invoke(&lenient).await.unwrap();
    assert_eq!(answer.data.as_deref(), Some(&b"none"[..]));

    let endpoint = Endpoint::answering(503, "");
    let lenient = endpoint.open(&[("errorIfNot2XX", "no")]).await.unwrap();
    lenient.invoke(&ask("get", &[])).await.unwrap();
    let strict = ask("get", &[("errorIfNot2XX", "yes")]);
    let error = lenient.invoke(&strict).await.unwrap_err();
    assert!(error.kind().is_transient());
}

#[tokio::test]
async fn what_cannot_be_asked_or_answered_is_told() {
    let endpoint = Endpoint::answering(200, "too large");
    let binding = endpoint
        .open(&[("maxResponseBodySize", "4")])
        .await
        .unwrap();
    for request in [
        ask("get", &[]),
        ask("connect", &[]),
        ask("get", &[("X-Bad", "a\nb")]),
    ] {
        let error = binding.invoke(&request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    }
    let missing = [("MTLSRootCA", "/nonexistent/ca.pem")];
    let error = endpoint.open(&missing).await.err().unwrap();
    assert!(error.to_string().contains("MTLSRootCA"), "{error}");
    let pem = "-----BEGIN CERTIFICATE-----";
    let fields = [("MTLSClientCert", pem), ("mtlsClientKey", pem)];
    endpoint.open(&fields).await.unwrap();
    let tls = endpoint.0.lock().tls.pop().unwrap();
    assert!(tls.identity.is_some() && tls.authorities.is_none());
}
