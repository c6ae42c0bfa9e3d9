//! Key sets from URLs with a private CA, and from files that change.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::Full;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokens::{Check, Error, Jwks, Options};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use transport::{Listener, RequestBody, ServerOptions};

const DEADLINE: Duration = Duration::from_secs(20);

#[allow(clippy::disallowed_methods, reason = "the handle owns the task")]
fn spawn<F>(future: F) -> AbortOnDropHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    AbortOnDropHandle::new(tokio::spawn(future))
}

/// A key set of one key, and a token signed by it.
fn pair(id: &str) -> (Value, String) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let key = EncodingKey::from_ed_der(&pair.serialize_der());
    let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pair.public_key_raw());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": id, "x": x});
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(id.to_owned());
    (
        json!({"keys": [jwk]}),
        encode(&header, &json!({"sub": id}), &key).unwrap(),
    )
}

#[tokio::test]
async fn keys_are_fetched_with_a_private_ca_and_again_for_an_unknown_key() {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth();
    let tls = tls
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let (first, token) = pair("one");
    let (second, other) = pair("two");
    let body = Arc::new(Mutex::new(first));
    let served = body.clone();
    let service = tower::service_fn(move |_: http::Request<RequestBody>| {
        let text = served.lock().unwrap().to_string();
        async move { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(text)))) }
    });
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!(
        "https://localhost:{}/jwks.json",
        listener.local_addr().unwrap().port()
    );
    let options = ServerOptions {
        tls: Some(Arc::new(tls)),
        ..ServerOptions::default()
    };
    let _server = spawn(transport::serve(
        listener,
        options,
        service,
        CancellationToken::new(),
    ));

    let without_ca = Jwks::new(Options::new(url.clone()))
        .unwrap()
        .1
        .run(CancellationToken::new());
    assert!(matches!(
        timeout(DEADLINE, without_ca).await.unwrap(),
        Err(Error::Fetch { .. })
    ));

    let options = Options {
        ca_certificate: Some(signed.cert.pem()),
        min_refresh_interval: Duration::from_millis(1),
        ..Options::new(url)
    };
    let (jwks, runner) = Jwks::new(Options {
        min_refresh_interval: DEADLINE,
        ..options.clone()
    })
    .unwrap();
    let _runner = spawn(runner.run(CancellationToken::new()));
    timeout(DEADLINE, jwks.ready()).await.unwrap();
    let (eager, runner) = Jwks::new(options).unwrap();
    let _eager = spawn(runner.run(CancellationToken::new()));
    timeout(DEADLINE, eager.ready()).await.unwrap();

    let (check, now) = (Check::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(
        jwks.verify(&token, &check, now).await.unwrap().text("sub"),
        Some("one")
    );
    *body.lock().unwrap() = second;
    let patient = async { while eager.verify(&other, &check, now).await.is_err() {} };
    timeout(DEADLINE, patient).await.unwrap();
    let too_soon = timeout(DEADLINE, jwks.verify(&other, &check, now))
        .await
        .unwrap();
    assert!(matches!(too_soon, Err(Error::UnknownKey)));
}

#[tokio::test]
async fn files_are_followed_and_inline_sets_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let ((first, token), (second, other)) = (pair("one"), pair("another"));
    std::fs::write(&file, first.to_string()).unwrap();
    let (jwks, runner) = Jwks::new(Options::new(file.to_str().unwrap())).unwrap();
    let _runner = spawn(runner.run(CancellationToken::new()));
    let (check, now) = (Check::default(), Timestamp::UNIX_EPOCH);
    assert!(matches!(
        jwks.verify(&token, &check, now).await,
        Err(Error::NotReady)
    ));
    timeout(DEADLINE, jwks.ready()).await.unwrap();
    assert!(jwks.verify(&token, &check, now).await.is_ok());
    std::fs::write(&file, second.to_string()).unwrap();
    let patient = async {
        while jwks.verify(&other, &check, now).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, patient).await.unwrap();

    let encoded = base64::engine::general_purpose::STANDARD.encode(first.to_string());
    for inline in [first.to_string(), encoded] {
        let (jwks, runner) = Jwks::new(Options::new(inline)).unwrap();
        let _runner = spawn(runner.run(CancellationToken::new()));
        timeout(DEADLINE, jwks.ready()).await.unwrap();
        assert!(jwks.verify(&token, &check, now).await.is_ok());
    }
    assert!(matches!(
        Jwks::new(Options::new("/no/such/file")),
        Err(Error::Location)
    ));
    assert!(matches!(Jwks::new(Options::new("")), Err(Error::Location)));
    assert!(matches!(
        Jwks::new(Options::new("{\"keys\": 1}")),
        Err(Error::KeySet { .. })
    ));
}
