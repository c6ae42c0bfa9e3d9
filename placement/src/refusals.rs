//! Hosts that were refused: all of them are counted, but each is logged once, as it will try again and again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use proto::placement::v1::Host;
use tonic::Status;

use crate::metrics::Metrics;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Refusals {
    metrics: Metrics,
    logged: Arc<Mutex<BTreeSet<String>>>,
}

impl Refusals {
    pub fn new(metrics: Metrics) -> Self {
        Refusals {
            metrics,
            logged: Arc::default(),
        }
    }

    /// Notes that a host was refused, and why.
    pub fn note(&self, host: &Host, status: &Status) {
        let reason = status.code().description();
        self.metrics.refused(reason);
        let Host {
            namespace,
            id,
            name,
            ..
        } = host;
        let mut key = format!("{namespace}/{id}/{name}");
        key.truncate(key.floor_char_boundary(MAX_KEY));
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() >= MAX_LOGGED || !logged.insert(key.clone()) {
            return;
        }
        tracing::warn!(target: "dapr.placement.server", "host {key} is refused: {}", status.message());
        if logged.len() == MAX_LOGGED {
            tracing::warn!(target: "dapr.placement.server", "{MAX_LOGGED} hosts were refused, further ones are only counted");
        }
    }
}

/// Hosts that are logged.
const MAX_LOGGED: usize = 1024;

/// Bytes of a host's names in the log.
const MAX_KEY: usize = 256;
