//! How many certificates sentry signs, and how long one takes, over connections that are open already, for callers whose
//! tokens it checks with a key set.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proto::sentry::v1::sign_certificate_request::TokenValidator;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::json;

use super::binaries::{self, Binary};
use super::calls::Target;
use super::load;
use super::mesh;
use super::rounds::{Contestant, Rounds};
use super::tls::{self, Applicant, TRUST_DOMAIN};

/// Flags of the bench.
#[derive(Default, clap::Args)]
pub(super) struct Arguments {
    /// What to measure, as sentry=path or label:sentry=path; repeatable, measured in turn [default: our sentry]
    #[arg(long = "binary")]
    binaries: Vec<String>,
    #[command(flatten)]
    rounds: Rounds,
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    load::precise_timers();
    let binaries = binaries::several(&arguments.binaries, "sentry")?;
    let sites = binaries.iter().map(start).collect::<Result<Vec<_>>>()?;
    arguments.rounds.run("sentry, certificates", &sites)
}

/// A sentry that knows a key, and a request with a token that was signed with it.
fn start(binary: &Binary) -> Result<Contestant> {
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let keys = folder.path().join("jwks.json");
    std::fs::write(&keys, key_set(&key)?)?;
    let config = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: bench}}\nspec: {{mtls: {{enabled: true, \
         tokenValidators: [{{name: jwks, options: {{source: '{}'}}}}]}}}}\n",
        keys.display()
    );
    let started = || {
        mesh::sentry(binary, folder.path(), &config)
            .with_context(|| format!("starting {}", binary.label))
    };
    // Upstream's begins anew seconds after it has written credentials of its own: so they are there before.
    started()?.process.stop()?;
    let sentry = started()?;
    let applicant =
        Applicant::new("default", "bench", &token(&key)?)?.judged_by(TokenValidator::Jwks as i32);
    let path = "/dapr.proto.sentry.v1.CA/SignCertificate";
    let target = Target::grpc(sentry.port, path, applicant.request());
    Ok(Contestant {
        label: binary.label.clone(),
        target: target
            .tls(tls::client(None, b"h2")?)
            .answers(500..=64 << 10),
        process: sentry.process,
        _alive: Box::new(folder),
    })
}

fn key_set(key: &KeyPair) -> Result<String> {
    // An uncompressed point: a byte, and two coordinates.
    let point = key.public_key_raw();
    let (x, y) = point
        .get(1..)
        .and_then(|point| point.split_at_checked(32))
        .context("no point of P-256")?;
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let key = json!({
        "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "bench", "x": text(x), "y": text(y),
    });
    Ok(json!({"keys": [key]}).to_string())
}

fn token(key: &KeyPair) -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let claims = json!({
        "aud": format!("spiffe://{TRUST_DOMAIN}/ns/default/dapr-sentry"),
        "sub": format!("spiffe://{TRUST_DOMAIN}/ns/default/bench"),
        "iat": now.as_secs(), "nbf": now.as_secs(), "exp": now.as_secs() + LIFE,
    });
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("bench".to_owned());
    let key = EncodingKey::from_ec_der(&key.serialize_der());
    Ok(jsonwebtoken::encode(&header, &claims, &key)?)
}

/// Seconds for which a token is good.
const LIFE: u64 = 24 * 3600;
