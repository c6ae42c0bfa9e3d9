//! Flags and environment, checked and joined: what the rest of sentry is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use security::{SENTRY, SpiffeId};

use crate::ca::generate::YEAR;
use crate::flags::{Flags, Mode};
use crate::rotation::Plan;
use crate::upstream::IssuerRef;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sentry's own identity; its trust domain and namespace are those of the control plane.
    pub id: SpiffeId,
    pub kubernetes: bool,
    pub config: String,
    pub kubeconfig: Option<PathBuf>,
    pub host: String,
    pub port: u16,
    pub paths: Paths,
    pub jwt: Option<Jwt>,
    pub oidc: Option<Oidc>,
    pub rotation: Plan,
    /// Who certifies the issuer, where that is cert-manager, and for how long.
    pub cert_manager: Option<IssuerRef>,
    pub cert_manager_life: Duration,
}

/// Where credentials lie. In Kubernetes the file names are keys of the Secret and the ConfigMap.
#[derive(Clone, Debug)]
pub struct Paths {
    pub root: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
    pub jwt_key: PathBuf,
    pub jwks: PathBuf,
    pub record: PathBuf,
}

/// How JWTs are issued.
#[derive(Clone, Debug)]
pub struct Jwt {
    pub issuer: Option<String>,
    pub algorithm: jsonwebtoken::Algorithm,
    pub key_id: Option<String>,
    pub ttl: Duration,
}

/// How the OIDC server answers.
#[derive(Clone, Debug)]
pub struct Oidc {
    pub host: String,
    pub port: u16,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub issuer: Option<String>,
    pub jwks_uri: Option<String>,
    pub path_prefix: Option<String>,
    pub allowed_hosts: Vec<String>,
}

impl Settings {
    /// Joins flags and environment.
    pub fn new(flags: &Flags, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let namespace = variable("NAMESPACE").unwrap_or_else(|| "default".to_owned());
        let id = SpiffeId::new(&flags.trust_domain, &namespace, SENTRY)
            .context("trust-domain and NAMESPACE")?;
        let kubeconfig = flags.kubeconfig.clone().or_else(|| {
            let home = variable("HOME").filter(|home| !home.is_empty())?;
            Some(Path::new(&home).join(".kube/config")).filter(|path| path.exists())
        });
        let folder = &flags.issuer_credentials;
        // Compat: other than an absolute path has no effect for the two JWT files. Q-sentry-jwt-filenames
        let absolute = |path: &Path, default: &str| {
            if path.is_absolute() {
                path.to_owned()
            } else {
                folder.join(default)
            }
        };
        Ok(Self {
            id,
            kubernetes: flags.mode == Mode::Kubernetes,
            config: flags.config.clone(),
            kubeconfig,
            host: flags.listen_address.clone(),
            port: flags.port,
            paths: Paths {
                root: folder.join(&flags.issuer_ca_filename),
                chain: folder.join(&flags.issuer_certificate_filename),
                key: folder.join(&flags.issuer_key_filename),
                jwt_key: absolute(&flags.jwt.jwt_key_filename, "jwt.key"),
                jwks: absolute(&flags.jwt.jwks_filename, "jwks.json"),
                record: folder.join("rotation.json"),
            },
            jwt: jwt(flags)?,
            oidc: oidc(flags)?,
            rotation: rotation(flags),
            cert_manager: cert_manager(flags)?,
            cert_manager_life: cert_manager_life(flags)?,
        })
    }

    /// Files whose change means new credentials.
    pub fn watched(&self) -> Vec<&Path> {
        let paths = &self.paths;
        let mut watched: Vec<&Path> = vec![
            &paths.root,
            &paths.chain,
            &paths.key,
            &paths.jwt_key,
            &paths.jwks,
            &paths.record,
        ];
        if let Some((certificate, key)) = self.oidc.as_ref().and_then(|oidc| oidc.tls.as_ref()) {
            watched.extend([certificate.as_path(), key.as_path()]);
        }
        watched
    }
}

/// Only in a cluster there is a cert-manager to ask.
fn cert_manager(flags: &Flags) -> anyhow::Result<Option<IssuerRef>> {
    let given = &flags.cert_manager;
    if given.cert_manager_issuer_name.is_empty() {
        return Ok(None);
    }
    ensure!(
        flags.mode == Mode::Kubernetes,
        "cert-manager-issuer-name needs mode kubernetes"
    );
    Ok(Some(IssuerRef {
        name: given.cert_manager_issuer_name.clone(),
        kind: given.cert_manager_issuer_kind.clone(),
        group: given.cert_manager_issuer_group.clone(),
    }))
}

/// cert-manager gives no less than an hour.
fn cert_manager_life(flags: &Flags) -> anyhow::Result<Duration> {
    let life = flags.cert_manager.cert_manager_issuer_life.to_std();
    let life = life.context("cert-manager-issuer-life must not be negative")?;
    ensure!(
        life >= Duration::from_secs(60 * 60),
        "cert-manager-issuer-life must be an hour at least"
    );
    Ok(life)
}

