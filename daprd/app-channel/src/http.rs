//! Calls to an HTTP app: through the app pipeline, then over the pooled client. Bodies are streamed, and not looked into:
//! Q-accept-encoding. One that breaks off is passed on broken: Q-short-body.

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    uri::PathAndQuery,
};
use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Body, body,
    middleware::{Endpoint, Next},
};
use tower::Service as _;

use crate::{AppChannel, Error, TOKEN_HEADER};

/// Left in the extensions of a response that the pipeline's end made up because the app did not answer.
#[derive(Clone)]
struct Failed(String);

impl AppChannel {
    /// Sends a request to the app; only path, query, method, headers and body of it count.
    ///
    /// # Errors
    /// [`Error::NoChannel`], [`Error::Unhealthy`], [`Error::Unreachable`].
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Error> {
        self.check()?;
        let place = self.enter().await;
        let pipeline = self.0.options.pipeline.load_full();
        let mut response = if pipeline.is_empty() {
            self.call(request).await
        } else {
            Next::new(&pipeline, self).run(request).await
        };
        if let Some(Failed(problem)) = response.extensions_mut().remove() {
            return Err(Error::Unreachable(problem));
        }
        // The place among the calls under way is kept until the body is read.
        Ok(match place {
            Some(place) => response.map(|body| body::held(body, place)),
            None => response,
        })
    }

    /// Asks an HTTP app for its health: past the pipeline and the limit on calls, and also while it is unhealthy.
    pub(crate) async fn probe(&self, path: &str) -> Option<StatusCode> {
        let path = format!("/{}", path.trim_start_matches('/'));
        let mut request = Request::get(path).body(body::empty()).ok()?;
        self.address(&mut request);
        let response = self.0.clients.http.request(request).await.ok()?;
        Some(response.status())
    }

    /// Sends a body that is in memory and reads the whole answer.
    ///
    /// # Errors
    /// As [`AppChannel::send`]; [`Error::Malformed`] where the answer is larger than a message may be.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        data: Bytes,
    ) -> Result<Response<Bytes>, Error> {
        let path = format!("/{}", path.trim_start_matches('/'));
        let uri: Uri = path.parse().map_err(|_| Error::Malformed {
            what: "path of the app",
            problem: format!("{path:?} is no path"),
        })?;
        let mut request = Request::new(body::full(data));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let response = self.send(request).await?;
        let (parts, body) = response.into_parts();
        let bytes = body::read(body, self.0.options.max_message)
            .await
            .map_err(|error| Error::Malformed {
                what: "answer of the app",
                problem: error.to_string(),
            })?;
        Ok(Response::from_parts(parts, bytes))
    }

    pub(crate) fn app_id_header(&self) -> HeaderMap {
        let app_id = HeaderValue::from_str(&self.0.options.app_id).ok();
        let named = app_id.map(|value| (HeaderName::from_static("dapr-app-id"), value));
        named.into_iter().collect()
    }

    /// Delivers a topic event to an HTTP app.
    ///
    /// # Errors
    /// As [`AppChannel::exchange`].
    pub async fn topic_event_http(
        &self,
        path: &str,
        data: Bytes,
        headers: HeaderMap,
    ) -> Result<Response<Bytes>, Error> {
        self.exchange(Method::POST, path, headers, data).await
    }

    /// Puts the app's address and token on a request.
    fn address(&self, request: &mut Request<Body>) {
        let mut parts = self.0.origin.clone().into_parts();
        parts.path_and_query = Some(
            request
                .uri()
                .path_and_query()
                .cloned()
                .unwrap_or(PathAndQuery::from_static("/")),
        );
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = ::http::Version::default();
        let headers = request.headers_mut();
        headers.remove(header::HOST);
        headers.remove(TOKEN_HEADER);
        if let Some(token) = self.token() {
            headers.insert(TOKEN_HEADER, token);
        }
    }

    pub(crate) fn token(&self) -> Option<HeaderValue> {
        let token = self.0.options.token.as_deref()?;
        HeaderValue::from_str(token).ok()
    }
}

/// The end of the app pipeline.
#[async_trait]
impl Endpoint for AppChannel {
    async fn call(&self, mut request: Request<Body>) -> Response<Body> {
        self.address(&mut request);
        match self.0.clients.measured_http.clone().call(request).await {
            Ok(response) => response.map(body::streamed),
            Err(error) => {
                let mut response = Response::new(body::empty());
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                let problem = transport::describe(&error);
                response.extensions_mut().insert(Failed(problem));
                response
            }
        }
    }
}
