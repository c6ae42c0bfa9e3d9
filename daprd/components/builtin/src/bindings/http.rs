//! `bindings.http`: calls of an HTTP endpoint.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Component, Error, ErrorKind, Open, OutputBinding, Result,
    bindings::{InvokeRequest, InvokeResponse},
    body::{self, ReadError},
    fields::{SECOND, Size},
    outgoing::{HttpClient, Tls},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use values::header::canonical as header_name;

/// Largest answer unless something else is configured.
const MAX_RESPONSE: Size = Size(100 << 20);

/// Content type and Accept of a request that has none of its own.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Request metadata that become headers although they are written small: the trace, and what goes with it.
const TRACE: [&str; 3] = ["traceparent", "tracestate", "baggage"];

component::metadata! {
    /// What the binding is opened with.
    pub struct Settings {
        /// Where requests go; the `path` of a request is appended.
        url: String => "url";
        /// Longest wait for an answer.
        timeout: Option<Duration> => "responseTimeout", unit(SECOND);
        /// Largest answer; 0 has no limit.
        max_response: Size => "maxResponseBodySize", default(MAX_RESPONSE);
        /// Authorities to trust in place of the system's: PEM, or a file.
        authorities: Option<String> => "MTLSRootCA";
        /// The client's own certificate: PEM, or a file.
        certificate: Option<String> => "MTLSClientCert";
        /// Its key: PEM, or a file.
        key: Option<String> => "MTLSClientKey", secret;
        /// What `securityTokenHeader` is set to.
        token: Option<String> => "securityToken", secret;
        /// A header that is sent with every request.
        token_header: Option<String> => "securityTokenHeader";
        /// An answer outside 200 to 299 is an error.
        error_if_not_2xx: bool => "errorIfNot2XX", default(true);
    }
    // TLS 1.3 has none, and clients here offer none in TLS 1.2.
    ignored { "MTLSRenegotiation": Text }
}

/// An HTTP endpoint.
pub struct Http {
    settings: Settings,
    client: Arc<dyn HttpClient>,
    token: Option<(HeaderName, HeaderValue)>,
}

impl Http {
    /// Reads the metadata, and the files that they name.
    ///
    /// # Errors
    /// Names the field.
    pub async fn open(open: Open) -> Result<Self> {
        let settings = Settings::read(&open.metadata)?;
        let authorities = pem("MTLSRootCA", settings.authorities.as_deref()).await?;
        let certificate = pem("MTLSClientCert", settings.certificate.as_deref()).await?;
        let key = pem("MTLSClientKey", settings.key.as_deref()).await?;
        let client = open.lent.http.client(&Tls {
            authorities,
            identity: certificate.zip(key),
            insecure: false,
        })?;
        let token = settings
            .token_header
            .as_deref()
            .zip(settings.token.as_deref());
        let token = token.map(|(name, value)| {
            let name = HeaderName::try_from(name);
            let name =
                name.map_err(|error| Error::invalid_metadata("securityTokenHeader", error))?;
            let value = HeaderValue::try_from(value);
            let value = value.map_err(|error| Error::invalid_metadata("securityToken", error))?;
            Ok::<_, Error>((name, value))
        });
        Ok(Self {
            token: token.transpose()?,
            settings,
            client,
        })
    }

