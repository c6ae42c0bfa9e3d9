//! Names of the internal actor types (contract 11.5), and of what is in them.

/// The internal actor types of an app, as placement knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Its namespace.
    pub namespace: String,
    /// Its id.
    pub app_id: String,
}

impl Names {
    /// The type whose actors are workflow instances.
    pub fn workflow(&self) -> String {
        self.kind("workflow")
    }

    /// The type whose actors run one activity each.
    pub fn activity(&self) -> String {
        self.kind("activity")
    }

    /// The type whose actors delete what has been kept long enough.
    pub fn retentioner(&self) -> String {
        self.kind("retentioner")
    }

    /// The type whose actors take the answers of workers in for other sidecars.
    pub fn executor(&self) -> String {
        self.kind("executor")
    }

    fn kind(&self, suffix: &str) -> String {
        format!("{PREFIX}{}.{}.{suffix}", self.namespace, self.app_id)
    }
}

/// Actor types that begin so are the sidecar's own.
pub const PREFIX: &str = "dapr.internal.";
