//! Who may do what: a sidecar speaks for its own app only (contract 8.4).

use security::SpiffeId;
use tonic::{Request, Status};
use transport::Peer;

use crate::metrics::Metrics;

/// The check. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Authorizer {
    pub mtls: bool,
    pub metrics: Metrics,
}

/// Who calls; without mutual TLS nobody knows.
pub(crate) struct Caller(Option<SpiffeId>);

impl Authorizer {
    pub fn caller<T>(&self, request: &Request<T>) -> Caller {
        let peer = request.extensions().get::<Peer>();
        Caller(peer.and_then(|peer| security::peer_id(peer).ok().flatten()))
    }

    /// Checks what a request says about its sender.
    pub fn check(&self, caller: &Caller, namespace: &str, app_id: &str) -> Result<(), Status> {
        self.judge(caller, namespace, app_id)
            .inspect_err(|_| self.metrics.sidecar_error("auth_failed"))
    }

    fn judge(&self, caller: &Caller, namespace: &str, app_id: &str) -> Result<(), Status> {
        if namespace.is_empty() || app_id.is_empty() {
            return Err(Status::invalid_argument(
                "missing namespace or appID in request",
            ));
        }
        if !self.mtls {
            return Ok(());
        }
        let Some(caller) = &caller.0 else {
            return Err(Status::unauthenticated(
                "failed to get identity from context",
            ));
        };
        if caller.namespace() != namespace || caller.app_id() != app_id {
            return Err(Status::permission_denied("identity does not match request"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_sidecar_speaks_for_itself_only() {
        let code = |mtls, caller: Option<&str>, namespace, app| {
            let metrics = Metrics::detached();
            let caller = Caller(caller.map(|id| id.parse().unwrap()));
            let checked = Authorizer { mtls, metrics }.check(&caller, namespace, app);
            checked.err().map_or(Code::Ok, |status| status.code())
        };
        let app = Some("spiffe://public/ns/ns1/app1");
        assert_eq!(code(true, app, "ns1", "app1"), Code::Ok);
        assert_eq!(code(true, app, "ns1", "app2"), Code::PermissionDenied);
        assert_eq!(code(true, app, "ns2", "app1"), Code::PermissionDenied);
        assert_eq!(code(true, app, "", "app1"), Code::InvalidArgument);
        assert_eq!(code(true, None, "ns1", "app1"), Code::Unauthenticated);
        assert_eq!(code(false, None, "ns1", "app1"), Code::Ok);
        assert_eq!(code(false, None, "ns1", ""), Code::InvalidArgument);
    }
}
