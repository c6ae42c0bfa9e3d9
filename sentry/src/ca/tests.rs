//! Tests of the authority: what it signs, and which credentials it refuses.

use rcgen::{BasicConstraints, CertifiedIssuer, IsCa};
use security::{CertificateSource, KeyKind, Security, Signed, SourceError};
use x509_parser::extensions::GeneralName;

use super::images::{Image, Role};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const SKEW: Duration = Duration::from_secs(900);

fn sentry() -> SpiffeId {
    SpiffeId::new("cluster.local", "dapr-system", "dapr-sentry").unwrap()
}

fn generate(sentry: &SpiffeId, skew: Duration) -> Result<Material, Error> {
    let now = SystemTime::now();
    let dates = generate::Dates {
        begin: now - skew,
        root_end: now + generate::YEAR,
        issuer_end: now + generate::YEAR,
    };
    Ok(generate::generate(sentry, dates)?.material)
}

fn terms(ttl: Duration, skew: Duration) -> Terms {
    Terms {
        ttl,
        skew,
        clock: Arc::new(values::SystemClock),
    }
}

fn subject() -> Subject {
    Subject {
        id: SpiffeId::new("public", "default", "app").unwrap(),
        dns: vec!["name.svc".to_owned()],
        images: vec![Image {
            role: Role::App,
            container_name: "c".into(),
            image: "i".into(),
            digest: String::new(),
        }],
    }
}

fn issue(authority: &Authority) -> (Vec<CertificateDer<'static>>, Timestamp) {
    let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let issued = authority
        .issue(&key.subject_public_key_info(), &subject())
        .unwrap();
    (
        certificates(&issued.chain, "the chain").unwrap(),
        issued.not_after,
    )
}

#[test]
fn workload_certificates_say_what_the_contract_wants() {
    let authority =
        Authority::open(&generate(&sentry(), SKEW).unwrap(), &terms(DAY, SKEW)).unwrap();
    let (chain, not_after) = issue(&authority);
    assert_eq!(chain.len(), 2);
    let leaf = parse(&chain[0], "leaf").unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    let names = &leaf
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names;
    assert_eq!(
        names,
        &[
            GeneralName::DNSName("name.svc"),
            GeneralName::URI("spiffe://public/ns/default/app")
        ]
    );
    let now = Timestamp::now().as_second();
    assert!((now - 900 - leaf.validity().not_before.timestamp()).abs() < 5);
    assert!((now + 86_400 - leaf.validity().not_after.timestamp()).abs() < 5);
    assert_eq!(not_after.as_second(), leaf.validity().not_after.timestamp());
    assert!(leaf.raw_serial().len() >= 14);
    let images = leaf
        .extensions()
        .iter()
        .find(|e| e.oid.to_id_string() == "1.3.6.1.4.1.57683.100.1")
        .unwrap();
    assert!(!images.critical);
    let json = br#"[{"role":"app","containerName":"c","image":"i"}]"#;
    assert_eq!(&images.value[2..], json);
}

