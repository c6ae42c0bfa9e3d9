//! Jobs and reminders, which the scheduler keeps: they come to their apps, also after whoever keeps, places or hosts them was
//! deleted.

use serde_json::json;

use crate::apps::{Client, Namespace, is_ready};
use crate::installation::{SYSTEM, control_plane_alone, install, install_with};
use crate::kube::{get, kubectl, until};

/// A pod is gone after its grace period, and its successor has a certificate some seconds later.
const SOON: u64 = 120;

const SCHEDULER: &str = "dapr-scheduler-server-0";
const PLACEMENT: &str = "dapr-placement-server-0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_comes_to_its_app_also_after_the_scheduler_was_deleted() {
    let (images, _alone) = control_plane_alone().await;
    let namespace = Namespace::create("jobs", images).await;
    let app = namespace.stock("worker").await;
    let (sidecar, direct) = (app.sidecar().await, app.direct().await);

    schedule(&sidecar, "soon", "0s", 1).await;
    arrived(&direct, "soon", 1).await;

    // due while nobody can fire it
    schedule(&sidecar, "late", "3s", 2).await;
    schedule(&sidecar, "far", "10h", 3).await;
    kubectl(&[
        "-n",
        SYSTEM,
        "delete",
        "pod",
        SCHEDULER,
        "--grace-period=0",
        "--force",
    ])
    .await;
    arrived(&direct, "late", 2).await;
    ready(SCHEDULER).await;
    until("the job that is not due", SOON, async || {
        let (status, said) = sidecar.get("jobs/far").await;
        let kept = status == 200 && said["name"] == "far";
        kept.then_some(()).ok_or(format!("{status} {said}"))
    })
    .await;
    schedule(&sidecar, "again", "0s", 4).await;
    arrived(&direct, "again", 4).await;
    namespace.delete().await;
}

/// Two of the three go on with all jobs, and the third comes back to its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_three_schedulers_survive_each_of_them() {
    let (images, _alone) = control_plane_alone().await;
    let Some(members) = images.members() else {
        eprintln!("no image of an etcd in this cluster: its schedulers are left out");
        return;
    };
    let more = [
        "--set".to_owned(),
        "dapr_scheduler.etcd.enabled=true".to_owned(),
    ];
    let values = [&members[..], &more].concat();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    install_with(SYSTEM, &values).await;
    let namespace = Namespace::create("members", images).await;
    let app = namespace.stock("worker").await;
    let (sidecar, direct) = (app.sidecar().await, app.direct().await);
    for number in 0..12 {
        schedule(&sidecar, &format!("far-{number}"), "10h", number).await;
    }
    for number in 0..3 {
        let pod = format!("dapr-scheduler-server-{number}");
        let late: Vec<String> = (0..6).map(|n| format!("late-{number}-{n}")).collect();
        for name in &late {
            schedule(&sidecar, name, "3s", number).await;
        }
        kubectl(&["-n", SYSTEM, "delete", "pod", &pod]).await;
        for name in &late {
            arrived(&direct, name, number).await;
        }
        ready(&pod).await;
    }
    for number in 0..12 {
        let (status, said) = sidecar.get(&format!("jobs/far-{number}")).await;
        assert_eq!(status, 200, "{said}");
    }
    namespace.delete().await;
    install().await;
}

async fn schedule(sidecar: &Client, name: &str, due: &str, number: u8) {
    let path = format!("jobs/{name}");
    let job = json!({ "dueTime": due, "data": { "number": number } });
    until("the job to be taken", SOON, async || {
        let (status, said) = sidecar.post(&path, &job).await;
        // a call that broke after it was heard is answered with a conflict
        let taken = matches!(status, 204 | 409);
        taken.then_some(()).ok_or(format!("{status} {said}"))
    })
    .await;
}

async fn arrived(app: &Client, name: &str, number: u8) {
    let job = json!({ "job": name, "data": { "number": number } });
    until("the job at its app", SOON, async || {
        let (_, received) = app.get("received").await;
        let all = received.as_array();
        let there = all.is_some_and(|all| all.contains(&job));
        there.then_some(()).ok_or(received.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reminder_survives_its_host_placement_and_the_scheduler() {
    let (images, _alone) = control_plane_alone().await;
    let namespace = Namespace::create("reminder", images).await;
    let redis = namespace.redis().await;
    let settings = [("redisHost", redis.as_str()), ("actorStateStore", "true")];
    namespace
        .component("shelves", "state.redis", &settings)
        .await;
    let mut shelf = namespace.stock_object("shelf", 2);
    shelf["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["/sample", "shelf"]);
    namespace.apply(shelf).await;
    namespace.ready("shelf").await;
    let caller = namespace.stock("caller").await;
    let sidecar = caller.sidecar().await;

    // asked for once: nobody sets it again
    let watch = json!({ "period": "1s" });
    until("the reminder to be set", SOON, async || {
        let (status, said) = sidecar
            .post("actors/Shelf/apples/method/watch", &watch)
            .await;
        (status == 200)
            .then_some(())
            .ok_or(format!("{status} {said}"))
    })
    .await;
    let (_, host) = goes_on(&sidecar).await;
    let delete = async |namespace: &str, pods: &[&str]| {
        kubectl(&[&["-n", namespace, "delete", "pod"], pods].concat()).await;
    };
    delete(&namespace.name, &[&host]).await;
    let (_, other) = goes_on(&sidecar).await;
    assert_ne!(host, other, "that pod is gone");
    for pod in [PLACEMENT, SCHEDULER] {
        delete(SYSTEM, &[pod]).await;
        goes_on(&sidecar).await;
    }
    let (_, host) = goes_on(&sidecar).await;
    let (system, hosts) = ([PLACEMENT, SCHEDULER], [host.as_str()]);
    tokio::join!(delete(SYSTEM, &system), delete(&namespace.name, &hosts));
    goes_on(&sidecar).await;
    for pod in [PLACEMENT, SCHEDULER] {
        ready(pod).await;
    }
    namespace.delete().await;
}

/// The reminder comes, and comes again; says how often it has by now, and where.
async fn goes_on(sidecar: &Client) -> (u64, String) {
    let (count, _) = restocked(sidecar, 0).await;
    restocked(sidecar, count + 2).await
}

/// Waits until the reminder has come so often; says how often it has, and where.
async fn restocked(sidecar: &Client, times: u64) -> (u64, String) {
    until(
        "the reminder to come",
        SOON,
        async || match restocked_now(sidecar).await {
            Ok((count, pod)) if count >= times => Ok((count, pod)),
            other => Err(format!("{other:?}, of {times}")),
        },
    )
    .await
}

async fn restocked_now(sidecar: &Client) -> Result<(u64, String), String> {
    let (status, said) = sidecar
        .post("actors/Shelf/apples/method/count", &json!({}))
        .await;
    if status != 200 {
        return Err(format!("{status} {said}"));
    }
    let pod = said["pod"].as_str().unwrap_or_default().to_owned();
    Ok((said["count"].as_u64().unwrap_or(0), pod))
}

async fn ready(name: &str) {
    until("the pod to be ready again", SOON, async || {
        let list = get(&["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/part-of=dapr"]).await;
        let pods = list["items"].as_array().into_iter().flatten();
        let pod = pods.into_iter().find(|pod| pod["metadata"]["name"] == name);
        let ready =
            pod.is_some_and(|pod| pod["metadata"]["deletionTimestamp"].is_null() && is_ready(pod));
        ready.then_some(()).ok_or(format!("{pod:?}"))
    })
    .await;
}
