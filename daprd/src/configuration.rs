//! What the Configuration resource means to this sidecar: compiled once, and not looked at again.

use std::time::Duration;

use anyhow::{Context, Result};
use api::layers::{Access, ApiLog, access::Rule};
use crds::{
    Configuration,
    configuration::{Secrets, Tracing, api_access::ApiRule},
};
use telemetry::{
    LabelRule, MetricOptions, MetricRule,
    http_metrics::HttpOptions,
    trace::{OtlpOptions, Protocol, TraceOptions},
};
use values::GoDuration;

/// Compiled parts of a Configuration.
pub struct Compiled {
    pub access: Access,
    pub api_log: ApiLog,
    pub secret_scopes: Secrets,
    pub metrics: MetricOptions,
    pub http_metrics: HttpOptions,
    pub record_error_codes: bool,
    pub tracing: TraceOptions,
    pub hot_reload: bool,
    pub enabled_features: Vec<String>,
}

/// Compiles what `api_logging` (the flag, if set) and the resource say.
///
/// # Errors
/// Names the field.
pub fn compile(
    configuration: &Configuration,
    app_id: &str,
    api_logging: Option<bool>,
) -> Result<Compiled> {
    let spec = &configuration.spec;
    spec.check().context("Configuration: spec.secrets")?;
    let metrics = spec.effective_metrics();
    let logging = spec.effective_api_logging();
    let api = spec.api.clone().unwrap_or_default();
    let rules = |list: Vec<ApiRule>| list.into_iter().map(rule).collect();
    Ok(Compiled {
        access: Access {
            allowed: rules(api.allowed),
            denied: rules(api.denied),
        },
        api_log: ApiLog {
            enabled: api_logging.or(logging.enabled).unwrap_or_default(),
            obfuscate_urls: logging.obfuscate_urls,
            omit_health_checks: logging.omit_health_checks,
        },
        secret_scopes: spec.secrets.clone().unwrap_or_default(),
        metrics: MetricOptions {
            app_id: Some(app_id.to_owned()),
            latency_buckets: metrics.latency_buckets_ms(),
            rules: metric_rules(&metrics.rules),
        },
        http_metrics: HttpOptions {
            increased_cardinality: metrics.increased_cardinality().unwrap_or(true),
            path_matching: metrics.path_matching().to_vec(),
            exclude_verbs: metrics.excludes_verbs(),
        },
        record_error_codes: metrics.records_error_codes(),
        tracing: tracing(&spec.effective_tracing(), app_id)?,
        hot_reload: spec.feature_enabled("HotReload"),
        enabled_features: spec
            .enabled_features()
            .into_iter()
            .map(str::to_owned)
            .collect(),
    })
}

fn rule(rule: ApiRule) -> Rule {
    Rule {
        name: rule.name,
        version: rule.version,
        protocol: rule.protocol.unwrap_or_default(),
    }
}

fn metric_rules(rules: &[crds::configuration::metrics::MetricRule]) -> Vec<MetricRule> {
    rules
        .iter()
        .map(|rule| MetricRule {
            name: rule.name.clone(),
            labels: rule
                .labels
                .iter()
                .map(|label| LabelRule {
                    name: label.name.clone(),
                    regex: label.regex.clone().into_iter().collect(),
                })
                .collect(),
        })
        .collect()
}

fn tracing(tracing: &Tracing, app_id: &str) -> Result<TraceOptions> {
    let otlp = tracing.otel.as_ref().map(|otel| {
        let protocol: Protocol = otel
            .protocol
            .parse()
            .context("Configuration: spec.tracing.otel.protocol")?;
        let timeout = otel.timeout.as_deref().map(duration).transpose();
        anyhow::Ok(OtlpOptions {
            endpoint: otel.endpoint_address.clone(),
            protocol,
            secure: otel.is_secure(),
            headers: otel
                .headers
                .iter()
                .map(|header| (header.name.clone(), header.text().into_owned()))
                .collect(),
            timeout: timeout.context("Configuration: spec.tracing.otel.timeout")?,
        })
    });
    Ok(TraceOptions {
        service_name: app_id.to_owned(),
        sampling_rate: tracing.sampling_rate.clone(),
        stdout: tracing.stdout.unwrap_or_default(),
        zipkin: tracing
            .zipkin
            .as_ref()
            .map(|zipkin| zipkin.endpoint_address.clone())
            .filter(|endpoint| !endpoint.is_empty()),
        otlp: otlp.transpose()?,
        resource: Vec::new(),
    }
    .with_environment(|name| std::env::var(name).ok()))
}

fn duration(text: &str) -> Result<Duration> {
    let parsed: GoDuration = text.parse()?;
    parsed
        .to_std()
        .with_context(|| format!("{text:?} is negative"))
}
