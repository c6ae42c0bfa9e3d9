//! `middleware.http.oauth2clientcredentials`: puts a token on requests, which the sidecar gets for itself (RFC 6749
//! section 4.4).

use async_trait::async_trait;
use component::{
    Body, Component, Error, HttpMiddleware, Open, Result,
    middleware::{Next, answer},
    outgoing::{
        Tls,
        oauth2::{self, Style, TokenEndpoint},
    },
};
use http::{HeaderName, Request, Response, StatusCode};
use url::form_urlencoded;

use crate::paths::Filter;

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
    tokens: oauth2::ClientTokens,
    header: HeaderName,
    filter: Filter,
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
        let endpoint = TokenEndpoint::new(
            open.lent.http.client(&Tls::default())?,
            settings.token_url,
            settings.client_id,
            settings.client_secret,
            style,
        );
        let more = settings.parameters.unwrap_or_default();
        let more = form_urlencoded::parse(more.as_bytes()).into_owned();
        Ok(Self {
            tokens: oauth2::ClientTokens::new(endpoint, &settings.scopes, more),
            header,
            filter: Filter::open(settings.filter.as_deref())?,
        })
    }
}

impl Component for ClientCredentials {}

#[async_trait]
impl HttpMiddleware for ClientCredentials {
    async fn call(&self, mut request: Request<Body>, next: Next<'_>) -> Response<Body> {
        if self.filter.covers(request.uri().path()) {
            match self.tokens.token().await {
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
