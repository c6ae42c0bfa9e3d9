//! OAuth 2 both ways: a browser that logs in, and a sidecar that gets a token for itself.

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Body, HttpMiddleware, Result, body,
    outgoing::{HttpClient, HttpClients, Tls},
};
use http::{HeaderMap, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::{ask, get, opened};

/// The token endpoint of an authorization server.
#[derive(Clone, Default)]
struct TokenEndpoint(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    asked: Vec<(HeaderMap, Vec<(String, String)>)>,
    /// It takes the client's secret in the form only.
    form_only: bool,
    answer: Value,
}

#[async_trait]
impl HttpClient for TokenEndpoint {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let form = body::read(body, 1 << 20).await.expect("a body");
        let form: Vec<_> = form_urlencoded::parse(&form).into_owned().collect();
        let mut state = self.0.lock();
        let refused = state.form_only && parts.headers.contains_key(header::AUTHORIZATION);
        state.asked.push((parts.headers, form));
        let mut response = Response::new(body::full(state.answer.to_string()));
        if refused || state.answer.get("error").is_some() {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        Ok(response)
    }
}

impl HttpClients for TokenEndpoint {
    fn client(&self, _: &Tls) -> Result<Arc<dyn HttpClient>> {
        Ok(Arc::new(self.clone()))
    }
}

impl TokenEndpoint {
    fn answering(answer: Value) -> Self {
        let endpoint = Self::default();
        endpoint.0.lock().answer = answer;
        endpoint
    }

    async fn open(&self, name: &str, more: &[(&str, &str)]) -> Result<Arc<dyn HttpMiddleware>> {
        let fields = [
            ("clientID", "me"),
            ("clientSecret", "s e"),
            ("tokenURL", "http://as/token"),
            ("scopes", "a,b"),
        ];
        let fields: Vec<_> = fields.iter().chain(more).copied().collect();
        opened(name, &fields, Arc::new(self.clone())).await
    }

    fn asked(&self) -> usize {
        self.0.lock().asked.len()
    }
}

fn field<'f>(form: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let mut fields = form.iter();
    let found = fields.find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str())
}

async fn send(
    middleware: &Arc<dyn HttpMiddleware>,
    path: &str,
    headers: &[(&str, &str)],
) -> Response<Body> {
    let mut request = get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    ask(middleware, request.body(body::empty()).expect("a request")).await
}

