//! The agent of Consul: three requests of its HTTP API.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use component::{
    Error, ErrorKind, Open, Result, body,
    outgoing::{HttpClient, Tls, secret},
};
use http::{HeaderValue, Method, Request, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use url::form_urlencoded::Serializer;

use crate::settings::{Client, Query};

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Largest answer that is read.
const MAX_ANSWER: usize = 4 << 20;

/// Where an agent listens that is not told.
const DEFAULT_ADDRESS: &str = "127.0.0.1:8500";

/// The agent.
pub struct Agent {
    client: Arc<dyn HttpClient>,
    base: String,
    datacenter: String,
    token: Option<HeaderValue>,
    login: Option<HeaderValue>,
}

/// An instance of a service, as the health API tells it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthy {
    /// The machine.
    #[serde(default)]
    pub node: Node,
    /// The service on it.
    #[serde(default)]
    pub service: Service,
}

/// The part of a node that counts.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its address.
    #[serde(default)]
    pub address: String,
}

/// The part of a service that counts.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// Its own address, where it has one.
    #[serde(default)]
    pub address: String,
    /// What whoever announced it has added.
    #[serde(default)]
    pub meta: Option<std::collections::BTreeMap<String, String>>,
}

impl Agent {
    /// Reads the files that the configuration names; nothing is asked yet.
    ///
    /// # Errors
    /// Names the field.
    pub async fn new(open: &Open, settings: Client) -> Result<Self> {
        let file = async |field: &str, path: &str| -> Result<Option<String>> {
            if path.is_empty() {
                return Ok(None);
            }
            let read = tokio::fs::read_to_string(path).await;
            read.map(Some)
                .map_err(|error| Error::invalid_metadata(field, format!("{path:?}: {error}")))
        };
        let tls = &settings.tls;
        let certificate = file("client.tlsConfig.certFile", &tls.certificate).await?;
        let key = file("client.tlsConfig.keyFile", &tls.key).await?;
        let client = open.lent.http.client(&Tls {
            authorities: file("client.tlsConfig.caFile", &tls.authorities).await?,
            identity: certificate.zip(key),
            insecure: tls.insecure,
        })?;
        let token = match file("client.tokenFile", &settings.token_file).await? {
            Some(token) => token.trim().to_owned(),
            None => settings.token,
        };
        let login = settings.http_auth.map(|login| {
            let pair = format!("{}:{}", login.username, login.password);
            credential(
                "client.httpAuth",
                &format!("Basic {}", STANDARD.encode(pair)),
            )
        });
        Ok(Self {
            client,
            base: base(&settings.scheme, &settings.address),
            datacenter: settings.datacenter,
            token: match token.is_empty() {
                true => None,
                false => Some(credential("client.token", &token)?),
            },
            login: login.transpose()?,
        })
    }

    /// Whether the agent answers.
    ///
    /// # Errors
    /// What it says, or that it does not.
    pub async fn check(&self) -> Result<()> {
        self.ask(Method::GET, "/v1/agent/self", String::new(), None, None)
            .await
            .map(drop)
    }

    /// Announces a service.
    ///
    /// # Errors
    /// As [`Agent::check`].
    pub async fn register(&self, service: &Value) -> Result<()> {
        let path = "/v1/agent/service/register";
        let body = Some(service.to_string());
        self.ask(Method::PUT, path, String::new(), body, None)
            .await
            .map(drop)
    }

    /// Withdraws a service.
    ///
    /// # Errors
    /// As [`Agent::check`].
    pub async fn deregister(&self, id: &str) -> Result<()> {
        let path = format!("/v1/agent/service/deregister/{}", segment(id));
        self.ask(Method::PUT, &path, String::new(), None, None)
            .await
            .map(drop)
    }

    /// The instances of a service that pass their checks.
    ///
    /// # Errors
    /// As [`Agent::check`].
    pub async fn healthy(&self, service: &str, query: &Query) -> Result<Vec<Healthy>> {
        let path = format!("/v1/health/service/{}", segment(service));
        let token = match query.token.is_empty() {
            true => None,
            false => Some(credential("queryOptions.token", &query.token)?),
        };
        let answer = self
            .ask(Method::GET, &path, self.parameters(query), None, token)
            .await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::internal("the agent's answer cannot be read", error))
    }

    fn parameters(&self, query: &Query) -> String {
        let mut written = Serializer::new(String::new());
        written.append_pair("passing", "1");
        let datacenter = match query.datacenter.is_empty() {
            true => &self.datacenter,
            false => &query.datacenter,
        };
        for (name, value) in [
            ("dc", datacenter),
            ("ns", &query.namespace),
            ("partition", &query.partition),
            ("near", &query.near),
            ("filter", &query.filter),
        ] {
            if !value.is_empty() {
                written.append_pair(name, value);
            }
        }
        for (name, on) in [
            ("stale", query.stale),
            ("consistent", query.consistent),
            // The agent refuses both at once.
            ("cached", query.cached && !query.consistent),
        ] {
            if on {
                written.append_key_only(name);
            }
        }
        for (name, value) in &query.node_meta {
            written.append_pair("node-meta", &format!("{name}:{value}"));
        }
        written.finish()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        parameters: String,
        json: Option<String>,
        token: Option<HeaderValue>,
    ) -> Result<bytes::Bytes> {
        let mark = if parameters.is_empty() { "" } else { "?" };
        let url = format!("{}{path}{mark}{parameters}", self.base);
        let data = json.map_or_else(body::empty, body::full);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(data)
            .map_err(|error| Error::invalid_metadata("client.address", error))?;
        let headers = request.headers_mut();
        if let Some(token) = token.or_else(|| self.token.clone()) {
            headers.insert("x-consul-token", token);
        }
        if let Some(login) = &self.login {
            headers.insert(header::AUTHORIZATION, login.clone());
        }
        let answer = timeout(LIMIT, async {
            let answer = self.client.send(request).await?;
            let status = answer.status();
            let data = body::read(answer.into_body(), MAX_ANSWER).await;
            let data =
                data.map_err(|error| Error::unavailable("the agent's answer broke off", error))?;
            if status.is_success() {
                return Ok(data);
            }
            let text = String::from_utf8_lossy(&data);
            let text = text.trim().chars().take(200).collect::<String>();
            let kind = match status.as_u16() {
                401 | 403 => ErrorKind::Unauthorized,
                _ => ErrorKind::Unavailable,
            };
            Err(Error::new(
                kind,
                format!("the Consul agent answers {status}: {text}"),
            ))
        });
        answer.await.map_err(|_| {
            Error::new(
                ErrorKind::Unavailable,
                "the Consul agent does not answer in time",
            )
        })?
    }
}

/// The address with its scheme in front.
fn base(scheme: &str, address: &str) -> String {
    let address = match address.is_empty() {
        true => DEFAULT_ADDRESS,
        false => address.trim_end_matches('/'),
    };
    if address.contains("://") {
        return address.to_owned();
    }
    let scheme = if scheme.is_empty() { "http" } else { scheme };
    format!("{scheme}://{address}")
}

/// A name as a segment of a path.
fn segment(name: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    encoded.replace('+', "%20")
}

fn credential(field: &str, text: &str) -> Result<HeaderValue> {
    secret(text).map_err(|error| Error::invalid_metadata(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_several_forms() {
        for (scheme, address, expected) in [
            ("", "", "http://127.0.0.1:8500"),
            ("https", "consul:8501", "https://consul:8501"),
            ("", "https://consul/", "https://consul"),
        ] {
            assert_eq!(base(scheme, address), expected);
        }
        assert_eq!(segment("a/b c"), "a%2Fb%20c");
    }
}
