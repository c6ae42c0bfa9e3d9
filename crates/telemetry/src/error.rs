//! What can be wrong with a telemetry configuration or with a peer's trace headers.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A metric rule holds an expression that does not compile.
    #[error("metric rule {rule:?}, label {label:?}: expression {expression:?} is not valid")]
    Rule {
        /// Name of the metric as configured.
        rule: String,
        /// Name of the label.
        label: String,
        /// The expression.
        expression: String,
        /// What is wrong with it.
        #[source]
        source: Box<regex::Error>,
    },
    /// A path pattern cannot be used.
    #[error("path pattern {pattern:?}: {reason}")]
    Pattern {
        /// The pattern as configured.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A `baggage` header is malformed; the request is answered with 400 or InvalidArgument.
    #[error("invalid baggage header: {0}")]
    Baggage(String),
    /// The OTLP protocol is neither `grpc` nor `http`.
    #[error("invalid protocol {0} provided for Otel endpoint")]
    Protocol(String),
    /// An exporter's endpoint or header cannot be used.
    #[error("trace exporter {exporter}: {reason}")]
    Exporter {
        /// Which exporter.
        exporter: &'static str,
        /// What is wrong.
        reason: String,
    },
}
