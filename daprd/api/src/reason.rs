//! Error reasons: one row per way an operation can fail. The rows of a block stand in its file; they are joined here.

pub mod actors;
pub mod bindings;
pub mod configuration;
pub mod general;
pub mod health;
pub mod invoke;
pub mod jobs;
pub mod lock;
pub mod pubsub;
pub mod secrets;
pub mod state;
pub mod workflow;

use tonic::Code;

/// A way to fail, as both transports show it (contract 2.8).
#[derive(Debug, PartialEq, Eq)]
pub struct Reason {
    /// `errorCode` of the HTTP body. Where empty, `info` takes its place.
    pub code: &'static str,
    /// `reason` of the `google.rpc.ErrorInfo` detail. Where empty, errors carry no details over HTTP.
    pub info: &'static str,
    /// HTTP status.
    pub http: u16,
    /// gRPC code.
    pub grpc: Code,
    /// Label of the error code metric.
    pub category: &'static str,
    /// Whether gRPC statuses carry details.
    pub detailed: bool,
}

impl Reason {
    /// A reason of the older kind: a code, and no details over HTTP.
    const fn plain(code: &'static str, http: u16, grpc: Code, category: &'static str) -> Self {
        Self {
            code,
            info: "",
            http,
            grpc,
            category,
            detailed: true,
        }
    }

    /// A reason of the oldest kind: no details over gRPC either.
    const fn bare(code: &'static str, http: u16, grpc: Code, category: &'static str) -> Self {
        Self {
            detailed: false,
            ..Self::plain(code, http, grpc, category)
        }
    }

    /// A reason with details.
    const fn rich(
        code: &'static str,
        info: &'static str,
        http: u16,
        grpc: Code,
        category: &'static str,
    ) -> Self {
        Self {
            code,
            info,
            http,
            grpc,
            category,
            detailed: true,
        }
    }

    /// The code that callers and metrics see.
    pub fn name(&self) -> &'static str {
        if self.code.is_empty() {
            self.info
        } else {
            self.code
        }
    }
}

/// Every reason, for the documentation.
pub fn all() -> impl Iterator<Item = &'static Reason> {
    [
        actors::ALL,
        bindings::ALL,
        configuration::ALL,
        general::ALL,
        health::ALL,
        invoke::ALL,
        jobs::ALL,
        lock::ALL,
        pubsub::ALL,
        secrets::ALL,
        state::ALL,
        workflow::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_an_error_with_a_name() {
        for reason in all() {
            assert!(!reason.name().is_empty(), "{reason:?}");
            assert!((400..600).contains(&reason.http), "{reason:?}");
            assert_ne!(reason.grpc, Code::Ok, "{reason:?}");
            assert!(!reason.category.is_empty(), "{reason:?}");
        }
    }
}
