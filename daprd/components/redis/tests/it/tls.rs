//! TLS: whose certificates are taken, and the component's own.

use component::ErrorKind;
use rcgen::SanType;

use crate::usage::{conform, works, works_over_tls};
use crate::{authority::Authority, broker, refused, server::Server, store};

/// Servers that do not ask clients for a certificate.
const ANYBODY: &[&str] = &["--tls-auth-clients", "no"];

const TLS: (&str, &str) = ("enableTLS", "true");
const INSECURE: (&str, &str) = ("insecureSkipTLSVerify", "true");
const NO_RETRIES: (&str, &str) = ("redisMaxRetries", "-1");

#[tokio::test]
async fn state_and_pubsub_conform() {
    let Some(authority) = Authority::trusted("tls::state_and_pubsub_conform").await else {
        return;
    };
    let server = Server::start_tls(&authority.issue(), ANYBODY).await;
    let fields = [("redisHost", server.address.as_str()), TLS];
    conform(&*store(&fields).await.unwrap(), &fields).await;
}

#[tokio::test]
async fn a_certificate_is_for_one_server() {
    let Some(authority) = Authority::trusted("tls::a_certificate_is_for_one_server").await else {
        return;
    };
    let name = SanType::DnsName("elsewhere.example".try_into().unwrap());
    let other = Server::start_tls(&authority.issue_for(name), ANYBODY).await;
    let fields = [("redisHost", other.address.as_str()), TLS, NO_RETRIES];
    let text = refused(store(&fields).await, ErrorKind::Unavailable, &other.address);
    assert!(text.contains("elsewhere.example"), "{text}");
}

#[tokio::test]
async fn a_strange_authority_is_refused_unless_anybody_is_taken() {
    let server = Server::start_tls(&Authority::new().issue(), ANYBODY).await;
    let host = ("redisHost", server.address.as_str());
    for kind in [&[][..], &[("redisType", "cluster")]] {
        let fields = [&[host, TLS, NO_RETRIES], kind].concat();
        for opened in [
            store(&fields).await.map(drop),
            broker(&fields).await.map(drop),
        ] {
            let text = refused(opened, ErrorKind::Unavailable, &server.address);
            assert!(text.contains("UnknownIssuer"), "{text}");
        }
    }
    works(&[host, TLS, INSECURE]).await;
    let plain = store(&[host, NO_RETRIES]).await;
    refused(plain, ErrorKind::Unavailable, &server.address);
}

#[tokio::test]
async fn servers_are_shown_a_certificate() {
    let Some(authority) = Authority::trusted("tls::servers_are_shown_a_certificate").await else {
        return;
    };
    let server = Server::start_tls(&authority.issue(), &[]).await;
    let (ours, strange) = (authority.issue(), Authority::new().issue());
    let host = ("redisHost", server.address.as_str());
    let ours = [("clientCert", &*ours.certificate), ("clientKey", &ours.key)];
    works_over_tls(&[&[host, TLS][..], &ours].concat()).await;
    let strange = [
        ("clientCert", &*strange.certificate),
        ("clientKey", &strange.key),
    ];
    for identity in [&[][..], &strange] {
        let fields = [&[host, TLS, NO_RETRIES], identity].concat();
        let opened = store(&fields).await;
        refused(opened, ErrorKind::Unavailable, &server.address);
    }
}

#[tokio::test]
async fn an_unreadable_certificate_is_named() {
    let identity = Authority::new().issue();
    let (certificate, key) = (&*identity.certificate, &*identity.key);
    let other = Authority::new().issue();
    for (certificate, key, field) in [
        ("nonsense", key, "clientCert"),
        (certificate, "nonsense", "clientKey"),
        (certificate, &other.key, "clientKey"),
    ] {
        for kind in ["node", "cluster"] {
            let fields = [
                ("redisHost", "127.0.0.1:1"),
                ("redisType", kind),
                TLS,
                ("clientCert", certificate),
                ("clientKey", key),
            ];
            let error = store(&fields).await.err().unwrap();
            let text = component::error::chain(&error);
            assert_eq!(error.kind(), ErrorKind::InvalidMetadata, "{text}");
            assert!(error.to_string().contains(field), "{text}");
        }
    }
}
