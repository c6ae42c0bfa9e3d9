//! `middleware.http.oauth2`: sends browsers to an authorization server to log in, and puts the token that comes of it on
//! their requests (RFC 6749 section 4.1).

mod sessions;

use std::time::Duration;

use async_trait::async_trait;
use component::{
    Body, Component, Error, HttpMiddleware, Open, Result,
    middleware::{Next, answer},
    outgoing::{
        Tls,
        oauth2::{Style, TokenEndpoint},
    },
};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use crate::paths::Filter;
use sessions::{Login, Sessions};

component::metadata! {
    /// What the middleware is opened with.
    pub struct Settings {
        /// The id of the client.
        client_id: String => "clientID";
        /// Its secret.
        client_secret: String => "clientSecret", secret;
        /// The scopes to ask for, separated by commas.
        scopes: Vec<String> => "scopes", default(Vec::new());
        /// Where users log in.
        auth_url: String => "authURL";
        /// Where tokens come from.
        token_url: String => "tokenURL";
        /// Where the authorization server sends users back to.
        redirect_url: Option<String> => "redirectURL";
        /// The header that the token goes into.
        header: String => "authHeaderName", default("Authorization".to_owned());
        /// Users come back by HTTPS, and the cookie goes nowhere else.
        force_https: Option<String> => "forceHTTPS";
        /// The paths that need a login; without it, all.
        filter: Option<String> => "pathFilter";
    }
}

/// The cookie by which a browser is known again.
const COOKIE: &str = "dapr-oauth2";

/// A login has to be done in this time.
const LOGIN: Duration = Duration::from_secs(600);

/// Has users log in.
pub struct OAuth2 {
    endpoint: TokenEndpoint,
    /// The authorization server's address, with all that does not change.
    auth_url: Url,
    redirect_url: Option<String>,
    header: HeaderName,
    force_https: bool,
    filter: Filter,
    sessions: Sessions,
}

impl OAuth2 {
    /// Reads the metadata.
    ///
    /// # Errors
    /// Names the field.
    pub fn open(open: &Open) -> Result<Self> {
        let settings = Settings::read(&open.metadata)?;
        let header = HeaderName::try_from(&settings.header);
        let header = header.map_err(|error| Error::invalid_metadata("authHeaderName", error))?;
        let auth_url = Url::parse(&settings.auth_url);
        let mut auth_url = auth_url.map_err(|error| Error::invalid_metadata("authURL", error))?;
        let mut query = auth_url.query_pairs_mut();
        query.append_pair("response_type", "code");
        query.append_pair("access_type", "offline");
        query.append_pair("client_id", &settings.client_id);
        if let Some(back) = &settings.redirect_url {
            query.append_pair("redirect_uri", back);
        }
        if !settings.scopes.is_empty() {
            query.append_pair("scope", &settings.scopes.join(" "));
        }
        drop(query);
        Ok(Self {
            endpoint: TokenEndpoint::new(
                open.lent.http.client(&Tls::default())?,
                settings.token_url,
                settings.client_id,
                settings.client_secret,
                Style::Unknown,
            ),
            auth_url,
            redirect_url: settings.redirect_url,
            header,
            force_https: settings
                .force_https
                .as_deref()
                .is_some_and(values::is_truthy),
            filter: Filter::open(settings.filter.as_deref())?,
            sessions: Sessions::default(),
        })
    }

    /// Sends a browser to log in, and remembers where it wanted to go.
    fn begin(&self, request: &Request<Body>) -> Response<Body> {
        let state = uuid::Uuid::new_v4().simple().to_string();
        let session = uuid::Uuid::new_v4().simple().to_string();
        let login = Login {
            state: state.clone(),
            wanted: self.wanted(request),
            until: Instant::now() + LOGIN,
        };
        self.sessions.begin(session.clone(), login);
        let mut url = self.auth_url.clone();
        url.query_pairs_mut().append_pair("state", &state);
        self.known_by(&session, answer::redirect(url.as_str()))
    }

    /// An answer by which the browser gets a session.
    fn known_by(&self, session: &str, mut response: Response<Body>) -> Response<Body> {
        let secure = if self.force_https { "; Secure" } else { "" };
        let cookie = format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Lax{secure}");
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Where the browser goes after the login: to what it asked for. Q-oauth2-https
    fn wanted(&self, request: &Request<Body>) -> String {
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        // A path that begins with two slashes would name another host.
        let path = format!("/{}", path.trim_start_matches(['/', '\\']));
        let host = request.headers().get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok());
        let host = host.or_else(|| request.uri().authority().map(|it| it.as_str()));
        match host.filter(|_| self.force_https) {
            Some(host) => format!("https://{host}{path}"),
            None => path,
        }
    }

    /// The browser comes back with a code, for which there is a token.
    async fn finish(
        &self,
        session: Option<&str>,
        state: &str,
        code: Option<&str>,
    ) -> Response<Body> {
        let login = session.and_then(|session| self.sessions.login(session, Instant::now()));
        let (Some(login), Some(session)) = (login, session) else {
            return answer::text(StatusCode::BAD_REQUEST, "invalid state");
        };
        if login.state != state {
            return answer::text(StatusCode::BAD_REQUEST, "invalid state");
        }
        let Some(code) = code else {
            return answer::text(StatusCode::BAD_REQUEST, "code not found");
        };
        let mut grant = vec![("grant_type", "authorization_code"), ("code", code)];
        if let Some(back) = &self.redirect_url {
            grant.push(("redirect_uri", back));
        }
        match self.endpoint.ask(&grant).await {
            Ok(token) => {
                // Another one: whoever has planted the cookie of the login would have the user's session otherwise.
                let user = uuid::Uuid::new_v4().simple().to_string();
                self.sessions.finish(session, user.clone(), token);
                self.known_by(&user, answer::redirect(&login.wanted))
            }
            Err(error) => {
                let error = component::error::chain(&error);
                tracing::error!("no token for a user who has logged in: {error}");
                answer::status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// The session that a browser names.
fn session(request: &Request<Body>) -> Option<&str> {
    let cookies = request.headers().get_all(header::COOKIE).iter();
    let cookies = cookies.filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

fn parameter(request: &Request<Body>, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs
        .find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        .filter(|value| !value.is_empty())
}

impl Component for OAuth2 {}

#[async_trait]
impl HttpMiddleware for OAuth2 {
    async fn call(&self, mut request: Request<Body>, next: Next<'_>) -> Response<Body> {
        if !self.filter.covers(request.uri().path()) {
            return next.run(request).await;
        }
        let token = session(&request).and_then(|it| self.sessions.token(it, Instant::now()));
        if let Some(token) = token {
            // Q-oauth2-header: what the caller has put there goes.
            request.headers_mut().insert(&self.header, token);
            return next.run(request).await;
        }
        let Some(state) = parameter(&request, "state") else {
            return self.begin(&request);
        };
        let code = parameter(&request, "code");
        let session = session(&request).map(str::to_owned);
        self.finish(session.as_deref(), &state, code.as_deref())
            .await
    }
}
