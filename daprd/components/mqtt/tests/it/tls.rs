//! TLS: whose certificates are taken, and the component's own.

use std::net::Ipv4Addr;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names are fine");
        let name = rcgen::DnType::CommonName;
        params.distinguished_name.push(name, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A certificate for 127.0.0.1 and its key.
    fn issue(&self) -> (String, String) {
        let mut params = CertificateParams::new([]).expect("no names are fine");
        let address = SanType::IpAddress(Ipv4Addr::LOCALHOST.into());
        params.subject_alt_names.push(address);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// A server that asks clients for a certificate of the same authority.
async fn server(authority: &Authority) -> Server {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = authority.issue();
    let mut lines = "allow_anonymous true\nrequire_certificate true\n".to_owned();
    for (option, content) in [
        ("cafile", authority.0.pem()),
        ("certfile", certificate),
        ("keyfile", key),
    ] {
        let path = folder.path().join(option);
        std::fs::write(&path, content).expect("the folder is writable");
        lines += &format!("{option} {}\n", path.display());
    }
    Server::start_in(folder, &lines).await
}

#[tokio::test]
async fn both_sides_show_a_certificate() {
    let (authority, strange) = (Authority::new(), Authority::new());
    let server = server(&authority).await;
    let url = format!("ssl://{}", server.address);
    let own = authority.issue();
    let fields = |ca: &Authority, own: Option<&(String, String)>| {
        let mut fields = vec![
            ("url".to_owned(), url.clone()),
            ("caCert".to_owned(), ca.0.pem()),
        ];
        if let Some((certificate, key)) = own {
            fields.push(("clientCert".to_owned(), certificate.clone()));
            fields.push(("clientKey".to_owned(), key.clone()));
        }
        fields
    };
    let open = async |fields: Vec<(String, String)>| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (&**k, &**v)).collect();
        broker(&fields).await
    };
    let broker = open(fields(&authority, Some(&own))).await.unwrap();
    let mut deliveries = subscribe(&*broker, "t").await;
    publish(&*broker, "t", "m").await;
    assert_eq!(receive(&mut deliveries).await, "m");
    for refused in [
        fields(&strange, Some(&own)),
        fields(&authority, None),
        fields(&authority, Some(&strange.issue())),
    ] {
        let error = open(refused).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let unreadable = ("nonsense".to_owned(), own.1.clone());
    for (own, field) in [
        (unreadable, "clientCert"),
        ((own.0.clone(), "nonsense".to_owned()), "clientKey"),
        ((own.0.clone(), strange.issue().1), "clientKey"),
    ] {
        let error = open(fields(&authority, Some(&own))).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidMetadata, "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
}
