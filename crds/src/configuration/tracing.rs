//! Distributed tracing: how much is sampled, and where spans go (contract 10.7).

use macro_rules_attribute::apply;

use crate::name_value::NameValuePair;
use crate::object::object;

/// Distributed tracing.
#[apply(object)]
pub struct Tracing {
    /// Share of traces that are sampled, from `0` to `1`.
    pub sampling_rate: String,
    /// Whether spans are logged.
    pub stdout: Option<bool>,
    /// Export to Zipkin.
    pub zipkin: Option<Zipkin>,
    /// Export over OTLP.
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
#[apply(object)]
pub struct Zipkin {
    /// URL that takes spans.
    pub endpoint_address: String,
}

/// Export over OTLP.
#[apply(object)]
#[schemars(extend("required" = ["endpointAddress", "isSecure", "protocol"]))]
pub struct Otel {
    /// `grpc` or `http`.
    pub protocol: String,
    /// Host and port of the collector.
    pub endpoint_address: String,
    /// Whether the connection uses TLS; true when left out.
    pub is_secure: Option<bool>,
    /// Headers sent with every export. Files may also write them as `name=value` strings.
    pub headers: Vec<NameValuePair>,
    /// How long an export may take, as a Go duration.
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
