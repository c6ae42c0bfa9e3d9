//! Bearer tokens, of a provider that is found by its document.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use component::{
    Body, HttpMiddleware, Result, body,
    outgoing::{HttpClient, HttpClients, Tls},
};
use http::{Request, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::{ask, get, opened, server::Server};

/// Hands out the provider's documents.
#[derive(Clone)]
struct Documents(Value);

#[async_trait]
impl HttpClient for Documents {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        let url = request.uri().to_string();
        let mut response = Response::new(body::full(self.0.to_string()));
        if !url.ends_with("/.well-known/openid-configuration") {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        Ok(response)
    }
}

impl HttpClients for Documents {
    fn client(&self, _: &Tls) -> Result<Arc<dyn HttpClient>> {
        Ok(Arc::new(self.clone()))
    }
}

struct Provider {
    server: Server,
    key: EncodingKey,
}

impl Provider {
    fn start() -> Self {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "1", "x": x});
        let server = Server::start();
        server.put("/keys", json!({"keys": [jwk]}).to_string());
        Self {
            server,
            key: EncodingKey::from_ed_der(&pair.serialize_der()),
        }
    }

    fn token(&self, changes: Value) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.expect("a clock").as_secs();
        let mut claims = json!({"iss": "http://idp/", "aud": "app", "exp": now + 60, "nbf": now});
        for (name, value) in changes.as_object().into_iter().flatten() {
            let shifted = value.as_i64().map(|by| now.saturating_add_signed(by));
            claims[name] = shifted.map_or_else(|| value.clone(), |at| at.into());
        }
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("1".to_owned());
        encode(&header, &claims, &self.key).expect("a token")
    }

    async fn middleware(&self, issuer: &str) -> Result<Arc<dyn HttpMiddleware>> {
        let document = json!({"issuer": issuer, "jwks_uri": format!("{}/keys", self.server.url())});
        let fields = [("issuer", "http://idp/"), ("audience", "app")];
        opened("bearer", &fields, Arc::new(Documents(document))).await
    }
}

#[tokio::test]
async fn only_the_issuers_tokens_for_this_audience_pass() {
    let provider = Provider::start();
    let bearer = provider.middleware("http://idp/").await.unwrap();
    let status = async |authorization: String| {
        let request = get("/").header("authorization", authorization);
        ask(&bearer, request.body(body::empty()).unwrap())
            .await
            .status()
    };
    let good = provider.token(json!({}));
    assert_eq!(status(format!("bearer {good}")).await, 200);
    // Clocks may differ by five minutes.
    let late = provider.token(json!({"exp": -200}));
    assert_eq!(status(format!("Bearer {late}")).await, 200);
    for (name, token) in [
        ("expired", provider.token(json!({"exp": -400}))),
        ("not yet", provider.token(json!({"nbf": 400}))),
        (
            "another issuer",
            provider.token(json!({"iss": "http://idp"})),
        ),
        (
            "another audience",
            provider.token(json!({"aud": ["other"]})),
        ),
        ("another key", Provider::start().token(json!({}))),
        ("broken", format!("{good}x")),
        ("none", String::new()),
    ] {
        assert_eq!(status(format!("Bearer {token}")).await, 401, "{name}");
    }
    assert_eq!(status(format!("Basic {good}")).await, 401);
    let bare = ask(&bearer, get("/").body(body::empty()).unwrap()).await;
    assert_eq!(bare.status(), 401);
    assert_eq!(
        body::read(bare.into_body(), 99).await.unwrap(),
        "Unauthorized"
    );
}

#[tokio::test]
async fn a_provider_that_is_another_one_is_refused() {
    let provider = Provider::start();
    let error = provider.middleware("http://idp").await.err().unwrap();
    assert!(
        error.to_string().contains("its issuer is \"http://idp\""),
        "{error}"
    );
}

#[tokio::test]
async fn a_key_set_that_is_not_there_keeps_it_from_opening() {
    let provider = Provider::start();
    let keys = format!("{}/none", provider.server.url());
    let fields = [
        ("issuerURL", "i"),
        ("clientID", "a"),
        ("jwksURL", keys.as_str()),
    ];
    let nothing = Arc::new(Documents(Value::Null));
    let error = opened("bearer", &fields, nothing).await.err().unwrap();
    assert!(
        error.to_string().contains("no keys of the issuer"),
        "{error}"
    );
}
