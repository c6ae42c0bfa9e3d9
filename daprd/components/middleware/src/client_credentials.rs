//! `middleware.http.oauth2clientcredentials`: puts a token on requests, which the sidecar gets for itself (RFC 6749
//! section 4.4).

use std::time::Instant;

use async_trait::async_trait;
use component::{Body, Component, Error, HttpMiddleware, Open, Result, middleware::Next};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Mutex;
use url::form_urlencoded;

use crate::{
    answer,
    paths::Filter,
    token_endpoint::{AccessToken, Style, TokenEndpoint},
};

component::metadata! {
    /// What the middleware is opened with.
    pub struct Settings {
        /// The id of the client.
        client_id: String => "clientID";
        /// Its secret.
        client_secret: String => "clientSecret", secret;
        /// The scopes to ask for, separated by commas.
        scopes: Vec<String> => "scopes", default(Vec::new());
        /// Where tokens come from.
        token_url: String => "tokenURL";
        /// The header that the token goes into.
        header: String => "headerName";
        /// More fields for the token endpoint, as a query.
        parameters: Option<String> => "endpointParamsQuery";
        /// How the client proves who it is: 1 in the form, 2 in the header, 0 by whichever works.
        style: u32 => "authStyle", default(0);
        /// The paths that get a token; without it, all.
        filter: Option<String> => "pathFilter";
    }
}

/// Puts a token on requests.
pub struct ClientCredentials {
    endpoint: TokenEndpoint,
    /// The form that asks for a token.
    grant: Vec<(String, String)>,
    header: HeaderName,
    filter: Filter,
    /// Who comes first asks, and the others wait for what it gets.
    token: Mutex<Option<AccessToken>>,
}

impl ClientCredentials {
    /// Reads the metadata; the first request asks for a token.
    ///
    /// # Errors
    /// Names the field.
    pub fn open(open: &Open) -> Result<Self> {
        let settings = Settings::read(&open.metadata)?;
        if settings.scopes.is_empty() {
            return Err(Error::invalid_metadata("scopes", "is required"));
        }
        let style = match settings.style {
            0 => Style::Unknown,
            1 => Style::Form,
            2 => Style::Header,
            other => {
                let problem = format!("{other} is none of 0, 1 and 2");
                return Err(Error::invalid_metadata("authStyle", problem));
            }
        };
        let header = HeaderName::try_from(&settings.header);
        let header = header.map_err(|error| Error::invalid_metadata("headerName", error))?;
        let mut grant = vec![
            ("grant_type".to_owned(), "client_credentials".to_owned()),
            ("scope".to_owned(), settings.scopes.join(" ")),
        ];
        let more = settings.parameters.unwrap_or_default();
        grant.extend(form_urlencoded::parse(more.as_bytes()).into_owned());
        Ok(Self {
            endpoint: TokenEndpoint::new(
                open,
                settings.token_url,
                settings.client_id,
                settings.client_secret,
                style,
            )?,
            grant,
            header,
            filter: Filter::open(settings.filter.as_deref())?,
            token: Mutex::default(),
        })
    }

    async fn token(&self) -> Result<HeaderValue> {
        let mut kept = self.token.lock().await;
        if let Some(token) = kept.as_ref().filter(|it| it.is_fresh(Instant::now())) {
            return Ok(token.header.clone());
        }
        let grant: Vec<(&str, &str)> = self.grant.iter().map(|(k, v)| (&**k, &**v)).collect();
        let token = self.endpoint.ask(&grant).await?;
        let header = token.header.clone();
        *kept = Some(token);
        Ok(header)
    }
}

impl Component for ClientCredentials {}

#[async_trait]
impl HttpMiddleware for ClientCredentials {
    async fn call(&self, mut request: Request<Body>, next: Next<'_>) -> Response<Body> {
        if self.filter.covers(request.uri().path()) {
            match self.token().await {
                // Q-oauth2-header: what the caller has put there goes.
                Ok(token) => request.headers_mut().insert(&self.header, token),
                Err(error) => {
                    let error = component::error::chain(&error);
                    tracing::error!("no token for requests: {error}");
                    return answer::status(StatusCode::INTERNAL_SERVER_ERROR);
                }
            };
        }
        next.run(request).await
    }
}
