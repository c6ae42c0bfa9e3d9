//! The OIDC documents over HTTP, so that third parties can check the tokens (contract 6.6).

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use transport::{Listener, RequestBody, ServerOptions};

use crate::keeper::Keeper;
use crate::settings::Oidc;

/// The server, not yet listening.
#[derive(Clone)]
pub struct Server(Arc<Documents>);

struct Documents {
    keeper: Arc<Keeper>,
    settings: Oidc,
    jwks_path: String,
    discovery_path: String,
}

/// Pause between two looks for certificate files that are not there yet.
const FILES_PAUSE: Duration = Duration::from_secs(5);
const FORWARDED_HOST: &str = "x-forwarded-host";

impl Server {
    pub fn new(keeper: Arc<Keeper>, settings: Oidc) -> Self {
        let prefix = settings
            .path_prefix
            .as_deref()
            .unwrap_or_default()
            .trim_matches('/');
        let prefix = if prefix.is_empty() {
            String::new()
        } else {
            format!("/{prefix}")
        };
        Self(Arc::new(Documents {
            keeper,
            jwks_path: format!("{prefix}/jwks.json"),
            discovery_path: format!("{prefix}/.well-known/openid-configuration"),
            settings,
        }))
    }

    /// Waits for its certificate files if need be, then serves until shutdown.
    pub async fn run(
        self,
        certificate: Option<Arc<ServerCertificate>>,
        ready: daemon::Target,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        if let Some(certificate) = &certificate {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                loaded = certificate.wait() => loaded?,
            }
        }
        let settings = &self.0.settings;
        let listener = Listener::listen(&settings.host, settings.port)
            .await
            .with_context(|| format!("OIDC server on {}:{}", settings.host, settings.port))?;
        ready.ready();
        let options = ServerOptions {
            tls: certificate.map(|certificate| certificate.config()),
            ..ServerOptions::default()
        };
        let documents = self.0.clone();
        let service = tower::service_fn(move |request: Request<RequestBody>| {
            let answer = documents.answer(request.method(), request.uri(), request.headers());
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        transport::serve(listener, options, service, shutdown).await;
        Ok(())
    }
}

impl Documents {
    fn answer(
        &self,
        method: &Method,
        uri: &http::Uri,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        let path = uri.path();
        if path != self.jwks_path && path != self.discovery_path {
            return text(StatusCode::NOT_FOUND, "not found");
        }
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .filter(|v| !v.is_empty())
        };
        let host = uri
            .authority()
            .map(http::uri::Authority::as_str)
            .or_else(|| header("host"))
            .unwrap_or_default();
        let forwarded = header(FORWARDED_HOST);
        if !self.allowed(forwarded.unwrap_or(host)) {
            tracing::warn!("OIDC request for a host that is not allowed");
            return text(StatusCode::FORBIDDEN, "this host is not served here");
        }
        if method != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here");
        }
        let current = self.keeper.current();
        let Some(jwt) = &current.jwt else {
            return text(StatusCode::NOT_FOUND, "no tokens are issued here");
        };
        if path == self.jwks_path {
            return document(jwt.jwks().to_vec());
        }
        // A forwarded host is believed only once it has matched a concrete entry: anything else would let a caller
        // plant an issuer of his own into a document that is cached for an hour.
        let concrete = !self.settings.allowed_hosts.is_empty() && !self.any_host();
        let host = forwarded.filter(|_| concrete).unwrap_or(host);
        match self.discovery(host, jwt.algorithm()) {
            Some(body) => document(body),
            None => text(StatusCode::BAD_REQUEST, "the host is not valid"),
        }
    }

    fn any_host(&self) -> bool {
        self.settings
            .allowed_hosts
            .iter()
            .any(|allowed| allowed == "*")
    }

    fn allowed(&self, host: &str) -> bool {
        let allowed = &self.settings.allowed_hosts;
        let without_port = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                name.trim_matches(['[', ']'])
            }
            _ => host,
        };
        allowed.is_empty()
            || self.any_host()
            || allowed
                .iter()
                .any(|entry| entry == host || entry == without_port)
    }

    fn discovery(&self, host: &str, algorithm: jsonwebtoken::Algorithm) -> Option<Vec<u8>> {
        let scheme = if self.settings.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let issuer = match &self.settings.issuer {
            Some(issuer) => issuer.clone(),
            None => {
                let authority: http::uri::Authority = host.parse().ok()?;
                format!("{scheme}://{authority}")
            }
        };
        let jwks_uri = match &self.settings.jwks_uri {
            Some(uri) => uri.clone(),
            None => {
                let base: http::Uri = issuer.parse().ok()?;
                let authority = base.authority().map_or(host, http::uri::Authority::as_str);
                format!(
                    "{}://{authority}{}",
                    base.scheme_str().unwrap_or(scheme),
                    self.jwks_path
                )
            }
        };
        let mut body = json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [algorithm],
            "scopes_supported": ["openid"],
            "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nbf", "use"],
        })
        .to_string()
        .into_bytes();
        body.push(b'\n');
        Some(body)
    }
}

fn document(body: Vec<u8>) -> Response<Full<Bytes>> {
    Response::builder()
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CACHE_CONTROL, "public, max-age=3600")
        .body(Full::new(body.into()))
        .expect("fixed headers")
}

fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .header("x-content-type-options", "nosniff")
        .body(Full::new(format!("{text}\n").into()))
        .expect("fixed headers")
}

/// The server's certificate from two files; new files are used for the next connection.
pub struct ServerCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<Option<Arc<CertifiedKey>>>,
}

impl ServerCertificate {
    pub fn new((certificate, key): (PathBuf, PathBuf)) -> Self {
        Self {
            certificate,
            key,
            current: ArcSwap::from_pointee(None),
        }
    }

    /// Reads the files.
    pub fn reload(&self) -> anyhow::Result<()> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&self.certificate)
            .with_context(|| self.certificate.display().to_string())?
            .collect();
        let chain = chain.with_context(|| self.certificate.display().to_string())?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| self.key.display().to_string())?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified =
            CertifiedKey::from_der(chain, key, &provider).context("OIDC certificate and key")?;
        self.current.store(Arc::new(Some(Arc::new(certified))));
        Ok(())
    }

    async fn wait(&self) -> anyhow::Result<()> {
        while !self.certificate.exists() || !self.key.exists() {
            tracing::warn!(
                "the OIDC server waits for its files {} and {}",
                self.certificate.display(),
                self.key.display()
            );
            sleep(FILES_PAUSE).await;
        }
        self.reload()
    }

    fn config(self: Arc<Self>) -> Arc<rustls::ServerConfig> {
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl std::fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServerCertificate({})", self.certificate.display())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().clone()
    }
}

#[cfg(test)]
mod tests;
