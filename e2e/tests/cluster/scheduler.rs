//! The scheduler as the chart installs it: where its jobs are, who may reach them, and which upgrades would leave them behind.

use serde_json::{Value, json};

use crate::installation::{control_plane, restricted};
use crate::kube::{apply, kubectl};
use crate::render::{argument, find, program, refused, render, render_with, the, try_render};

const AVAILABLE: &str = "global: {ha: {enabled: true}}";
const SCHEDULER: &str = "dapr-scheduler-server";
const BUDGET: &str = "dapr-scheduler-server-disruption-budget";

/// One server, whose store has one writer.
#[tokio::test]
async fn the_scheduler_has_its_folder_and_sidecars_its_address() {
    for (values, folder) in [
        ("{}", "dapr-system/$(SCHEDULER_ID)"),
        (
            "{global: {ha: {enabled: true}}, dapr_scheduler: {etcd: {enabled: false}}}",
            "dapr-system/$(SCHEDULER_ID)",
        ),
        ("dapr_scheduler: {cluster: {folder: own/jobs}}", "own/jobs"),
    ] {
        let objects = render(values).await;
        let scheduler = the(&objects, "StatefulSet", SCHEDULER);
        assert_eq!(scheduler["spec"]["replicas"], 1, "{values}");
        let mounted = "/var/run/data/dapr-scheduler";
        let whole = format!("{mounted}/{folder}");
        assert_eq!(argument(scheduler, "etcd-data-dir"), Some(whole.as_str()));
        let mount = json!({ "name": "dapr-scheduler-data-dir", "mountPath": mounted });
        let mounts = program(scheduler)["volumeMounts"].as_array();
        assert!(mounts.is_some_and(|all| all.contains(&mount)), "{values}");
        let members = argument(scheduler, "etcd-initial-cluster").expect("itself");
        assert!(
            members.starts_with("dapr-scheduler-server-0=https://"),
            "{members}"
        );
        assert!(!members.contains(','), "{members}");
        let pod = &scheduler["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["fsGroup"], 65532);
        assert!(
            find(
                &objects,
                "PodDisruptionBudget",
                "dapr-scheduler-server-disruption-budget"
            )
            .is_none()
        );
        let injector = the(&objects, "Deployment", "dapr-sidecar-injector");
        assert_eq!(argument(injector, "scheduler-enabled"), Some("true"));
    }
    let in_memory = format!("{AVAILABLE}\ndapr_scheduler: {{cluster: {{inMemoryStorage: true}}}}");
    let in_memory = render(&in_memory).await;
    let scheduler = the(&in_memory, "StatefulSet", SCHEDULER);
    assert_eq!(scheduler["spec"]["replicas"], 1);
    let volume = json!({ "name": "dapr-scheduler-data-dir", "emptyDir": { "medium": "Memory" } });
    let volumes = scheduler["spec"]["template"]["spec"]["volumes"].as_array();
    assert!(volumes.is_some_and(|all| all.contains(&volume)));

    let off = render("global: {scheduler: {enabled: false}}").await;
    let objects = off.iter().filter(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        name.starts_with("dapr-scheduler-server")
    });
    assert_eq!(objects.count(), 0);
    let injector = the(&off, "Deployment", "dapr-sidecar-injector");
    assert_eq!(argument(injector, "scheduler-enabled"), Some("false"));
}

