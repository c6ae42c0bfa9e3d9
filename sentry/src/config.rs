//! The control plane's Configuration: lifetimes and token validators (contract 3.4, 6.3).

use std::time::Duration;

use anyhow::{Context as _, bail};
use crds::configuration::Mtls;
use crds::configuration::mtls::TokenValidator;
use values::GoDuration;

use crate::api_server::{self, ApiServer};
use crate::flags::DEFAULT_CONFIG;
use crate::settings::Settings;

/// What the Configuration says about certificates.
#[derive(Clone, Debug)]
pub struct Policy {
    pub workload_ttl: Duration,
    pub clock_skew: Duration,
    /// The JWKS validator, if one is configured.
    pub jwks: Option<tokens::Options>,
}

impl Policy {
    /// Reads the Configuration, from a file or from the cluster.
    pub async fn load(settings: &Settings, api: Option<&ApiServer>) -> anyhow::Result<Self> {
        let name = if settings.config.is_empty() {
            DEFAULT_CONFIG
        } else {
            &settings.config
        };
        let mtls = match api {
            Some(api) => from_cluster(api, settings.id.namespace(), name)
                .await
                .with_context(|| format!("configuration {name}"))?,
            None => from_file(name)?,
        };
        Self::compile(&mtls.unwrap_or_default())
    }

    fn compile(mtls: &Mtls) -> anyhow::Result<Self> {
        let ttl = mtls
            .workload_cert_ttl
            .as_deref()
            .unwrap_or(Mtls::DEFAULT_WORKLOAD_CERT_TTL);
        let skew = mtls
            .allowed_clock_skew
            .as_deref()
            .unwrap_or(Mtls::DEFAULT_ALLOWED_CLOCK_SKEW);
        let mut policy = Self {
            workload_ttl: duration("mtls.workloadCertTTL", ttl)?,
            clock_skew: duration("mtls.allowedClockSkew", skew)?,
            jwks: None,
        };
        if policy.workload_ttl.is_zero() {
            bail!("mtls.workloadCertTTL must be positive");
        }
        for validator in &mtls.token_validators {
            match validator.name.to_lowercase().as_str() {
                "jwks" => policy.jwks = Some(jwks(validator)?),
                "kubernetes" | "insecure" => bail!(
                    "token validator {:?} is built in and takes no configuration",
                    validator.name
                ),
                _ => bail!(
                    "token validator {:?} is unknown, jwks is the only one to configure",
                    validator.name
                ),
            }
        }
        Ok(policy)
    }
}

/// Waits for a Configuration that does not exist yet: charts make it together with sentry. Upstream ends instead, and is
/// started again by the cluster. Q-sentry-configuration-wait
async fn from_cluster(
    api: &ApiServer,
    namespace: &str,
    name: &str,
) -> Result<Option<Mtls>, api_server::Error> {
    let mut waiting = false;
    loop {
        match api.configuration(namespace, name).await {
            Err(api_server::Error::NotFound { path }) => {
                if !waiting {
                    tracing::warn!("{path} does not exist, waiting for it");
                }
                waiting = true;
                tokio::time::sleep(RETRY).await;
            }
            found => return Ok(found?.spec.mtls),
        }
    }
}

/// Pause before a Configuration that was not there is looked for again.
const RETRY: Duration = Duration::from_secs(1);

fn from_file(name: &str) -> anyhow::Result<Option<Mtls>> {
    let path = std::path::Path::new(name);
    if name == DEFAULT_CONFIG && !path.exists() {
        return Ok(None);
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("configuration file {name}"))?;
    let variable = |variable: &str| std::env::var(variable).ok();
    let told = |line: &str| tracing::warn!("{line}");
    let found = crds::files::configuration([(name, text.as_str())], variable, told)?;
    Ok(found.spec.mtls)
}

fn duration(field: &str, text: &str) -> anyhow::Result<Duration> {
    let parsed: GoDuration = text.parse().with_context(|| format!("{field}: {text:?}"))?;
    parsed
        .to_std()
        .with_context(|| format!("{field} must not be negative"))
}

