//! What a sidecar measures, and with which labels and buckets.

use std::collections::BTreeMap;

use macro_rules_attribute::apply;

use crate::{lenient, object::object};

/// What is measured.
#[apply(object)]
#[schemars(extend("required" = ["enabled"]))]
pub struct Metrics {
    /// Whether metrics are served; true when left out.
    pub enabled: Option<bool>,
    /// Whether error codes are counted; false when left out.
    pub record_error_codes: Option<bool>,
    /// Labels of HTTP metrics.
    pub http: Option<HttpMetrics>,
    /// Rewriting of label values.
    pub rules: Vec<MetricRule>,
    /// Upper bounds of latency buckets in milliseconds.
    pub latency_distribution_buckets: Option<Vec<i64>>,
    /// Settings of workflow metrics.
    pub workflow: Option<WorkflowMetrics>,
}

/// Upper bounds of latency buckets in milliseconds when a Configuration gives none.
pub const DEFAULT_LATENCY_BUCKETS_MS: [f64; 34] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0,
    100.0, 130.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1000.0, 2000.0, 5000.0,
    10_000.0, 20_000.0, 50_000.0, 100_000.0,
];

impl Metrics {
    /// These settings, with those that are left out taken from `other`.
    pub fn over(self, other: Self) -> Self {
        Self {
            enabled: self.enabled.or(other.enabled),
            record_error_codes: self.record_error_codes.or(other.record_error_codes),
            http: self.http.or(other.http),
            rules: if self.rules.is_empty() {
                other.rules
            } else {
                self.rules
            },
            latency_distribution_buckets: self
                .latency_distribution_buckets
                .or(other.latency_distribution_buckets),
            workflow: self.workflow.or(other.workflow),
        }
    }

    /// Whether metrics are served; true when the settings do not say.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// Whether error codes are counted; false when the settings do not say.
    pub fn records_error_codes(&self) -> bool {
        self.record_error_codes.unwrap_or(false)
    }

    /// Whether HTTP metrics carry the full path; `None` when the settings do not say, which means
    /// true but is worth a warning, because upstream announced that it will change.
    pub fn increased_cardinality(&self) -> Option<bool> {
        self.http
            .as_ref()
            .and_then(|http| http.increased_cardinality)
    }

    /// Whether HTTP metrics leave out the verb; false when the settings do not say.
    pub fn excludes_verbs(&self) -> bool {
        self.http
            .as_ref()
            .and_then(|http| http.exclude_verbs)
            .unwrap_or(false)
    }

    /// Path patterns that HTTP metrics keep.
    pub fn path_matching(&self) -> &[String] {
        self.http.as_ref().map_or(&[], |http| &http.path_matching)
    }

    /// Upper bounds of latency buckets in milliseconds.
    pub fn latency_buckets_ms(&self) -> Vec<f64> {
        match self.latency_distribution_buckets.as_deref() {
            None | Some([]) => DEFAULT_LATENCY_BUCKETS_MS.to_vec(),
            Some(buckets) => buckets.iter().map(|bound| *bound as f64).collect(),
        }
    }
}

/// Labels of HTTP metrics.
#[apply(object)]
pub struct HttpMetrics {
    /// Whether every path is a label value of its own; true when left out.
    pub increased_cardinality: Option<bool>,
    /// Path patterns that are kept as label values.
    pub path_matching: Vec<String>,
    /// Whether the verb is left out; false when left out.
    pub exclude_verbs: Option<bool>,
}

/// Rewriting of the labels of one metric.
#[apply(object)]
pub struct MetricRule {
    /// Name of the metric.
    pub name: String,
    /// Labels to rewrite.
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub labels: Vec<MetricLabel>,
}

/// Rewriting of one label.
#[apply(object)]
pub struct MetricLabel {
    /// Name of the label.
    pub name: String,
    /// Regular expressions by the value that replaces what they match.
    #[serde_with(skip_apply)]
    #[serde(deserialize_with = "lenient::or_default")]
    pub regex: BTreeMap<String, String>,
}

/// Settings of workflow metrics.
#[apply(object)]
pub struct WorkflowMetrics {
    /// Upper bounds of latency buckets; those of other metrics when left out.
    pub latency_distribution_buckets: Option<Vec<i64>>,
    /// Unit of the bounds, as a Go duration; `1ms` when left out.
    pub latency_distribution_units: Option<String>,
}
