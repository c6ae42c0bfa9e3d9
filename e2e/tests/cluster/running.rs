//! What runs is what was built here: every container of the control plane, and the sidecar in an app's pod.

use serde_json::Value;

use crate::apps::Namespace;
use crate::installation::{SYSTEM, control_plane};
use crate::kube::get;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_container_is_our_build() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("running", images).await;
    namespace.stock("running").await;
    let mut programs = Vec::new();
    for name in [SYSTEM, &namespace.name] {
        let pods = get(&["-n", name, "pods"]).await;
        for pod in pods["items"].as_array().expect("a list") {
            for status in pod["status"]["containerStatuses"]
                .as_array()
                .expect("statuses")
            {
                let image = status["image"].as_str().expect("an image");
                let built = images
                    .id(image)
                    .unwrap_or_else(|| panic!("{image} is not an image of ours"));
                let running = status["imageID"].as_str().expect("an image id");
                assert!(
                    running.ends_with(built),
                    "{image} runs as {running}, and {built} was built"
                );
                assert!(status["state"]["running"].is_object(), "{status}");
                programs.push(status["name"].as_str().expect("a name").to_owned());
            }
        }
    }
    programs.sort();
    programs.dedup();
    let expected = [
        "app",
        "dapr-operator",
        "dapr-placement-server",
        "dapr-scheduler-server",
        "dapr-sentry",
        "dapr-sidecar-injector",
        "daprd",
    ];
    assert_eq!(programs, expected);
    namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_runs_without_root_and_without_rights() {
    let (_, _unchanged) = control_plane().await;
    let pods = get(&["-n", SYSTEM, "pods"]).await;
    for pod in pods["items"].as_array().expect("a list") {
        let spec = &pod["spec"];
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{}",
            pod["metadata"]["name"]
        );
        for container in spec["containers"].as_array().expect("containers") {
            let context = &container["securityContext"];
            assert_eq!(context["runAsNonRoot"], true);
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["readOnlyRootFilesystem"], true);
            assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
            assert_eq!(context["privileged"], Value::Null);
        }
    }
}
