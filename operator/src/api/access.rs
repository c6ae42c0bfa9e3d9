//! Who may ask: a caller reads its own namespace and no other (contract 5.3).

use security::SpiffeId;
use tonic::{Request, Status};

use crate::resources::Caller;

/// The header by which a sidecar of ours asks for the versions of objects, which others neither need nor expect here.
/// Q-operator-versions
const VERSIONED: &str = "dapr-resource-versions";

/// The caller, if it may read `namespace`.
pub fn authorize<T>(request: &Request<T>, namespace: &str) -> Result<Caller, Status> {
    let peer = request.extensions().get::<transport::Peer>();
    let connection = peer.and_then(|peer| peer.address);
    let id = peer.and_then(|peer| security::peer_id(peer).ok().flatten());
    let Some(id) = id else {
        return Err(Status::permission_denied("failed to determine identity"));
    };
    check(&id, namespace)?;
    Ok(Caller {
        namespace: id.namespace().to_owned(),
        app_id: id.app_id().to_owned(),
        connection,
        versioned: request.metadata().contains_key(VERSIONED),
    })
}

fn check(id: &SpiffeId, namespace: &str) -> Result<(), Status> {
    if namespace.is_empty() || id.namespace() != namespace {
        return Err(Status::permission_denied(format!(
            "identity does not match requested namespace exp={namespace} got={}",
            id.namespace()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_caller_reads_its_own_namespace() {
        let id: SpiffeId = "spiffe://public/ns/shop/cart".parse().unwrap();
        assert!(check(&id, "shop").is_ok());
        for namespace in ["", "other", "sho", "shop2"] {
            assert_eq!(
                check(&id, namespace).unwrap_err().code(),
                Code::PermissionDenied
            );
        }
    }

    #[test]
    fn without_an_identity_nothing_is_read() {
        let mut request = Request::new(());
        assert_eq!(
            authorize(&request, "shop").unwrap_err().code(),
            Code::PermissionDenied
        );
        request.extensions_mut().insert(transport::Peer::default());
        assert_eq!(
            authorize(&request, "shop").unwrap_err().code(),
            Code::PermissionDenied
        );
    }
}