#[test]
fn generated_authorities_look_as_in_the_contract() {
    let material = generate(&sentry(), SKEW).unwrap();
    let (root, issuer) = (
        certificates(&material.root, "").unwrap(),
        certificates(&material.chain, "").unwrap(),
    );
    let root = parse(&root[0], "root").unwrap();
    let organization = |certificate: &X509Certificate<'_>| {
        certificate
            .subject()
            .iter_organization()
            .next()
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(organization(&root), "cluster.local");
    let issuer = parse(&issuer[0], "issuer").unwrap();
    assert_eq!(
        organization(&issuer),
        "spiffe://cluster.local/ns/dapr-system/dapr-sentry"
    );
    assert!(issuer.key_usage().unwrap().unwrap().value.crl_sign());
    assert!(!root.key_usage().unwrap().unwrap().value.crl_sign());
    let year = issuer.validity().not_after.timestamp() - issuer.validity().not_before.timestamp();
    assert_eq!(year, 365 * 86_400 + 900);
    assert!(
        material
            .key
            .starts_with(b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI")
    );
}

#[test]
fn nothing_outlives_the_issuer() {
    let authority = Authority::open(
        &generate(&sentry(), SKEW).unwrap(),
        &terms(1000 * DAY, SKEW),
    )
    .unwrap();
    let (_, not_after) = issue(&authority);
    assert_eq!(not_after.as_second(), authority.not_after().as_second());
}

/// Credentials that a user brings, of any kind of key.
fn brought(
    root: &'static rcgen::SignatureAlgorithm,
    issuer: &'static rcgen::SignatureAlgorithm,
) -> Material {
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root =
        CertifiedIssuer::self_signed(params("root"), KeyPair::generate_for(root).unwrap()).unwrap();
    let key = KeyPair::generate_for(issuer).unwrap();
    let issuer = params("issuer").signed_by(&key, &root).unwrap();
    Material {
        root: format!("# a comment\n{}", root.pem()).into_bytes(),
        chain: format!("{}{}", issuer.pem(), root.pem()).into_bytes(),
        key: key.serialize_pem().into_bytes(),
    }
}

#[test]
fn credentials_of_users_are_accepted_or_refused() {
    for (root, issuer) in [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
        ),
        (&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
        (&rcgen::PKCS_ED25519, &rcgen::PKCS_RSA_SHA256),
    ] {
        let authority = Authority::open(&brought(root, issuer), &terms(DAY, SKEW)).unwrap();
        assert_eq!(issue(&authority).0.len(), 2, "the root is not sent");
        assert!(
            authority.anchors().starts_with("-----BEGIN"),
            "comments are left out"
        );
    }
    let (one, two) = (
        generate(&sentry(), SKEW).unwrap(),
        generate(&sentry(), SKEW).unwrap(),
    );
    let open = |material: &Material| Authority::open(material, &terms(DAY, SKEW)).map(drop);
    assert!(matches!(
        open(&Material {
            key: two.key.clone(),
            ..one.clone()
        }),
        Err(Error::KeyMismatch)
    ));
    assert!(matches!(
        open(&Material {
            root: two.root.clone(),
            ..one.clone()
        }),
        Err(Error::Chain { .. })
    ));
    assert!(matches!(
        open(&Material {
            root: one.chain.clone(),
            ..one.clone()
        }),
        Err(Error::NotSelfSigned)
    ));
    assert!(matches!(
        open(&Material {
            chain: Vec::new(),
            ..one.clone()
        }),
        Err(Error::Pem { .. })
    ));
    assert!(matches!(
        open(&Material {
            key: b"no key".to_vec(),
            ..one.clone()
        }),
        Err(Error::Key { .. })
    ));
    let both = [one.root.clone(), two.root].concat();
    assert!(
        open(&Material { root: both, ..one }).is_ok(),
        "a rotation has two roots"
    );
}

struct Own(Authority);

#[async_trait::async_trait]
impl CertificateSource for Own {
    async fn sign(&self, request: &str) -> Result<Signed, SourceError> {
        let key = request::public_key(request.as_bytes(), "dapr-sentry", "dapr-system").unwrap();
        let chain = self.0.issue(&key, &subject()).unwrap().chain;
        Ok(Signed {
            chain,
            anchors: self.0.anchors().into(),
            ..Signed::default()
        })
    }
}

#[tokio::test]
async fn the_security_library_accepts_what_is_signed() {
    let authority =
        Authority::open(&generate(&sentry(), SKEW).unwrap(), &terms(DAY, SKEW)).unwrap();
    let (security, runner) = Security::from_source(Box::new(Own(authority)), KeyKind::Ed25519);
    let shutdown = tokio_util::sync::CancellationToken::new();
    let ready = async {
        security.ready().await.unwrap();
        shutdown.cancel();
    };
    let (ran, ()) = tokio::join!(runner.run(shutdown.clone()), ready);
    ran.unwrap();
    assert_eq!(security.id(), Some(subject().id));
}