    fn request(&self, method: Method, request: &InvokeRequest) -> Result<Request<component::Body>> {
        let mut url = self.settings.url.clone();
        if let Some(path) = request.metadata.get("path").filter(|path| !path.is_empty()) {
            url = format!(
                "{}/{}",
                url.trim_end_matches('/'),
                path.trim_start_matches('/')
            );
        }
        let has_body = [Method::POST, Method::PUT, Method::PATCH].contains(&method);
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, JSON);
        if has_body {
            headers.insert(header::CONTENT_TYPE, JSON);
        }
        if let Some((name, value)) = &self.token {
            headers.insert(name, value.clone());
        }
        // Names that begin with a capital are headers; the trace goes over them.
        let capital = |name: &str| name.starts_with(|first: char| first.is_ascii_uppercase());
        let own = request.metadata.iter().filter(|(name, _)| capital(name));
        let trace = TRACE
            .iter()
            .filter_map(|name| request.metadata.get_key_value(*name));
        let trace = trace.filter(|(_, value)| !value.is_empty());
        for (name, value) in own.chain(trace) {
            let invalid = || Error::invalid_request(format!("metadata {name} makes no header"));
            let key = HeaderName::try_from(name).map_err(|_| invalid())?;
            headers.insert(key, HeaderValue::try_from(value).map_err(|_| invalid())?);
        }
        let data = match has_body {
            true => request.data.clone(),
            false => Bytes::new(),
        };
        let built = Request::builder()
            .method(method)
            .uri(&url)
            .body(body::full(data));
        let mut built =
            built.map_err(|error| Error::invalid_request(format!("{url:?}: {error}")))?;
        *built.headers_mut() = headers;
        Ok(built)
    }

    async fn exchange(&self, request: Request<component::Body>) -> Result<InvokeResponse> {
        let answer = self.client.send(request).await?;
        let (parts, body) = answer.into_parts();
        let limit = match self.settings.max_response.0 {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        // Q-http-binding-limit: an answer that is too large is an error, not a shorter one.
        let data = body::read(body, limit).await.map_err(|error| match error {
            ReadError::TooLarge { .. } => Error::invalid_request(format!("the answer: {error}")),
            ReadError::Broken(_) => Error::unavailable("the answer broke off", error),
        })?;
        let status = parts.status;
        let mut metadata = from_headers(&parts.headers);
        metadata.insert("statusCode".to_owned(), status.as_str().to_owned());
        metadata.insert("status".to_owned(), status.to_string());
        Ok(InvokeResponse {
            data: Some(data),
            metadata,
        })
    }
}

/// PEM as it is, or what the file of that name holds.
async fn pem(field: &str, text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    if text.contains("-----BEGIN ") {
        return Ok(Some(text.to_owned()));
    }
    let read = tokio::fs::read_to_string(text).await;
    read.map(Some).map_err(|error| {
        let problem = format!("is neither PEM nor a file that can be read: {error}");
        Error::invalid_metadata(field, problem)
    })
}

/// Headers under the names that Go gives them, several values in one.
fn from_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let values = |name: &HeaderName| {
        let values = headers.get_all(name).iter();
        let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join(", ")
    };
    let names = headers.keys();
    names
        .map(|name| (header_name(name.as_str()), values(name)))
        .collect()
}

fn method(operation: &str) -> Option<Method> {
    let known = OPERATIONS.contains(&&*operation.to_ascii_lowercase());
    match operation.to_ascii_uppercase().as_str() {
        "CREATE" => Some(Method::POST),
        upper if known => upper.parse().ok(),
        _ => None,
    }
}

const OPERATIONS: [&str; 9] = [
    "create", "get", "head", "post", "put", "patch", "delete", "options", "trace",
];

impl Component for Http {}

#[async_trait]
impl OutputBinding for Http {
    fn operations(&self) -> Vec<String> {
        OPERATIONS.map(str::to_owned).into()
    }

    async fn invoke(&self, request: &InvokeRequest) -> Result<InvokeResponse> {
        let method = method(&request.operation).ok_or_else(|| {
            Error::invalid_request(format!("invalid operation: {}", request.operation))
        })?;
        let exchange = self.exchange(self.request(method, request)?);
        let answer = match self.settings.timeout {
            None => exchange.await?,
            Some(limit) => tokio::time::timeout(limit, exchange).await.map_err(|_| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("no answer within {limit:?}"),
                )
            })??,
        };
        let own = request
            .metadata
            .get("errorIfNot2XX")
            .filter(|it| !it.is_empty());
        let strict = own.map_or(self.settings.error_if_not_2xx, |it| values::is_truthy(it));
        let code = &answer.metadata["statusCode"];
        if !strict || code.starts_with('2') {
            return Ok(answer);
        }
        let kind = match code.as_str() {
            "408" | "429" => ErrorKind::RateLimited,
            code if code.starts_with('5') => ErrorKind::Unavailable,
            _ => ErrorKind::InvalidRequest,
        };
        let text = format!("received status code {code}");
        Err(Error::new(kind, text).with_metadata(answer.metadata))
    }
}

#[cfg(test)]
mod tests;
