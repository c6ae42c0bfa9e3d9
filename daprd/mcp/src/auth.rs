//! How the sidecar shows a server who it is: headers, tokens of OAuth 2.0 client credentials, or its own JWT-SVID.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use component::{
    Lent, body,
    outgoing::{HttpClient, Identity},
};
use crds::mcp_server::{OAuth2, SpiffeJwt};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::Error;

/// What goes with each request, and what sends it.
pub struct Credentials {
    headers: HeaderMap,
    http: Arc<dyn HttpClient>,
    kind: Kind,
}

enum Kind {
    Plain,
    OAuth2(Box<Client>),
    Jwt {
        identity: Arc<dyn Identity>,
        header: HeaderName,
        prefix: String,
        audience: String,
    },
}

/// A client of an authorization server, and the token that it has.
struct Client {
    settings: OAuth2,
    secret: String,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Option<Instant>,
}

/// What the authorization server answers.
#[derive(Deserialize)]
struct Issued {
    access_token: String,
    #[serde(default)]
    token_type: String,
    /// Some servers write a text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Credentials {
    pub fn plain(headers: HeaderMap, http: Arc<dyn HttpClient>) -> Self {
        let kind = Kind::Plain;
        Self {
            headers,
            http,
            kind,
        }
    }

    pub fn oauth2(
        headers: HeaderMap,
        http: Arc<dyn HttpClient>,
        settings: OAuth2,
        secret: String,
    ) -> Self {
        let kind = Kind::OAuth2(Box::new(Client {
            settings,
            secret,
            token: Mutex::default(),
        }));
        Self {
            headers,
            http,
            kind,
        }
    }

    /// # Errors
    /// Where the name of the header is none.
    pub fn jwt(
        headers: HeaderMap,
        http: Arc<dyn HttpClient>,
        jwt: SpiffeJwt,
        lent: &Lent,
    ) -> Result<Self, Error> {
        let header = jwt.header.parse();
        let kind = Kind::Jwt {
            identity: Arc::clone(&lent.identity),
            header: header
                .map_err(|_| Error::unusable(format!("{:?} is no header name", jwt.header)))?,
            prefix: jwt.header_value_prefix.unwrap_or_default(),
            audience: jwt.audience,
        };
        Ok(Self {
            headers,
            http,
            kind,
        })
    }

    /// Sends a request with all that shows who asks.
    ///
    /// # Errors
    /// [`Error::Closed`] where nobody answers, [`Error::Unusable`] where there is no token.
    pub async fn send(
        &self,
        mut request: Request<component::Body>,
    ) -> Result<http::Response<component::Body>, Error> {
        let headers = request.headers_mut();
        match &self.kind {
            Kind::Plain => {}
            Kind::OAuth2(client) => {
                let token = client.token(&*self.http).await?;
                headers.insert(header::AUTHORIZATION, token);
            }
            Kind::Jwt {
                identity,
                header,
                prefix,
                audience,
            } => {
                let token = identity.jwt(audience);
                let token = token.map_err(|error| {
                    Error::unusable(format!("SPIFFE JWT: {}", component::error::chain(&error)))
                })?;
                headers.insert(header.clone(), secret(&format!("{prefix}{token}"))?);
            }
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        let answer = self.http.send(request).await;
        answer.map_err(|error| Error::closed(component::error::chain(&error)))
    }

    /// The server does not take what it was shown: the next request is sent with a new token.
    pub async fn refused(&self) {
        if let Kind::OAuth2(client) = &self.kind {
            *client.token.lock().await = None;
        }
    }
}

impl Client {
    async fn token(&self, http: &dyn HttpClient) -> Result<HeaderValue, Error> {
        let mut held = self.token.lock().await;
        let now = Instant::now();
        if let Some(token) = held.as_ref()
            && token.until.is_none_or(|until| now < until)
        {
            return Ok(token.header.clone());
        }
        // Servers take the credentials in either place; the header is the one that they must know (RFC 6749, 2.3.1).
        let token = match self.ask(http, true).await? {
            Ok(token) => token,
            Err(_) => self.ask(http, false).await?.map_err(|(status, text)| {
                Error::unusable(format!("the token endpoint answers {status}: {text}"))
            })?,
        };
        let header = token.header.clone();
        *held = Some(token);
        Ok(header)
    }

    /// The token, or the status and the beginning of the refusal.
    async fn ask(
        &self,
        http: &dyn HttpClient,
        in_header: bool,
    ) -> Result<Result<Token, (StatusCode, String)>, Error> {
        let failed = |text: String| Error::unusable(format!("the token endpoint: {text}"));
        let answer = http.send(self.request(in_header)?).await;
        let answer = answer.map_err(|error| failed(component::error::chain(&error)))?;
        let status = answer.status();
        let body = body::read(answer.into_body(), MOST_TOKEN).await;
        let body = body.map_err(|error| failed(error.to_string()))?;
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Ok(Err((status, text)));
        }
        let issued: Issued = serde_json::from_slice(&body)
            .map_err(|error| failed(format!("an answer that is no token: {error}")))?;
        issued.token().map(Ok)
    }

    fn request(&self, in_header: bool) -> Result<Request<component::Body>, Error> {
        let settings = &self.settings;
        let id = settings.client_id.as_deref().unwrap_or_default();
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !settings.scopes.is_empty() {
            form.append_pair("scope", &settings.scopes.join(" "));
        }
        if let Some(audience) = &settings.audience {
            form.append_pair("audience", audience);
        }
        if !in_header {
            form.append_pair("client_id", id);
            form.append_pair("client_secret", &self.secret);
        }
        let mut request = Request::new(body::full(form.finish()));
        *request.method_mut() = Method::POST;
        let issuer = &settings.issuer;
        let uri = issuer.parse();
        *request.uri_mut() =
            uri.map_err(|_| Error::unusable(format!("auth.oauth2.issuer {issuer:?} is no URL")))?;
        let headers = request.headers_mut();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if in_header {
            let pair = STANDARD.encode(format!("{}:{}", escaped(id), escaped(&self.secret)));
            headers.insert(header::AUTHORIZATION, secret(&format!("Basic {pair}"))?);
        }
        Ok(request)
    }
}

impl Issued {
    fn token(self) -> Result<Token, Error> {
        let kind = match self.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer",
            _ => self.token_type.as_str(),
        };
        let seconds = match &self.expires_in {
            serde_json::Value::Number(number) => number.as_u64(),
            serde_json::Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let seconds = seconds.filter(|seconds| *seconds > 0);
        let until = seconds.map(Duration::from_secs).and_then(|lasting| {
            let early = EARLY.min(lasting / 2);
            Instant::now().checked_add(lasting.saturating_sub(early))
        });
        let header = secret(&format!("{kind} {}", self.access_token))?;
        Ok(Token { header, until })
    }
}

fn escaped(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

fn secret(text: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| Error::unusable("a token that fits into no header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A token is renewed by this much before it ends.
const EARLY: Duration = Duration::from_secs(10);

/// Largest answer of a token endpoint, in bytes.
const MOST_TOKEN: usize = 1 << 20;
