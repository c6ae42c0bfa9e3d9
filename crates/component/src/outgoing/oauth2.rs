//! Clients of an authorization server (RFC 6749): its token endpoint (section 3.2), which is asked with a form and answers an
//! access token, and tokens that a client gets for itself (section 4.4).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderValue, Request, StatusCode,
    header::{self, InvalidHeaderValue},
};
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, error::Elapsed, timeout},
};
use url::form_urlencoded;

use super::{HttpClient, secret};
use crate::{Body, Error, ErrorKind, Result, body};

/// Longest wait for a token.
const LIMIT: Duration = Duration::from_secs(30);

/// Largest answer that is read.
const MAX_ANSWER: usize = 1 << 20;

/// Most characters that are told of a refusal.
const SHOWN: usize = 200;

/// A token is not used in the last moments of its life, in which it could expire on the way.
const EARLY: Duration = Duration::from_secs(10);

/// How the client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Style {
    /// By either way, and then by the one that worked.
    Unknown = 0,
    /// As fields of the form.
    Form = 1,
    /// In the `Authorization` header.
    Header = 2,
}

/// Where tokens come from.
pub struct TokenEndpoint {
    url: String,
    client_id: String,
    client_secret: String,
    style: AtomicU8,
    client: Arc<dyn HttpClient>,
}

/// An access token as it goes into a header.
#[derive(Clone)]
pub struct AccessToken {
    /// The scheme and the token; marked as secret.
    pub header: HeaderValue,
    expires: Option<Instant>,
}

impl AccessToken {
    /// Whether it is good for a request that begins at `now`.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// A client that gets tokens for itself, and the one that it has.
pub struct ClientTokens {
    endpoint: TokenEndpoint,
    /// The form that asks for a token.
    grant: Vec<(String, String)>,
    /// Who comes first asks, and the others wait for it; where it gets none, the next one asks.
    token: Mutex<Option<AccessToken>>,
}

impl ClientTokens {
    /// With the scopes to ask for, and more fields of the form; nothing is asked yet.
    pub fn new(
        endpoint: TokenEndpoint,
        scopes: &[String],
        more: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let mut grant = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
        if !scopes.is_empty() {
            grant.push(("scope".to_owned(), scopes.join(" ")));
        }
        grant.extend(more);
        Self {
            endpoint,
            grant,
            token: Mutex::default(),
        }
    }

    /// What goes into the header of a request that is sent now.
    ///
    /// # Errors
    /// As [`TokenEndpoint::ask`], also where those before it are waited for longer than that takes; the next call asks again.
    pub async fn token(&self) -> Result<HeaderValue> {
        let mut kept = timeout(LIMIT, self.token.lock()).await.map_err(late)?;
        if let Some(token) = kept.as_ref().filter(|it| it.is_fresh(Instant::now())) {
            return Ok(token.header.clone());
        }
        let grant: Vec<(&str, &str)> = self.grant.iter().map(|(k, v)| (&**k, &**v)).collect();
        let token = self.endpoint.ask(&grant).await?;
        let header = token.header.clone();
        *kept = Some(token);
        Ok(header)
    }

    /// The token was not taken: the next call asks for another.
    pub async fn forget(&self) {
        *self.token.lock().await = None;
    }
}

impl TokenEndpoint {
    /// Knows the endpoint; nothing is asked yet.
    pub fn new(
        client: Arc<dyn HttpClient>,
        url: String,
        client_id: String,
        client_secret: String,
        style: Style,
    ) -> Self {
        Self {
            url,
            client_id,
            client_secret,
            style: AtomicU8::new(style as u8),
            client,
        }
    }

    /// Asks for a token with the fields of a grant.
    ///
    /// # Errors
    /// What the server says, in short: its answer may hold secrets.
    pub async fn ask(&self, grant: &[(&str, &str)]) -> Result<AccessToken> {
        timeout(LIMIT, self.by_style(grant)).await.map_err(late)?
    }

    async fn by_style(&self, grant: &[(&str, &str)]) -> Result<AccessToken> {
        match self.style.load(Ordering::Relaxed) {
            1 => self.once(grant, Style::Form).await,
            2 => self.once(grant, Style::Header).await,
            _ => {
                let (style, token) = match self.once(grant, Style::Header).await {
                    Ok(token) => (Style::Header, token),
                    Err(error) if error.kind() == ErrorKind::Unauthorized => {
                        (Style::Form, self.once(grant, Style::Form).await?)
                    }
                    Err(error) => return Err(error),
                };
                self.style.store(style as u8, Ordering::Relaxed);
                Ok(token)
            }
        }
    }