/// Three servers, each with a member of an etcd that has the names and the files of upstream's.
#[tokio::test]
async fn members_of_an_etcd_have_the_names_and_files_of_upstreams() {
    let objects = render(&format!(
        "{AVAILABLE}\ndapr_scheduler: {{etcdSpaceQuota: 2Gi}}"
    ))
    .await;
    let scheduler = the(&objects, "StatefulSet", SCHEDULER);
    assert_eq!(scheduler["spec"]["replicas"], 3);
    the(&objects, "PodDisruptionBudget", BUDGET);
    assert_eq!(argument(scheduler, "etcd-embed"), Some("false"));
    let client = Some("http://127.0.0.1:2379");
    assert_eq!(argument(scheduler, "etcd-client-endpoints"), client);
    let identity = argument(scheduler, "identity-directory-write");
    let identity = identity.expect("a folder for the identity");

    let pod = &scheduler["spec"]["template"]["spec"];
    let etcd = &pod["containers"][1];
    assert_eq!(etcd["name"], "etcd");
    let args: Vec<&str> = etcd["args"]
        .as_array()
        .expect("arguments")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let host = |n: u8| format!("{SCHEDULER}-{n}.{SCHEDULER}.dapr-system.svc.cluster.local");
    let member = |n: u8| format!("{SCHEDULER}-{n}=https://{}:2380", host(n));
    let members = [0, 1, 2].map(member).join(",");
    let hosts = [0, 1, 2].map(host).join(",");
    for arg in [
        "--name=$(SCHEDULER_ID)".to_owned(),
        "--data-dir=/var/run/data/dapr-scheduler/dapr-system/$(SCHEDULER_ID)/dapr-0.1".to_owned(),
        format!("--initial-cluster={members}"),
        "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
        format!("--peer-cert-file={identity}/cert.pem"),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-cert-allowed-hostname={hosts}"),
        "--quota-backend-bytes=2147483648".to_owned(),
    ] {
        assert!(args.contains(&arg.as_str()), "{arg} is not of {args:?}");
    }
    // one user, for the files of the volume and for the identity
    assert_eq!(etcd["securityContext"]["runAsUser"], 65532);
    let mounts = |container: &Value| container["volumeMounts"].to_string();
    assert!(mounts(etcd).contains("dapr-scheduler-data-dir"));
    assert!(!mounts(program(scheduler)).contains("dapr-scheduler-data-dir"));
    assert!(!mounts(etcd).contains("dapr-identity-token"));

    let said = refused("dapr_scheduler: {etcd: {enabled: true}, etcdSpaceQuota: 2Zi}").await;
    assert!(said.contains("etcdSpaceQuota"), "{said}");
}

#[tokio::test]
async fn three_servers_share_an_etcd_elsewhere() {
    let values = r#"dapr_scheduler: {etcdEmbed: false, etcdClientEndpoints: ["https://a:2379", "https://b:2379"],
        etcdClientUsername: dapr, etcdClientPassword: "s: e"}"#;
    let objects = render(values).await;
    let scheduler = the(&objects, "StatefulSet", SCHEDULER);
    assert_eq!(scheduler["spec"]["replicas"], 3);
    for (flag, value) in [
        ("etcd-embed", "false"),
        ("etcd-client-endpoints", "https://a:2379,https://b:2379"),
        ("etcd-client-username", "dapr"),
        ("etcd-client-password", "s: e"),
    ] {
        assert_eq!(argument(scheduler, flag), Some(value));
    }
    assert_eq!(argument(scheduler, "etcd-initial-cluster"), None);
}

/// Jobs in the files of an etcd would be left behind, and nobody would notice (Q-chart-scheduler). What there is, Helm asks the
/// API server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_with_jobs_in_etcd_is_not_replaced_unasked() {
    let (_, _unchanged) = control_plane().await;
    let namespace = format!("replaced-{:x}", std::process::id());
    apply(&restricted(&namespace).to_string()).await;
    let live = ["-n", namespace.as_str(), "--dry-run=server"];
    let size = |objects: &[Value]| {
        let claim = the(objects, "StatefulSet", SCHEDULER)["spec"]["volumeClaimTemplates"].clone();
        claim[0]["spec"]["resources"]["requests"]["storage"].clone()
    };
    assert_eq!(size(&render_with("{}", &live).await), "16Gi");

    let mut scheduler = the(&render("{}").await, "StatefulSet", SCHEDULER).clone();
    let ours = scheduler["metadata"]["annotations"].take();
    scheduler["metadata"]["namespace"] = json!(namespace);
    scheduler["spec"]["replicas"] = json!(0);
    let claim = &mut scheduler["spec"]["volumeClaimTemplates"][0]["spec"];
    claim["resources"]["requests"]["storage"] = json!("3Gi");
    apply(&scheduler.to_string()).await;
    let said = try_render("{}", &live).await.expect_err("jobs are left");
    assert!(said.contains("keeps its jobs in an etcd"), "{said}");
    assert!(said.contains("dapr_scheduler.cluster.folder"), "{said}");
    let left = "dapr_scheduler: {cluster: {folder: embedded}}";
    assert_eq!(size(&render_with(left, &live).await), "3Gi");
    render_with("global: {scheduler: {enabled: false}}", &live).await;
    // its members are taken over, on its claims
    assert_eq!(size(&render_with(AVAILABLE, &live).await), "3Gi");

    scheduler["metadata"]["annotations"] = ours;
    apply(&scheduler.to_string()).await;
    let said = try_render(AVAILABLE, &live).await;
    let said = said.expect_err("jobs are left");
    assert!(said.contains("keeps its jobs in a file"), "{said}");
    let larger = "dapr_scheduler: {cluster: {storageSize: 32Gi}}";
    assert_eq!(size(&render_with(larger, &live).await), "3Gi");
    kubectl(&["delete", "namespace", &namespace, "--wait=false"]).await;
}