#[tokio::test]
async fn the_sidecar_gets_a_token_once_and_keeps_it() {
    let endpoint = TokenEndpoint::answering(json!({"access_token": "t", "expires_in": 3600}));
    let fields = [
        ("headerName", "authorization"),
        ("endpointParamsQuery", "audience=x&y=1"),
        ("pathFilter", "^/v1.0/invoke/"),
    ];
    let middleware = endpoint
        .open("oauth2clientcredentials", &fields)
        .await
        .unwrap();
    let own = send(
        &middleware,
        "/v1.0/invoke/a/method/b",
        &[("authorization", "mine")],
    )
    .await;
    let seen: Vec<_> = own.headers().get_all("x-seen").iter().collect();
    assert_eq!(seen, ["Bearer t"], "in place of the caller's own");
    send(&middleware, "/v1.0/invoke/a/method/b", &[]).await;
    assert_eq!(endpoint.asked(), 1);
    let (headers, form) = endpoint.0.lock().asked.pop().unwrap();
    assert_eq!(
        headers["authorization"], "Basic bWU6cytl",
        "as a form encodes them"
    );
    assert_eq!(field(&form, "grant_type"), Some("client_credentials"));
    assert_eq!(field(&form, "scope"), Some("a b"));
    assert_eq!(field(&form, "audience"), Some("x"));
    let other = send(&middleware, "/v1.0/state/s", &[]).await;
    assert!(other.headers().get("x-seen").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_way_to_prove_oneself_is_found_out() {
    let endpoint = TokenEndpoint::answering(json!({"access_token": "t", "expires_in": 1}));
    endpoint.0.lock().form_only = true;
    let fields = [("headerName", "x-token")];
    let middleware = endpoint
        .open("oauth2clientcredentials", &fields)
        .await
        .unwrap();
    send(&middleware, "/", &[]).await;
    assert_eq!(endpoint.asked(), 2, "both ways");
    send(&middleware, "/", &[]).await;
    assert_eq!(
        endpoint.asked(),
        2,
        "the token is good for a while, however short its life"
    );
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    send(&middleware, "/", &[]).await;
    assert_eq!(endpoint.asked(), 3, "the one that worked");
    let (_, form) = endpoint.0.lock().asked.pop().unwrap();
    assert_eq!(field(&form, "client_secret"), Some("s e"));
}

#[tokio::test]
async fn without_a_token_nothing_is_passed_on() {
    let endpoint = TokenEndpoint::answering(json!({"error": "invalid_client"}));
    let fields = [("headerName", "authorization"), ("authStyle", "1")];
    let middleware = endpoint
        .open("oauth2clientcredentials", &fields)
        .await
        .unwrap();
    let refused = send(&middleware, "/", &[]).await;
    assert_eq!(refused.status(), 500);
    assert_eq!(endpoint.asked(), 1);
    for wrong in [
        ("authStyle", "3"),
        ("pathFilter", "("),
        ("headerName", "a b"),
    ] {
        let fields = [("headerName", "authorization"), wrong];
        let error = endpoint
            .open("oauth2clientcredentials", &fields)
            .await
            .err()
            .unwrap();
        assert!(error.to_string().contains(wrong.0), "{error}");
    }
}

const LOGIN: [(&str, &str); 2] = [
    ("authURL", "http://as/login?theme=dark"),
    ("redirectURL", "http://me/back"),
];

/// Where a login begins: the cookie of the browser, and the parameters for the authorization server.
async fn begin(
    middleware: &Arc<dyn HttpMiddleware>,
    path: &str,
    headers: &[(&str, &str)],
) -> (String, Vec<(String, String)>) {
    let response = send(middleware, path, headers).await;
    assert_eq!(response.status(), 302);
    let location = response.headers()["location"].to_str().unwrap();
    let location = Url::parse(location).unwrap();
    assert_eq!(location.path(), "/login");
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    (cookie, location.query_pairs().into_owned().collect())
}

#[tokio::test]
async fn a_browser_logs_in_and_goes_where_it_wanted() {
    let endpoint = TokenEndpoint::answering(json!({"access_token": "t", "token_type": "bearer"}));
    let middleware = endpoint.open("oauth2", &LOGIN).await.unwrap();
    let (cookie, asked) = begin(&middleware, "/v1.0/invoke/a/method/b?x=1", &[]).await;
    for (name, value) in [
        ("theme", "dark"),
        ("response_type", "code"),
        ("client_id", "me"),
        ("redirect_uri", "http://me/back"),
        ("scope", "a b"),
        ("access_type", "offline"),
    ] {
        assert_eq!(field(&asked, name), Some(value), "{name}");
    }
    let state = field(&asked, "state").unwrap();
    let back = format!("/back?state={state}&code=c");
    let response = send(&middleware, &back, &[("cookie", &format!("a=b; {cookie}"))]).await;
    assert_eq!(response.status(), 302);
    assert_eq!(
        response.headers()["location"],
        "/v1.0/invoke/a/method/b?x=1"
    );
    let (_, form) = endpoint.0.lock().asked.pop().unwrap();
    assert_eq!(field(&form, "grant_type"), Some("authorization_code"));
    assert_eq!(field(&form, "code"), Some("c"));
    assert_eq!(field(&form, "redirect_uri"), Some("http://me/back"));
    let before = send(&middleware, "/x", &[("cookie", &cookie)]).await;
    assert_eq!(
        before.status(),
        302,
        "the cookie of the login logs nobody in"
    );
    let twice = send(&middleware, &back, &[("cookie", &cookie)]).await;
    assert_eq!(twice.status(), 400, "a login ends once");
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let through = send(
        &middleware,
        "/x",
        &[("cookie", &cookie), ("authorization", "mine")],
    )
    .await;
    let seen: Vec<_> = through.headers().get_all("x-seen").iter().collect();
    assert_eq!(seen, ["Bearer t"]);
    let again = send(&middleware, &back, &[]).await;
    assert_eq!(again.status(), 400, "the code is of no use to others");
}

#[tokio::test]
async fn who_comes_back_has_to_have_left() {
    let endpoint = TokenEndpoint::answering(json!({"access_token": "t"}));
    let middleware = endpoint.open("oauth2", &LOGIN).await.unwrap();
    let (cookie, asked) = begin(&middleware, "/a", &[]).await;
    let state = field(&asked, "state").unwrap().to_owned();
    for (path, cookie, text) in [
        (
            "/?state=other&code=c".to_owned(),
            cookie.as_str(),
            "invalid state",
        ),
        (
            format!("/?state={state}&code=c"),
            "dapr-oauth2=none",
            "invalid state",
        ),
        (
            format!("/?state={state}"),
            cookie.as_str(),
            "code not found",
        ),
    ] {
        let response = send(&middleware, &path, &[("cookie", cookie)]).await;
        assert_eq!(response.status(), 400);
        assert_eq!(body::read(response.into_body(), 99).await.unwrap(), text);
    }
    assert_eq!(endpoint.asked(), 0);
}

#[tokio::test]
async fn browsers_are_sent_nowhere_else() {
    let endpoint = TokenEndpoint::answering(json!({"access_token": "t"}));
    let https: Vec<_> = LOGIN.into_iter().chain([("forceHTTPS", "true")]).collect();
    for (fields, path, host, wanted) in [
        (&LOGIN[..], "//evil.example/x", "me", "/evil.example/x"),
        (&https[..], "/a?b=c", "me:8080", "https://me:8080/a?b=c"),
    ] {
        let middleware = endpoint.open("oauth2", fields).await.unwrap();
        let (cookie, asked) = begin(&middleware, path, &[("host", host)]).await;
        let back = format!("/?state={}&code=c", field(&asked, "state").unwrap());
        let response = send(&middleware, &back, &[("cookie", &cookie)]).await;
        assert_eq!(response.headers()["location"], wanted);
    }
}
