//! What components are lent: the clock, HTTP clients, and the identity that sentry has signed.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use component::{
    Body, Error, ErrorKind, Lent, Result, body,
    outgoing::{HttpClient, HttpClients, Identity, Tls, Unsent, X509Svid},
};
use futures::TryStreamExt;
use http_body_util::BodyExt;
use security::Security;
use transport::Elsewhere;
use values::SystemClock;

/// For all components of a life.
pub fn lent(security: &Security) -> Lent {
    Lent {
        clock: Arc::new(SystemClock),
        http: Arc::new(Clients::default()),
        identity: Arc::new(Workload(security.clone())),
    }
}

/// Makes clients, and keeps the one that most components can share.
#[derive(Default)]
struct Clients {
    /// Made when it is first asked for: it reads the machine's certificates, which few sidecars need.
    plain: OnceLock<Client>,
}

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    elsewhere: Elsewhere,
}

impl HttpClients for Clients {
    fn client(&self, tls: &Tls) -> Result<Arc<dyn HttpClient>> {
        if tls.authorities.is_some() || tls.identity.is_some() || tls.insecure {
            return Ok(Arc::new(make(tls)?));
        }
        if let Some(plain) = self.plain.get() {
            return Ok(Arc::new(plain.clone()));
        }
        let made = make(tls)?;
        Ok(Arc::new(self.plain.get_or_init(|| made).clone()))
    }
}

fn make(tls: &Tls) -> Result<Client> {
    let unusable = |what: &str, error: reqwest::Error| {
        let text = format!("the {what} for outgoing calls cannot be used");
        Error::new(ErrorKind::InvalidMetadata, text).with_source(error)
    };
    // Redirects are followed by us.
    let mut builder = reqwest::Client::builder()
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(authorities) = &tls.authorities {
        let authorities = reqwest::Certificate::from_pem_bundle(authorities.as_bytes())
            .map_err(|error| unusable("authorities", error))?;
        builder = builder.tls_certs_only(authorities);
    }
    if let Some((certificate, key)) = &tls.identity {
        let pem = format!("{certificate}\n{key}");
        let identity = reqwest::Identity::from_pem(pem.as_bytes())
            .map_err(|error| unusable("certificate and key", error))?;
        builder = builder.identity(identity);
    }
    if tls.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    let http = builder.build().map_err(|error| unusable("TLS", error))?;
    let elsewhere = match tls.identity {
        Some(_) => Elsewhere::Never,
        None => Elsewhere::Bare,
    };
    Ok(Client { http, elsewhere })
}

#[async_trait]
impl HttpClient for Client {
    /// Q-redirects
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        let first = AtomicBool::new(true);
        let send = |request| {
            let first = first.swap(false, Ordering::Relaxed);
            once(self.http.clone(), request, first)
        };
        transport::follow(request, self.elsewhere, send).await
    }
}

/// Sends a request. Behind a redirect, where it is not the `first`, somebody has had the one before.
async fn once(
    http: reqwest::Client,
    request: http::Request<Body>,
    first: bool,
) -> Result<http::Response<Body>> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.to_string();
    let mut outgoing = http.request(parts.method, &target).headers(parts.headers);
    if !http_body::Body::is_end_stream(&body) {
        let stream = body.into_data_stream().map_err(std::io::Error::other);
        outgoing = outgoing.body(reqwest::Body::wrap_stream(stream));
    }
    let answer = outgoing.send().await.map_err(|error| {
        let unsent = first && transport::never_left(&error);
        // Credentials may stand in a URL, and what is said here goes into logs, answers and histories.
        let reason = transport::describe(&error.without_url());
        match unsent {
            true => Error::new(ErrorKind::Unavailable, "no answer").with_source(Unsent(reason)),
            false => Error::new(ErrorKind::Unavailable, format!("no answer: {reason}")),
        }
    })?;
    Ok(http::Response::from(answer).map(body::streamed))
}

/// What sentry has signed for this workload.
struct Workload(Security);

impl Identity for Workload {
    fn x509(&self) -> Result<X509Svid> {
        let svid = self.0.svid();
        let Some(svid) = svid.borrow().clone() else {
            return Err(none("certificate"));
        };
        let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
        Ok(X509Svid {
            id: svid.id().to_string(),
            chain: text(svid.chain_pem()),
            key: svid.key_pem(),
            authorities: text(self.0.anchors().borrow().pem()),
        })
    }