/// With issuers that are replaced, their root lives for long, as nobody has to hear of a new issuer. Q-sentry-root-life
fn rotation(flags: &Flags) -> Plan {
    Plan {
        issuer: flags.issuer_rotation_enabled,
        root: flags.root_rotation_enabled,
        root_life: match flags.issuer_rotation_enabled {
            true => ROOT_LIFE,
            false => YEAR,
        },
        issuer_life: YEAR,
        settle: SETTLE,
    }
}

/// Life of a root whose key is kept.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Replicas look at the store every five minutes, and mounted files follow within two.
const SETTLE: Duration = Duration::from_secs(15 * 60);

fn jwt(flags: &Flags) -> anyhow::Result<Option<Jwt>> {
    let flags = &flags.jwt;
    if !flags.jwt_enabled {
        ensure!(flags.jwt_issuer.is_none(), "jwt-issuer needs jwt-enabled");
        return Ok(None);
    }
    let algorithm: jsonwebtoken::Algorithm = flags
        .jwt_signing_algorithm
        .parse()
        .context("jwt-signing-algorithm")?;
    ensure!(
        algorithm.family() != jsonwebtoken::AlgorithmFamily::Hmac,
        "jwt-signing-algorithm: a symmetric algorithm has no public key to check tokens with"
    );
    let ttl = flags
        .jwt_ttl
        .to_std()
        .filter(|ttl| !ttl.is_zero())
        .context("jwt-ttl must be positive")?;
    Ok(Some(Jwt {
        issuer: flags.jwt_issuer.clone(),
        algorithm,
        key_id: flags.jwt_key_id.clone(),
        ttl,
    }))
}

fn oidc(flags: &Flags) -> anyhow::Result<Option<Oidc>> {
    let (jwt, flags) = (&flags.jwt, &flags.oidc);
    let files = (
        &flags.oidc_server_tls_cert_file,
        &flags.oidc_server_tls_key_file,
    );
    // Compat: files that are given are used even with oidc-server-tls-enabled=false. Q-sentry-oidc-tls
    let tls = match files {
        (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
        (None, None) => None,
        _ => bail!("oidc-server-tls-cert-file and oidc-server-tls-key-file go together"),
    };
    ensure!(
        !flags.oidc_enabled || !flags.oidc_server_tls_enabled || tls.is_some(),
        "oidc-enabled needs oidc-server-tls-cert-file and oidc-server-tls-key-file, or oidc-server-tls-enabled=false"
    );
    if !flags.oidc_enabled || !jwt.jwt_enabled {
        return Ok(None);
    }
    for (name, uri) in [
        ("jwt-issuer", &jwt.jwt_issuer),
        ("oidc-jwks-uri", &flags.oidc_jwks_uri),
    ] {
        if let Some(uri) = uri.as_ref().filter(|uri| !uri.is_empty()) {
            uri.parse::<http::Uri>()
                .with_context(|| format!("{name} is no URI"))?;
        }
    }
    Ok(Some(Oidc {
        host: flags.oidc_server_listen_address.clone(),
        port: flags.oidc_server_listen_port,
        tls,
        issuer: jwt.jwt_issuer.clone().filter(|issuer| !issuer.is_empty()),
        jwks_uri: flags.oidc_jwks_uri.clone(),
        path_prefix: flags.oidc_path_prefix.clone(),
        allowed_hosts: flags.oidc_allowed_hosts.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::Program;

    fn settings(args: &[&str]) -> anyhow::Result<Settings> {
        let args = ["sentry"].iter().chain(args).map(Into::into).collect();
        let args = daemon::normalise(args, Flags::command().as_ref());
        let flags = Flags::parse(args).map_err(|stop| anyhow::anyhow!("{stop:?}"))?;
        Settings::new(&flags, |name| {
            (name == "NAMESPACE").then(|| "dapr-system".to_owned())
        })
    }

    #[test]
    fn defaults_and_paths() {
        let plain = settings(&[
            "-issuer-credentials=/c",
            "-issuer-key-filename=/other/key",
            "--jwks-filename=x.json",
        ]);
        let plain = plain.unwrap();
        assert_eq!(
            plain.id.to_string(),
            "spiffe://localhost/ns/dapr-system/dapr-sentry"
        );
        assert_eq!(
            (plain.port, plain.host.as_str(), plain.kubernetes),
            (50001, "", false)
        );
        assert_eq!(plain.paths.root, Path::new("/c/ca.crt"));
        assert_eq!(plain.paths.key, Path::new("/other/key"));
        assert_eq!(plain.paths.jwks, Path::new("/c/jwks.json"));
        assert!(plain.jwt.is_none() && plain.oidc.is_none());
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(settings(&["-jwt-issuer=https://x"]).is_err());
        assert!(settings(&["-jwt-enabled=true", "-jwt-signing-algorithm=HS256"]).is_err());
        assert!(
            settings(&["-oidc-enabled=true", "-jwt-enabled=true"]).is_err(),
            "tls files are missing"
        );
        assert!(settings(&["-oidc-server-tls-cert-file=/x"]).is_err());
        assert!(settings(&["-mode=other"]).is_err());
        assert!(settings(&["-trust-domain=NOT VALID"]).is_err());
        let open = settings(&[
            "-oidc-enabled=true",
            "-jwt-enabled=true",
            "-oidc-server-tls-enabled=false",
        ])
        .unwrap();
        assert!(open.oidc.unwrap().tls.is_none());
    }
}
