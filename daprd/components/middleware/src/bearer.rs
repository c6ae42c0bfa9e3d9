//! `middleware.http.bearer`: lets requests pass that bring a token of an OpenID Connect provider.

use std::time::Duration;

use async_trait::async_trait;
use component::{
    Body, Component, Error, ErrorKind, HttpMiddleware, Open, Result, Scope, body,
    middleware::{Next, answer},
    outgoing::{HttpClient, Tls},
};
use http::{HeaderMap, Request, Response, StatusCode, header};
use serde::Deserialize;
use tokens::{Check, Jwks};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Clocks of the provider and of this machine may differ by this much.
const SKEW: Duration = Duration::from_secs(300);

/// Longest wait for the provider's document, and for its keys, when the component is opened.
const DISCOVERY: Duration = Duration::from_secs(30);

/// Largest document of a provider.
const MAX_DOCUMENT: usize = 1 << 20;

component::metadata! {
    /// What the middleware is opened with.
    pub struct Settings {
        /// Who has to have issued the token.
        issuer: String => "issuer" | "issuerURL";
        /// Whom the token has to be for, mostly a client id.
        audience: String => "audience" | "clientID";
        /// The key set of the provider; without it, it is found by the issuer's `/.well-known/openid-configuration`.
        keys: Option<String> => "jwksURL";
    }
}

/// The part of a provider's document that counts here.
#[derive(Deserialize)]
struct Provider {
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    jwks_uri: String,
}

/// Checks bearer tokens.
pub struct Bearer {
    keys: Jwks,
    check: Check,
    clock: std::sync::Arc<dyn values::Clock>,
    /// The keys are kept fresh for as long as this lives.
    _scope: Scope,
}

impl Bearer {
    /// Finds the provider's keys, and reads them for the first time.
    ///
    /// # Errors
    /// Where there are none.
    pub async fn open(open: Open) -> Result<Self> {
        let settings = Settings::read(&open.metadata)?;
        let location = match settings.keys {
            Some(location) => location,
            None => discover(&*open.lent.http.client(&Tls::default())?, &settings.issuer).await?,
        };
        let unusable = |error: tokens::Error| {
            Error::new(ErrorKind::Unavailable, "no keys of the issuer").with_source(error)
        };
        let (keys, runner) = Jwks::new(tokens::Options::new(location)).map_err(unusable)?;
        let mut running = Box::pin(runner.run(CancellationToken::new()));
        let first = timeout(DISCOVERY, async {
            tokio::select! {
                () = keys.ready() => Ok(()),
                ended = &mut running => ended,
            }
        });
        let late = |_| Error::new(ErrorKind::Unavailable, "the issuer's keys did not come");
        first.await.map_err(late)?.map_err(unusable)?;
        open.scope.spawn(async move {
            if let Err(error) = running.await {
                tracing::warn!("the keys of a bearer token issuer are not refreshed: {error}");
            }
        });
        Ok(Self {
            keys,
            check: Check {
                audience: Some(settings.audience),
                subject: None,
                issuer: Some(settings.issuer),
                skew: SKEW,
            },
            clock: open.lent.clock,
            _scope: open.scope,
        })
    }

    async fn admits(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        // The app is handed all of them, and might look at another one.
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let token = given.next().filter(|_| given.next().is_none());
        let token = token.and_then(|value| bearer(value.to_str().ok()?));
        let token = token.ok_or(StatusCode::UNAUTHORIZED)?;
        match self.keys.verify(token, &self.check, self.clock.now()).await {
            Ok(_) => Ok(()),
            Err(tokens::Error::NotReady) => Err(StatusCode::INTERNAL_SERVER_ERROR),
            Err(error) => {
                tracing::debug!("a bearer token is refused: {error}");
                Err(StatusCode::UNAUTHORIZED)
            }
        }
    }
}

/// The token of an `Authorization` header; the scheme is found in any case.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Asks the issuer where its keys are.
async fn discover(client: &dyn HttpClient, issuer: &str) -> Result<String> {
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let no = |problem: String| {
        Error::new(
            ErrorKind::Unavailable,
            format!("no OpenID configuration at {url}: {problem}"),
        )
    };
    let request = Request::get(&url).body(body::empty());
    let request = request.map_err(|error| Error::invalid_metadata("issuer", error))?;
    let document = timeout(DISCOVERY, async {
        let answer = client.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(no(format!("the answer is {}", answer.status())));
        }
        let document = body::read(answer.into_body(), MAX_DOCUMENT).await;
        document.map_err(|error| no(error.to_string()))
    });
    let document = document
        .await
        .map_err(|_| no("it did not come in time".to_owned()))??;
    let provider: Provider =
        serde_json::from_slice(&document).map_err(|error| no(error.to_string()))?;
    if provider.issuer != issuer {
        return Err(no(format!("its issuer is {:?}", provider.issuer)));
    }
    if provider.jwks_uri.is_empty() {
        return Err(no("it names no jwks_uri".to_owned()));
    }
    Ok(provider.jwks_uri)
}

impl Component for Bearer {}

#[async_trait]
impl HttpMiddleware for Bearer {
    async fn call(&self, request: Request<Body>, next: Next<'_>) -> Response<Body> {
        match self.admits(request.headers()).await {
            Ok(()) => next.run(request).await,
            Err(status) => answer::status(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_found_in_any_case() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bEARER  abc"), Some("abc"));
        for none in ["Bearer", "Bearer ", "Basic abc", "abc", ""] {
            assert_eq!(bearer(none), None, "{none:?}");
        }
    }
}