    fn jwt(&self, audience: &str) -> Result<String> {
        let token = self.0.jwt(Some(audience));
        token.ok_or_else(|| none(&format!("token for {audience:?}")))
    }
}

fn none(what: &str) -> Error {
    let text = format!("this sidecar has no {what} from sentry");
    Error::new(ErrorKind::Unavailable, text)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    fn clients() -> Clients {
        // What the chassis does for the program.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Clients::default()
    }

    #[tokio::test]
    async fn a_client_sends_what_it_is_given_and_streams_the_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/path?q=1", listener.local_addr().unwrap());
        let client = clients().client(&Tls::default()).unwrap();
        let request = http::Request::post(uri)
            .header("x-own", "1")
            .body(body::full("ping"));
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = String::new();
            while !seen.ends_with("0\r\n\r\n") && !seen.ends_with("ping") {
                let mut bytes = [0; 1024];
                let count = stream.read(&mut bytes).await.unwrap();
                seen += std::str::from_utf8(&bytes[..count]).unwrap();
            }
            let answer = b"HTTP/1.1 418 I am\r\ncontent-length: 4\r\n\r\npong";
            stream.write_all(answer).await.unwrap();
            seen
        };
        let (answer, seen) = tokio::join!(client.send(request.unwrap()), serve);
        assert!(seen.starts_with("POST /path?q=1 HTTP/1.1"), "{seen}");
        assert!(seen.contains("x-own: 1") && seen.contains("ping"), "{seen}");
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 418);
        assert_eq!(body::read(answer.into_body(), 10).await.unwrap(), "pong");
    }

    /// Answers one request with a head, and says what it was.
    async fn answer(listener: &TcpListener, head: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = String::new();
        while !seen.contains("\r\n\r\n") {
            let mut bytes = [0; 1024];
            let count = stream.read(&mut bytes).await.unwrap();
            seen += std::str::from_utf8(&bytes[..count]).unwrap();
        }
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        seen
    }

    #[tokio::test]
    async fn a_redirect_to_another_server_takes_no_header_along() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place =
            |of: &TcpListener, path: &str| format!("http://{}{path}", of.local_addr().unwrap());
        let client = clients().client(&Tls::default()).unwrap();
        let request = http::Request::get(place(&first, "/a?key=k")).header("x-token", "t");
        let serve = async {
            let one = answer(&first, "302 Found\r\nlocation: /b").await;
            let elsewhere = format!("302 Found\r\nlocation: {}", place(&second, "/c"));
            let two = answer(&first, &elsewhere).await;
            [one, two, answer(&second, "204 No Content").await]
        };
        let sent = client.send(request.body(body::empty()).unwrap());
        let (answer, [one, two, three]) = tokio::join!(sent, serve);
        assert_eq!(answer.unwrap().status(), 204);
        assert!(
            one.contains("x-token: t") && two.contains("x-token: t"),
            "{two}"
        );
        assert!(
            two.starts_with("GET /b ") && three.starts_with("GET /c "),
            "{three}"
        );
        for kept in ["x-token", "key=k", "referer"] {
            assert!(!three.contains(kept), "{three}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_told_and_so_is_who_does_not_answer() {
        let clients = clients();
        let wrong = Tls {
            identity: Some(("no certificate".to_owned(), "no key".to_owned())),
            ..Tls::default()
        };
        let error = clients.client(&wrong).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidMetadata);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let request = http::Request::get(uri).body(body::empty()).unwrap();
        let error = clients.client(&Tls::default()).unwrap().send(request).await;
        let error = error.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(component::outgoing::is_unsent(&error), "{error:?}");
    }

    #[tokio::test]
    async fn a_line_that_breaks_may_have_brought_the_request() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let client = clients().client(&Tls::default()).unwrap();
        let request = http::Request::post(uri).body(body::full("ping")).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = String::new();
            while !seen.contains("ping") {
                let mut bytes = [0; 1024];
                let count = stream.read(&mut bytes).await.unwrap();
                seen += std::str::from_utf8(&bytes[..count]).unwrap();
            }
        };
        let (answer, ()) = tokio::join!(client.send(request), serve);
        let error = answer.err().unwrap();
        assert!(!component::outgoing::is_unsent(&error), "{error:?}");
    }
}
