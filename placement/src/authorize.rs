//! Who may report what (contract 7.3, authorisation).

use proto::placement::v1::{Host, HostOperation};
use security::SpiffeId;
use tonic::Status;

/// Checks a report against the caller's identity, which is absent without mutual TLS.
pub(crate) fn report(host: &Host, caller: Option<&SpiffeId>) -> Result<(), Status> {
    if host.operation() == HostOperation::Unknown && host.version.is_some() {
        return Err(Status::invalid_argument(
            "both operation and version must be set or both must be unset",
        ));
    }
    if HostOperation::try_from(host.operation).is_err() {
        return Err(Status::invalid_argument(format!(
            "operation {} is not known",
            host.operation
        )));
    }
    if host.id.is_empty() || host.namespace.is_empty() {
        return Err(Status::invalid_argument(
            "host ID and namespace must be provided",
        ));
    }
    if host.entities.len() > MAX_ENTITIES {
        return Err(Status::invalid_argument(format!(
            "{} entities are more than {MAX_ENTITIES}",
            host.entities.len()
        )));
    }
    if let Some(caller) = caller {
        identity(host, caller)?;
    }
    host.entities
        .iter()
        .try_for_each(|entity| reserved(host, entity))
}

fn identity(host: &Host, caller: &SpiffeId) -> Result<(), Status> {
    if host.id != caller.app_id() {
        return Err(Status::permission_denied(format!(
            "provided app ID {} doesn't match the one in the SPIFFE ID ({})",
            host.id,
            caller.app_id()
        )));
    }
    if host.namespace != caller.namespace() {
        return Err(Status::permission_denied(format!(
            "provided client namespace {} doesn't match the one in the SPIFFE ID ({})",
            host.namespace,
            caller.namespace()
        )));
    }
    Ok(())
}

/// `dapr.internal.<namespace>.<app id>...` belongs to that app alone, with or without mutual TLS.
fn reserved(host: &Host, entity: &str) -> Result<(), Status> {
    let mut parts = entity.split('.');
    if (parts.next(), parts.next()) != (Some("dapr"), Some("internal")) {
        return Ok(());
    }
    if (parts.next(), parts.next()) == (Some(&host.namespace), Some(&host.id)) {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "entity {entity} is not allowed for app ID {} in namespace {}",
        host.id, host.namespace
    )))
}

/// Actor types of one host.
const MAX_ENTITIES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn host(id: &str, namespace: &str, entities: &[&str]) -> Host {
        Host {
            id: id.into(),
            namespace: namespace.into(),
            entities: entities.iter().map(|entity| (*entity).to_owned()).collect(),
            ..Host::default()
        }
    }

    fn code(host: &Host, caller: Option<&str>) -> Code {
        let caller: Option<SpiffeId> = caller.map(|id| id.parse().unwrap());
        report(host, caller.as_ref())
            .err()
            .map_or(Code::Ok, |status| status.code())
    }

    #[test]
    fn identity_and_names() {
        let app = Some("spiffe://public/ns/ns1/app1");
        assert_eq!(code(&host("app1", "ns1", &["a"]), app), Code::Ok);
        assert_eq!(code(&host("app2", "ns1", &[]), app), Code::PermissionDenied);
        assert_eq!(code(&host("app1", "ns2", &[]), app), Code::PermissionDenied);
        assert_eq!(code(&host("app2", "ns2", &[]), None), Code::Ok);
        assert_eq!(code(&host("", "ns1", &[]), None), Code::InvalidArgument);
        assert_eq!(code(&host("app1", "", &[]), None), Code::InvalidArgument);
        assert_eq!(
            code(&host("a", "n", &vec!["x"; MAX_ENTITIES + 1]), None),
            Code::InvalidArgument
        );
    }

    #[test]
    fn operations_need_versions_only_if_named() {
        let mut report = host("a", "n", &[]);
        report.version = Some(1);
        assert_eq!(code(&report, None), Code::InvalidArgument);
        report.set_operation(HostOperation::Lock);
        assert_eq!(code(&report, None), Code::Ok);
        report.operation = 99;
        assert_eq!(code(&report, None), Code::InvalidArgument);
    }

    #[test]
    fn reserved_types() {
        for (entity, expected) in [
            ("dapr.internal.ns.app.workflow", Code::Ok),
            ("dapr.internal.ns.app", Code::Ok),
            ("dapr.internal.ns.other.workflow", Code::PermissionDenied),
            ("dapr.internal.other.app.workflow", Code::PermissionDenied),
            ("dapr.internal", Code::PermissionDenied),
            ("dapr.internal.ns", Code::PermissionDenied),
            ("dapr.internals.x", Code::Ok),
            ("mydapr.internal.x", Code::Ok),
        ] {
            assert_eq!(
                code(&host("app", "ns", &[entity]), None),
                expected,
                "{entity}"
            );
        }
    }
}
