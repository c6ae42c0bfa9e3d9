//! The one-shot mode of an uninstallation: undoes what the operator leaves in the cluster and what would hang or
//! mislead without it. Safe to run twice. The chart runs it when the operator is gone, which would write it all again.

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt as _};
use kubernetes::Cluster;

use crate::LEASE;
use crate::annotations;
use crate::definition::Definition;

/// Takes the conversion webhook out of the CRD, deletes the lease and the Services of apps.
pub async fn run(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    Definition::new(cluster)
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
    match delete_services(cluster).await {
        Ok(()) => Ok(()),
        // They select pods that lose their sidecars with the next rollout: of no harm either.
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            tracing::info!("services of apps are left: {}", status.message);
            Ok(())
        }
        Err(error) => Err(error).context("cannot delete the services of apps"),
    }
}

/// The Services that the reconciler made, in every watched namespace.
async fn delete_services(cluster: &Cluster) -> Result<(), kube::Error> {
    let labelled = ListParams::default().labels(&format!("{}=true", annotations::ENABLED));
    for service in cluster.watched::<Service>().list(&labelled).await? {
        // a user may have labelled one as ours are
        if !service.annotations().contains_key(annotations::APP_ID) {
            continue;
        }
        let namespace = service.namespace().unwrap_or_default();
        let services: Api<Service> = cluster.within(&namespace);
        match services
            .delete(&service.name_any(), &DeleteParams::default())
            .await
        {
            Ok(_) => tracing::info!("service {namespace}/{} is deleted", service.name_any()),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes_fake::{Answer, Fake, Seen};
    use serde_json::json;

    const CRD: &str =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/subscriptions.dapr.io";
    const LEASES: &str =
        "/apis/coordination.k8s.io/v1/namespaces/dapr-system/leases/operator.dapr.io";

    fn definition() -> Answer {
        Answer::object(json!({"metadata": {"name": "subscriptions.dapr.io"}, "spec": {}}))
    }

    fn cluster(answer: impl Fn(&Seen) -> Answer + Send + 'static) -> (Cluster, Fake) {
        let fake = Fake::scripted(move |seen| Some(answer(seen)));
        (Cluster::new(fake.client(), ""), fake)
    }

    #[tokio::test]
    async fn the_webhook_goes_and_a_lease_that_stays_is_no_failure() {
        for code in [403, 404] {
            let (cluster, fake) = cluster(move |seen| match seen.path.as_str() {
                CRD => definition(),
                _ => Answer::status(code),
            });
            run(&cluster, "dapr-system").await.unwrap();
            let log = fake.seen();
            assert_eq!(
                log[1].body,
                json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}})
            );
            assert_eq!(
                (log[2].method.as_str(), log[2].path.as_str()),
                ("DELETE", LEASES)
            );
        }
    }

    #[tokio::test]
    async fn without_a_crd_there_is_little_to_do() {
        let (cluster, fake) = cluster(|_| Answer::status(404));
        run(&cluster, "dapr-system").await.unwrap();
        assert_eq!(
            fake.lines()[..2],
            [format!("GET {CRD}"), format!("DELETE {LEASES}")]
        );
    }

    #[tokio::test]
    async fn a_crd_that_cannot_be_changed_is_a_failure() {
        let (cluster, _) = cluster(|seen| match seen.method.as_str() {
            "GET" => definition(),
            _ => Answer::status(500),
        });
        assert!(run(&cluster, "dapr-system").await.is_err());
    }
}
