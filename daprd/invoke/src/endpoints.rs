//! Calls that leave Dapr: HTTPEndpoint resources, and plain URLs.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use component::{Body, body};
use crds::{
    HttpEndpoint, Kind,
    http_endpoint::{Tls, TlsDocument},
};
use futures::TryStreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header, uri::InvalidUri};
use http_body_util::BodyExt;
use reqwest::Url;
use transport::Elsewhere;

/// An HTTPEndpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("HTTPEndpoint {name}: {field}: {problem}")]
pub struct Error {
    name: String,
    field: &'static str,
    problem: String,
}

/// The endpoints by name, and the client for URLs that no endpoint names.
#[derive(Default)]
pub struct Endpoints {
    by_name: BTreeMap<String, Arc<Endpoint>>,
    /// Made at the first such call: it reads the machine's CA certificates, which few sidecars need.
    plain: OnceLock<Client>,
}

struct Endpoint {
    base: Uri,
    headers: HeaderMap,
    client: Client,
}

/// A client, or what is wrong with its keys: that is the caller's error, not one of the start, since the sidecar serves
/// everything else.
type Client = Result<Connected, String>;

struct Connected {
    http: reqwest::Client,
    elsewhere: Elsewhere,
}

impl Endpoints {
    /// Leaves a resource out that cannot be used, and says why: one of a whole namespace must not keep sidecars from starting.
    pub fn load(resources: &[HttpEndpoint]) -> (Self, Vec<Error>) {
        let (mut by_name, mut problems) = (BTreeMap::new(), Vec::new());
        for resource in resources {
            match endpoint(resource) {
                Ok(endpoint) => {
                    by_name.insert(resource.name().to_owned(), Arc::new(endpoint));
                }
                Err(problem) => problems.push(problem),
            }
        }
        let plain = OnceLock::new();
        (Self { by_name, plain }, problems)
    }

    pub fn names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    /// The base URL of an endpoint.
    pub fn url(&self, name: &str) -> Option<Uri> {
        Some(self.by_name.get(name)?.base.clone())
    }

    /// Calls an endpoint, or a plain URL; redirects are followed: Q-redirects.
    pub async fn call(
        &self,
        url: &Uri,
        endpoint: Option<&str>,
        method: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, crate::Error> {
        let unreachable = |problem: String| crate::Error::Unreachable {
            app_id: endpoint.map_or_else(|| url.to_string(), str::to_owned),
            problem,
        };
        let known = endpoint.and_then(|name| self.by_name.get(name));
        let client = match known {
            Some(known) => &known.client,
            None => self.plain.get_or_init(|| client(None)),
        };
        let client = client
            .as_ref()
            .map_err(|problem| unreachable(problem.clone()))?;
        let (parts, body) = request.into_parts();
        let mut target = format!(
            "{}/{}",
            url.to_string().trim_end_matches('/'),
            method.trim_start_matches('/')
        );
        if let Some(query) = parts.uri.query() {
            target.push('?');
            target.push_str(query);
        }
        let mut headers = parts.headers;
        headers.remove(header::HOST);
        if let Some(known) = known {
            headers.extend(known.headers.clone());
        }
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.headers_mut() = headers;
        let no_url = |problem: String| unreachable(format!("no URL: {problem}"));
        // It escapes what a URL must not hold.
        let target = Url::parse(&target).map_err(|error| no_url(error.to_string()))?;
        let target = target.as_str().parse();
        *request.uri_mut() = target.map_err(|error: InvalidUri| no_url(error.to_string()))?;
        let send = |request| once(client.http.clone(), request);
        let answer = Box::pin(transport::follow(request, client.elsewhere, send)).await;
        answer.map_err(|error| unreachable(transport::describe(&error)))
    }
}

async fn once(
    http: reqwest::Client,
    request: Request<Body>,
) -> Result<Response<Body>, reqwest::Error> {
    let (parts, body) = request.into_parts();
    let outgoing = http.request(parts.method, parts.uri.to_string());
    let mut outgoing = outgoing.headers(parts.headers);
    if !http_body::Body::is_end_stream(&body) {
        let stream = body.into_data_stream().map_err(std::io::Error::other);
        outgoing = outgoing.body(reqwest::Body::wrap_stream(stream));
    }
    let response = outgoing.send().await?;
    Ok(Response::from(response).map(body::streamed))
}

fn endpoint(resource: &HttpEndpoint) -> Result<Endpoint, Error> {
    let failed = |field, problem: String| Error {
        name: resource.name().to_owned(),
        field,
        problem,
    };
    let base = resource.spec.base_url.as_str();
    let base: Uri = base
        .parse()
        .map_err(|_| failed("spec.baseUrl", format!("{base:?} is no URL")))?;
    let mut headers = HeaderMap::new();
    for pair in &resource.spec.headers {
        let name: HeaderName = pair
            .name
            .parse()
            .map_err(|_| failed("spec.headers", format!("{:?} is no header name", pair.name)))?;
        let value = HeaderValue::from_str(&pair.text()).map_err(|_| {
            failed(
                "spec.headers",
                format!("the value of {} is none", pair.name),
            )
        })?;
        headers.append(name, value);
    }
    Ok(Endpoint {
        base,
        headers,
        client: client(resource.spec.client_tls.as_ref()),
    })
}

fn client(tls: Option<&Tls>) -> Client {
    // Redirects are followed by us.
    let mut builder = reqwest::Client::builder()
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none());
    let mut elsewhere = Elsewhere::Bare;
    if let Some(tls) = tls {
        let text = |document: &Option<TlsDocument>| {
            let value = document.as_ref().and_then(|it| it.value.as_ref());
            value
                .map(|value| value.text().into_owned())
                .unwrap_or_default()
        };
        let (root, certificate, key) = (
            text(&tls.root_ca),
            text(&tls.certificate),
            text(&tls.private_key),
        );
        if !root.is_empty() {
            let roots = reqwest::Certificate::from_pem_bundle(root.as_bytes())
                .map_err(|error| format!("spec.clientTLS.rootCA: {error}"))?;
            builder = builder.tls_certs_only(roots);
        }
        if !certificate.is_empty() {
            let pem = format!("{certificate}\n{key}");
            let identity = reqwest::Identity::from_pem(pem.as_bytes())
                .map_err(|error| format!("spec.clientTLS.certificate: {error}"))?;
            builder = builder.identity(identity);
            elsewhere = Elsewhere::Never;
        }
    }
    let http = builder
        .build()
        .map_err(|error| component::error::chain(&error))?;
    Ok(Connected { http, elsewhere })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_left_out_with_resource_and_field() {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let resource = |name, url: &str| {
            let mut resource = HttpEndpoint::new(name, crds::http_endpoint::Spec::default());
            resource.spec.base_url = url.to_owned();
            resource
        };
        let resources = [
            resource("github", "ht tp://"),
            resource("docs", "https://docs"),
        ];
        let (endpoints, problems) = Endpoints::load(&resources);
        assert_eq!(endpoints.names(), ["docs"]);
        let [error] = problems.as_slice() else {
            panic!("{problems:?}");
        };
        assert!(
            error
                .to_string()
                .starts_with("HTTPEndpoint github: spec.baseUrl"),
            "{error}"
        );
    }
}