fn jwks(validator: &TokenValidator) -> anyhow::Result<tokens::Options> {
    let options = validator
        .options
        .as_ref()
        .and_then(|options| options.as_object());
    let text = |name: &str| {
        let found = options.and_then(|options| {
            options
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
        });
        match found {
            None | Some((_, serde_json::Value::Null)) => Ok(None),
            Some((_, serde_json::Value::String(text))) => Ok(Some(text.clone())),
            Some((_, other)) => bail!("token validator jwks: {name} must be text, found {other}"),
        }
    };
    let mut compiled = tokens::Options::new(text("source")?.unwrap_or_default());
    compiled.ca_certificate = text("caCertificate")?.filter(|text| !text.is_empty());
    // Compat: Q-sentry-jwks-limits: values below these limits are taken for unset.
    for (name, least, target) in [
        (
            "minRefreshInterval",
            Duration::from_secs(1),
            &mut compiled.min_refresh_interval,
        ),
        (
            "requestTimeout",
            Duration::from_millis(1),
            &mut compiled.request_timeout,
        ),
    ] {
        if let Some(given) = text(name)?.filter(|text| !text.is_empty()) {
            let given = duration(name, &given)?;
            if given > least {
                *target = given;
            }
        }
    }
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes_fake::{Fake, Fault, On};
    use serde_json::json;

    fn compile(mtls: serde_json::Value) -> anyhow::Result<Policy> {
        Policy::compile(&serde_json::from_value(mtls).unwrap())
    }

    #[test]
    fn defaults_and_values() {
        let plain = compile(json!({})).unwrap();
        assert_eq!(
            (plain.workload_ttl.as_secs(), plain.clock_skew.as_secs()),
            (86_400, 900)
        );
        assert!(plain.jwks.is_none());
        let full = compile(json!({
            "workloadCertTTL": "1h", "allowedClockSkew": "20s",
            "tokenValidators": [{"name": "jwks", "options": {
                "source": "https://x", "minRefreshInterval": "2m", "requestTimeout": "5s", "caCertificate": "pem"}}]
        }));
        let full = full.unwrap();
        assert_eq!(
            (full.workload_ttl.as_secs(), full.clock_skew.as_secs()),
            (3600, 20)
        );
        let jwks = full.jwks.unwrap();
        assert_eq!(
            (jwks.location.as_str(), jwks.ca_certificate.as_deref()),
            ("https://x", Some("pem"))
        );
        assert_eq!(
            (
                jwks.min_refresh_interval.as_secs(),
                jwks.request_timeout.as_secs()
            ),
            (120, 5)
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        for mtls in [
            json!({"workloadCertTTL": "soon"}),
            json!({"workloadCertTTL": "0s"}),
            json!({"allowedClockSkew": "-1s"}),
            json!({"tokenValidators": [{"name": "kubernetes"}]}),
            json!({"tokenValidators": [{"name": "insecure"}]}),
            json!({"tokenValidators": [{"name": "other"}]}),
            json!({"tokenValidators": [{"name": "jwks", "options": {"source": 1}}]}),
        ] {
            assert!(compile(mtls.clone()).is_err(), "{mtls}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_configuration_that_is_not_there_yet_is_waited_for() {
        let fake = Fake::new();
        fake.put(
            "/apis/dapr.io/v1alpha1/configurations",
            json!({
                "metadata": {"name": "daprsystem", "namespace": "dapr-system"},
                "spec": {"mtls": {"workloadCertTTL": "1h"}},
            }),
        );
        fake.fault(On::verb("get").times(2), Fault::Status(404));
        let api = ApiServer::new(fake.client());
        let begun = tokio::time::Instant::now();
        let find = || from_cluster(&api, "dapr-system", "daprsystem");
        let mtls = find().await.unwrap().unwrap();
        assert_eq!(mtls.workload_cert_ttl.as_deref(), Some("1h"));
        assert_eq!(begun.elapsed(), 2 * RETRY);
        // What is wrong otherwise does not get better by waiting.
        fake.fault(On::all(), Fault::Status(403));
        let refused = find().await;
        assert!(matches!(refused, Err(api_server::Error::Forbidden { .. })));
    }
}
