//! Dapr's metrics, W3C trace context and trace export (contract 10.7 and 10.8).
//!
//! Metrics live in the registry that is handed in. Names are written as in the contract
//! (`runtime/component/loaded`), label values pass through the configured rules, and every family of
//! series has a limit.
#![deny(missing_docs)]

mod body;
mod error;
pub mod error_codes;
pub mod grpc_metrics;
pub mod http_metrics;
mod meter;
mod paths;
pub mod trace;

pub use error::Error;
pub use error_codes::ErrorCodes;
pub use grpc_metrics::GrpcMetrics;
pub use http_metrics::HttpMetrics;
pub use meter::{
    Counter, Gauge, Histogram, LATENCY_BUCKETS, LabelRule, Meter, MetricOptions, MetricRule,
    SIZE_BUCKETS,
};
pub use paths::PathMatcher;
