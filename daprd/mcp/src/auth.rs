//! How the sidecar shows a server who it is: headers, tokens of OAuth 2.0 client credentials, or its own JWT-SVID.

use std::sync::Arc;

use component::{
    Lent,
    outgoing::{
        HttpClient, Identity, is_unsent,
        oauth2::{ClientTokens, Style, TokenEndpoint},
        secret,
    },
};
use crds::mcp_server::{OAuth2, SpiffeJwt};
use http::{HeaderMap, HeaderName, Request, header};

use crate::Error;

/// What goes with each request, and what sends it.
pub struct Credentials {
    headers: HeaderMap,
    http: Arc<dyn HttpClient>,
    kind: Kind,
}

enum Kind {
    Plain,
    OAuth2(Box<ClientTokens>),
    Jwt {
        identity: Arc<dyn Identity>,
        header: HeaderName,
        prefix: String,
        audience: String,
    },
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
        let endpoint = TokenEndpoint::new(
            Arc::clone(&http),
            settings.issuer,
            settings.client_id.unwrap_or_default(),
            secret,
            Style::Unknown,
        );
        let audience = settings.audience.map(|it| ("audience".to_owned(), it));
        let client = ClientTokens::new(endpoint, &settings.scopes, audience);
        let kind = Kind::OAuth2(Box::new(client));
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
    /// [`Error::Closed`] where nobody is there, [`Error::BrokenOff`] where nobody answers, [`Error::Unusable`] where there is no token.
    pub async fn send(
        &self,
        mut request: Request<component::Body>,
    ) -> Result<http::Response<component::Body>, Error> {
        let headers = request.headers_mut();
        match &self.kind {
            Kind::Plain => {}
            Kind::OAuth2(client) => {
                let token = client.token().await;
                let token = token.map_err(|error| {
                    Error::unusable(format!("OAuth 2: {}", component::error::chain(&error)))
                })?;
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
                let value = secret(&format!("{prefix}{token}"));
                let value =
                    value.map_err(|_| Error::unusable("a token that fits into no header"))?;
                headers.insert(header.clone(), value);
            }
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        let answer = self.http.send(request).await;
        answer.map_err(|error| {
            let text = component::error::chain(&error);
            match is_unsent(&error) {
                true => Error::closed(text),
                false => Error::broken_off(text),
            }
        })
    }

    /// The server does not take what it was shown: the next request is sent with a new token.
    pub async fn refused(&self) {
        if let Kind::OAuth2(client) = &self.kind {
            client.forget().await;
        }
    }
}
