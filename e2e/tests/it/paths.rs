//! The path that an access list judges is the path that the app gets: over spellings of every kind, no call comes to what the
//! list denies, whichever way the app's framework reads paths. The frameworks are real ones, which report what they route by.

use std::time::Duration;

use e2e::sdk::{Language, Scenario};
use e2e::{App, Daprd, Sentry, wait};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Paths that are tried with each framework, beside those that are written down.
const TRIED: usize = 400;

/// What paths are made of.
const PIECES: &[&str] = &[
    "secret",
    "Secret",
    "%73ecret",
    "%2573ecret",
    "secre%74",
    "public",
    "a",
    "..",
    "%2e%2e",
    ".%2E",
    ".",
    "%2e",
    "%2F",
    "%252F",
    "%2f..%2f",
    "%5C",
    "\\",
    "%25",
    "%23",
    "%3F",
    "#",
    "%00",
    "%0d%0a",
    "%20",
    "+",
    ";x=1",
    "%C3%A9",
    "%ff",
    "%u0073",
    "%",
    "%7",
    "//",
    "",
    ":",
    "@",
    "*",
];

/// Spellings of what is denied that have all been a way around somewhere.
const KNOWN: &[&str] = &[
    "secret",
    "secret/",
    "/secret",
    "//secret",
    "./secret",
    "public/../secret",
    "public/%2e%2e/secret",
    "public/..%2fsecret",
    "public%2f..%2fsecret",
    "public%2F%2E%2E%2Fsecret",
    "public/..%252fsecret",
    "%73ecret",
    "%2573ecret",
    "SECRET",
    "secret%2Fbelow",
    "secret;x=1",
    "secret%00",
    "secret%23",
    "secret%3Fx",
    "secret?x=1",
    "public/..;/secret",
    "public\\..\\secret",
    "public%5C..%5Csecret",
];

fn policy(feature: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {{name: config}}
spec:
  features:
  - name: InvokeEscapedPaths
    enabled: {feature}
  accessControl:
    defaultAction: allow
    trustDomain: public
    policies:
    - appId: caller
      defaultAction: allow
      trustDomain: public
      namespace: default
      operations:
      - name: /secret
        httpVerb: ['*']
        action: deny
"
    )
}

/// A path of some pieces, the same for each run with the same seed.
fn path(random: &mut fastrand::Rng) -> String {
    let mut path = String::new();
    for _ in 0..random.usize(1..6) {
        if random.bool() {
            path.push('/');
        }
        path.push_str(random.choice(PIECES).expect("there are some"));
    }
    path
}

/// One request with a target that no client would send, and what comes back: the status, and the body.
async fn get(port: u16, target: &str) -> (u16, String) {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("connected");
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = Vec::new();
        // One that the server refuses may be reset once it is answered.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = wait::within("an answer", Duration::from_secs(20), exchange).await;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").unwrap_or_default().1;
    (status.unwrap_or(0), body.to_owned())
}

/// What the app routed by, if the call came to it.
fn routed(body: &str) -> Vec<String> {
    // Chunks have their lengths around them.
    let json = body
        .find('{')
        .zip(body.rfind('}'))
        .map(|(from, to)| &body[from..=to]);
    let json: Option<Value> = json.and_then(|json| serde_json::from_str(json).ok());
    let routed = json.as_ref().and_then(|json| json["routed"].as_array());
    let texts = routed.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Whether an app that routes by this path serves what is denied. Frameworks route without regard to doubled slashes or
/// parameters of a segment only where they are told to, and none of these is.
fn is_secret(routed: &str) -> bool {
    let path = routed.to_lowercase();
    path == "/secret" || path.starts_with("/secret/")
}

async fn no_way_around(language: Language, file: &str) {
    let _alone = wait::alone().await;
    let sentry = Sentry::start().await;
    for feature in ["false", "true"] {
        let port = App::reserve_port();
        let _app = Scenario::run(language, file, &[port.to_string()], &[]);
        let callee = Daprd::builder("callee")
            .config(&policy(feature))
            .sentry(&sentry)
            .app_port(port)
            .start()
            .await;
        let caller = Daprd::builder("caller")
            .config(&policy(feature))
            .sentry(&sentry)
            .start()
            .await;
        let method = |path: &str| format!("/v1.0/invoke/callee/method/{path}");
        let http = caller.http_port();
        wait::eventually("the app", Duration::from_secs(60), async || {
            let (status, body) = get(http, &method("public/a%20b")).await;
            status == 200 && routed(&body).contains(&"/public/a b".to_owned())
        })
        .await;
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let tried = (0..TRIED).map(|_| path(&mut random));
        let mut through = 0;
        for path in KNOWN.iter().map(|path| (*path).to_owned()).chain(tried) {
            let (status, body) = get(http, &method(&path)).await;
            assert_ne!(status, 0, "{path:?} is not answered; seed {seed}");
            let routed = routed(&body);
            through += usize::from(!routed.is_empty());
            assert!(
                !routed.iter().any(|routed| is_secret(routed)),
                "{path:?} came to {routed:?}, escapes kept: {feature}; seed {seed}"
            );
        }
        assert!(
            through > TRIED / 10,
            "{through} calls came to the app at all"
        );
        if feature == "true" {
            // What is one segment stays one.
            let (_, body) = get(http, &method("one%2Ftwo/%23%3F%25")).await;
            let routed = routed(&body);
            assert!(
                routed
                    .iter()
                    .any(|it| it == "/one/two/#?%" || it == "/one%2Ftwo/%23%3F%25"),
                "{routed:?}"
            );
        }
        caller.stop().await;
        callee.stop().await;
    }
    sentry.stop().await;
}

#[tokio::test]
async fn express() {
    no_way_around(Language::JavaScript, "paths.js").await;
}

#[tokio::test]
async fn fastapi() {
    no_way_around(Language::Python, "paths.py").await;
}

#[tokio::test]
async fn net_http() {
    no_way_around(Language::Go, "paths").await;
}
