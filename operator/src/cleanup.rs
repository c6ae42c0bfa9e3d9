//! The one-shot mode before an uninstallation: undoes what the operator leaves in the cluster and what would hang
//! or mislead without it. Safe to run twice, and while the operator still runs.

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::DeleteParams;

use crate::cluster::Cluster;
use crate::definition::Definition;
use crate::leader::LEASE;

/// Takes the conversion webhook out of the CRD and deletes the lease.
pub async fn run(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    Definition::new(cluster.client())
        .release()
        .await
        .context("cannot take the conversion webhook out of the CRD of Subscriptions")?;
    let leases = cluster.within::<Lease>(namespace);
    match leases.delete(LEASE, &DeleteParams::default()).await {
        Ok(_) => tracing::info!("lease {LEASE} is deleted"),
        // It is of no harm: it goes with its namespace, and a new operator takes it over.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            tracing::info!("lease {LEASE} is left: {}", status.message);
        }
        Err(error) => return Err(error).context("cannot delete the lease"),
    }
    Ok(())
}
