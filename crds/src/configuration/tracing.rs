//! Distributed tracing: how much is sampled, and where spans go (contract 10.7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient;
use crate::name_value::NameValuePair;

/// Distributed tracing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Share of traces that are sampled, from `0` to `1`.
    pub sampling_rate: String,
    /// Whether spans are logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<bool>,
    /// Export to Zipkin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zipkin: Option<Zipkin>,
    /// Export over OTLP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otel: Option<Otel>,
}

impl Tracing {
    /// Share of traces that are sampled when the settings give none or one that is not a number.
    pub const DEFAULT_SAMPLING_RATE: f64 = 1e-4;

    /// Share of traces that are sampled. Exactly 0 switches tracing off.
    pub fn rate(&self) -> f64 {
        self.sampling_rate
            .parse()
            .unwrap_or(Self::DEFAULT_SAMPLING_RATE)
    }
}

/// Export to Zipkin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Zipkin {
    /// URL that takes spans.
    pub endpoint_address: String,
}

/// Export over OTLP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["endpointAddress", "isSecure", "protocol"]))]
pub struct Otel {
    /// `grpc` or `http`.
    pub protocol: String,
    /// Host and port of the collector.
    pub endpoint_address: String,
    /// Whether the connection uses TLS; true when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_secure: Option<bool>,
    /// Headers sent with every export. Files may also write them as `name=value` strings.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub headers: Vec<NameValuePair>,
    /// How long an export may take, as a Go duration.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "lenient::text"
    )]
    pub timeout: Option<String>,
}

impl Otel {
    /// Whether the connection uses TLS; true when the settings do not say.
    pub fn is_secure(&self) -> bool {
        self.is_secure.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_back() {
        let rate = |text: &str| {
            Tracing {
                sampling_rate: text.into(),
                ..Tracing::default()
            }
            .rate()
        };
        assert_eq!(rate("0.5"), 0.5);
        assert_eq!(rate("0"), 0.0);
        assert_eq!(rate(""), 1e-4);
        assert_eq!(rate("often"), 1e-4);
    }
}
