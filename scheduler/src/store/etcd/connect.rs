//! Endpoints of an etcd, and the channels to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::Uri;
use rustls::{ClientConfig, RootCertStore};
use tonic::transport::Channel;
use transport::{ChannelOptions, Connector};

/// Where an etcd is, and who asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// `host:port`, `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// None if there is no name.
    pub username: String,
    pub password: String,
}

/// A channel to each endpoint, which connects when it is first used.
pub(super) fn channels(options: &Options) -> anyhow::Result<Vec<Channel>> {
    ensure!(!options.endpoints.is_empty(), "an etcd has endpoints");
    let mut secure = None;
    let channels = options.endpoints.iter().map(|endpoint| {
        let uri = uri(endpoint)?;
        let connector = if uri.scheme_str() == Some("https") {
            let config = secure.get_or_insert_with(|| Arc::new(tls()));
            Connector::tls(config.clone())
        } else {
            Connector::plain()
        };
        let connector = connector.connect_timeout(CONNECT);
        let options = ChannelOptions {
            // Watches are as good as their connection: one that is dead has to be noticed.
            keep_alive_while_idle: false,
            ..ChannelOptions::default()
        };
        Ok(transport::channel(uri, connector, options))
    });
    channels.collect()
}

fn uri(endpoint: &str) -> anyhow::Result<Uri> {
    let endpoint = endpoint.trim();
    let text = if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("http://{endpoint}")
    };
    let uri: Uri = text
        .parse()
        .with_context(|| format!("{endpoint:?} is no endpoint of an etcd"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.port().is_none() {
        bail!(
            "{endpoint:?} is no endpoint of an etcd: expected host:port, http://host:port or https://host:port"
        );
    }
    Ok(uri)
}

/// What the system trusts, or the files that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn tls() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// Longest time until a connection is there.
const CONNECT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_port() {
        for (endpoint, read) in [
            ("h:1", "http://h:1/"),
            (" 127.0.0.1:2379", "http://127.0.0.1:2379/"),
            ("https://h:1", "https://h:1/"),
            ("http://[::1]:1", "http://[::1]:1/"),
        ] {
            assert_eq!(uri(endpoint).unwrap().to_string(), read);
        }
        for endpoint in ["", "h", "ftp://h:1", "unix:///x", "h:port"] {
            assert!(uri(endpoint).is_err(), "{endpoint:?}");
        }
    }
}
