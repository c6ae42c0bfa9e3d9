//! An HTTP client for tests: never fails on a status, keeps the whole answer.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::mesh::{Identity, install_provider};

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// A header as text, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("an ASCII header"))
    }

    /// `errorCode` of an error body.
    pub fn error_code(&self) -> String {
        self.json()["errorCode"]
            .as_str()
            .unwrap_or_else(|| panic!("no errorCode: {}", self.text()))
            .to_owned()
    }

    /// Panics unless the status is the one expected; the body shows why.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Panics unless this is an error of the given status and code.
    #[track_caller]
    pub fn expect_error(self, status: u16, code: &str) -> Self {
        let reply = self.expect_status(status);
        assert_eq!(reply.error_code(), code, "{}", reply.text());
        reply
    }
}

/// A client bound to one server.
#[derive(Clone)]
pub struct Client {
    client: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of the server at `base`, such as `http://127.0.0.1:3500`.
    pub fn new(base: impl Into<String>) -> Self {
        Self::build(base, reqwest::Client::builder())
    }

    /// A client that speaks HTTP/2 without asking first.
    pub fn h2c(base: impl Into<String>) -> Self {
        Self::build(base, reqwest::Client::builder().http2_prior_knowledge())
    }

    /// A client of the TLS server `name` on a port of this machine, which has to prove its name by a chain to `anchors`, PEM.
    /// Whoever asks who it is sees `identity`.
    pub fn tls(name: &str, port: u16, anchors: &str, identity: Option<&Identity>) -> Self {
        install_provider();
        let mut roots = rustls::RootCertStore::empty();
        for anchor in CertificateDer::pem_slice_iter(anchors.as_bytes()) {
            let anchor = anchor.expect("anchors are PEM");
            roots.add(anchor).expect("an anchor");
        }
        let config = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = match identity.cloned() {
            Some(Identity { chain, key }) => config
                .with_client_auth_cert(chain, key)
                .expect("key and leaf match"),
            None => config.with_no_client_auth(),
        };
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .resolve(name, SocketAddr::from(([127, 0, 0, 1], port)));
        Self::build(format!("https://{name}:{port}"), builder)
    }

    fn build(base: impl Into<String>, builder: reqwest::ClientBuilder) -> Self {
        install_provider();
        let builder = builder
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        Self {
            client: builder.build().expect("a plain client"),
            base: base.into(),
        }
    }

    /// A request to extend and [`send`](Request::send); `path` starts with a slash.
    pub fn request(&self, method: Method, path: &str) -> Request {
        Request(self.client.request(method, format!("{}{path}", self.base)))
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path).send().await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Reply {
        self.request(Method::DELETE, path).send().await
    }

    /// `POST` of a JSON value.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.request(Method::POST, path).json(body).send().await
    }

    /// `PUT` of raw bytes.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        self.request(Method::PUT, path).body(body).send().await
    }
}

/// A request under construction.
pub struct Request(reqwest::RequestBuilder);

impl Request {
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self(self.0.body(body.into()))
    }

    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    /// Sends it; a connection that fails fails the test.
    pub async fn send(self) -> Reply {
        self.attempt()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// Sends it; `Err` if there was no complete answer.
    pub async fn attempt(self) -> Result<Reply, reqwest::Error> {
        let response = self.0.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply {
            status,
            headers,
            body: response.bytes().await?,
        })
    }

    /// Sends it and answers as soon as the headers are there, with the body still to come.
    pub async fn stream(self) -> reqwest::Response {
        self.0
            .send()
            .await
            .unwrap_or_else(|error| panic!("{error:?}"))
    }
}
