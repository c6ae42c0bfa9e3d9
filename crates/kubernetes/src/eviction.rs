//! Evictions: deletions of pods that keep to their disruption budgets. `kube` has a call for it as well, whose
//! preconditions the API server does not read, because it misspells the field they stand in.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions};
use kube::Api;
use kube::api::PostParams;
use kube::core::Status;

/// Evicts a pod, unless another one has taken its name. A refusal with 429 says that its budget does not allow it now.
///
/// # Errors
/// Those of the request.
pub async fn evict(pods: &Api<Pod>, name: &str, uid: &str) -> Result<(), kube::Error> {
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                ..Preconditions::default()
            }),
            ..DeleteOptions::default()
        }),
    };
    let params = PostParams::default();
    let answer = pods.create_subresource::<_, Status>("eviction", name, &params, &eviction);
    answer.await.map(drop)
}