    fn request(&self, grant: &[(&str, &str)], style: Style) -> Result<Request<Body>> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(grant);
        if style == Style::Form {
            form.append_pair("client_id", &self.client_id);
            form.append_pair("client_secret", &self.client_secret);
        }
        let mut request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(body::full(form.finish()))
            .map_err(|error| Error::invalid_metadata("tokenURL", error))?;
        if style == Style::Header {
            let encode =
                |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!(
                "{}:{}",
                encode(&self.client_id),
                encode(&self.client_secret)
            );
            let value = secret(&format!("Basic {}", STANDARD.encode(pair))).map_err(unfit)?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn once(&self, grant: &[(&str, &str)], style: Style) -> Result<AccessToken> {
        let request = self.request(grant, style)?;
        let answer = self.client.send(request).await?;
        let status = answer.status();
        let form = answer.headers().get(header::CONTENT_TYPE).cloned();
        let data = body::read(answer.into_body(), MAX_ANSWER).await;
        let data = data.map_err(|error| {
            Error::unavailable("the answer of the token endpoint cannot be read", error)
        })?;
        let fields = fields(form.as_ref(), &data);
        if !status.is_success() {
            return Err(refused(status, &fields));
        }
        token(&fields)
    }
}

/// The answer as an object; old servers answer with a form.
fn fields(content_type: Option<&HeaderValue>, data: &[u8]) -> Value {
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media = content_type.and_then(|text| text.split(';').next());
    match media.map(str::trim) {
        Some("application/x-www-form-urlencoded" | "text/plain") => {
            let pairs = form_urlencoded::parse(data);
            pairs
                .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
                .collect()
        }
        _ => serde_json::from_slice(data).unwrap_or(Value::Null),
    }
}

fn late(_: Elapsed) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the token endpoint does not answer in time",
    )
}

fn refused(status: StatusCode, fields: &Value) -> Error {
    let code = fields.get("error").and_then(Value::as_str);
    let code: String = code
        .unwrap_or("no reason given")
        .chars()
        .take(SHOWN)
        .collect();
    // Which style a server wants, some say with 400: RFC 6749 section 5.2.
    let kind = match status.is_client_error() {
        true => ErrorKind::Unauthorized,
        false => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the token endpoint answers {status}: {code}"))
}

fn token(fields: &Value) -> Result<AccessToken> {
    let text = |name| fields.get(name).and_then(Value::as_str);
    let Some(token) = text("access_token").filter(|token| !token.is_empty()) else {
        return Err(Error::new(
            ErrorKind::Unauthorized,
            "the answer of the token endpoint has no access_token",
        ));
    };
    let kind = text("token_type").unwrap_or_default();
    let scheme = match kind.to_ascii_lowercase().as_str() {
        "" | "bearer" => "Bearer",
        "mac" => "MAC",
        "basic" => "Basic",
        _ => kind,
    };
    let seconds = fields.get("expires_in").and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    });
    let life = seconds.filter(|seconds| *seconds > 0).map(|seconds: u64| {
        let life = Duration::from_secs(seconds);
        life.saturating_sub(EARLY.min(life / 2))
    });
    let header = secret(&format!("{scheme} {token}"));
    Ok(AccessToken {
        header: header.map_err(unfit)?,
        // A life that no clock can hold is none.
        expires: life.and_then(|life| Instant::now().checked_add(life)),
    })
}

fn unfit(_: InvalidHeaderValue) -> Error {
    Error::new(ErrorKind::Unauthorized, "the token fits into no header")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_have_several_forms() {
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        let form = fields(
            Some(&plain),
            b"access_token=a&expires_in=60&token_type=bearer",
        );
        assert_eq!(token(&form).unwrap().header, "Bearer a");
        let json = json!({"access_token": "a", "token_type": "DPoP", "expires_in": 60});
        let answered = token(&fields(None, json.to_string().as_bytes())).unwrap();
        assert_eq!(answered.header, "DPoP a");
        assert!(answered.is_fresh(Instant::now()));
        assert!(!answered.is_fresh(Instant::now() + Duration::from_secs(51)));
        for bad in [
            json!({}),
            json!({"access_token": 1}),
            json!({"access_token": "a\nb"}),
            Value::Null,
        ] {
            assert!(token(&bad).is_err(), "{bad}");
        }
        let short = json!({"access_token": "a", "expires_in": 4});
        assert!(token(&short).unwrap().is_fresh(Instant::now()));
        let endless = json!({"access_token": "a", "expires_in": u64::MAX});
        assert!(token(&endless).unwrap().is_fresh(Instant::now()));
    }
}
