//! How a server is reached, with secrets and variables in their places.

use std::time::Duration;

use async_trait::async_trait;
use component::{
    Lent,
    outgoing::{Tls, secret},
};
use crds::{Kind, McpServer, NameValuePair, mcp_server};
use http::{HeaderMap, HeaderName};
use url::Url;
use values::GoDuration;

use crate::{Error, auth::Credentials};

/// Resolves what resources refer to.
#[async_trait]
pub trait Values: Send + Sync {
    /// The value of a pair: as it stands, of a secret of a store, or of a variable.
    ///
    /// # Errors
    /// Why there is none.
    async fn value(&self, pair: &NameValuePair, store: Option<&str>) -> Result<String, String>;
}

/// Where a server is.
pub enum Endpoint {
    Http(Http),
    Sse(Http),
    Stdio(Stdio),
}

pub struct Http {
    pub url: Url,
    pub version: Option<String>,
    pub credentials: Credentials,
}

pub struct Stdio {
    pub command: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
}

impl Endpoint {
    /// Q-mcp-secret
    ///
    /// # Errors
    /// Names what cannot be resolved.
    pub async fn resolve(
        server: &McpServer,
        values: &dyn Values,
        lent: &Lent,
    ) -> Result<Self, Error> {
        let endpoint = &server.spec.endpoint;
        if let Some(stdio) = &endpoint.stdio {
            let env = pairs(&stdio.env, values, server.secret_store()).await?;
            return Ok(Self::Stdio(Stdio {
                command: stdio.command.clone(),
                args: stdio.args.clone(),
                env,
            }));
        }
        let (given, sse) = match (&endpoint.streamable_http, &endpoint.sse) {
            (Some(http), _) => (http, false),
            (None, Some(http)) => (http, true),
            (None, None) => return Err(Error::unusable("the resource names no transport")),
        };
        let url = Url::parse(&given.url);
        let url = url.map_err(|error| Error::unusable(format!("url: {error}")))?;
        let http = Http {
            url,
            version: given.protocol_version.clone(),
            credentials: credentials(given, values, lent).await?,
        };
        Ok(match sse {
            true => Self::Sse(http),
            false => Self::Http(http),
        })
    }
}

/// How long a call may take: what the resource says, where that is more than nothing.
pub fn timeout(server: &McpServer) -> Duration {
    let endpoint = &server.spec.endpoint;
    let http = endpoint.streamable_http.as_ref().or(endpoint.sse.as_ref());
    let given = http.and_then(|http| http.timeout.as_ref()?.parse::<GoDuration>().ok());
    let given = given.and_then(GoDuration::to_std);
    given.filter(|limit| !limit.is_zero()).unwrap_or(TIMEOUT)
}

async fn credentials(
    given: &mcp_server::Http,
    values: &dyn Values,
    lent: &Lent,
) -> Result<Credentials, Error> {
    let auth = given.auth.clone().unwrap_or_default();
    let store = auth.secret_store.as_deref().filter(|it| !it.is_empty());
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(&given.headers, values, store).await? {
        let read: Result<HeaderName, _> = name.parse();
        let read = read.map_err(|_| Error::unusable(format!("{name:?} is no header name")))?;
        let value = secret(&value)
            .map_err(|_| Error::unusable(format!("the value of header {name} is none")))?;
        headers.insert(read, value);
    }
    let http = lent.http.client(&Tls::default());
    let http = http.map_err(|error| Error::unusable(component::error::chain(&error)))?;
    if let Some(oauth2) = auth.oauth2 {
        let reference = oauth2.secret_key_ref.clone();
        let reference =
            reference.ok_or_else(|| Error::unusable("auth.oauth2.secretKeyRef is missing"))?;
        let pair = NameValuePair {
            name: "auth.oauth2.secretKeyRef".to_owned(),
            secret_key_ref: Some(reference),
            ..NameValuePair::default()
        };
        let secret = values.value(&pair, Some(store.unwrap_or(KUBERNETES))).await;
        let secret =
            secret.map_err(|problem| Error::unusable(format!("auth.oauth2: {problem}")))?;
        return Ok(Credentials::oauth2(headers, http, oauth2, secret));
    }
    let jwt = auth.spiffe.and_then(|spiffe| spiffe.jwt);
    match jwt {
        Some(jwt) => Credentials::jwt(headers, http, jwt, lent),
        None => Ok(Credentials::plain(headers, http)),
    }
}

async fn pairs(
    pairs: &[NameValuePair],
    values: &dyn Values,
    store: Option<&str>,
) -> Result<Vec<(String, String)>, Error> {
    let mut resolved = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().filter(|pair| !pair.name.is_empty()) {
        let value = values.value(pair, store).await;
        let value =
            value.map_err(|problem| Error::unusable(format!("{}: {problem}", pair.name)))?;
        resolved.push((pair.name.clone(), value));
    }
    Ok(resolved)
}

/// How long a call may take where the resource does not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The secret store where the resource names none.
const KUBERNETES: &str = "kubernetes";
