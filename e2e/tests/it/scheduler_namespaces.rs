//! The scheduler behind namespaces that are deleted, before an API server that fails.

use std::collections::BTreeSet;

use e2e::mesh::Tls;
use e2e::scheduler::{Scheduler, keys, once};
use e2e::{Cluster, Sentry, wait};
use kubernetes_fake::{Fault, On};
use proto::scheduler::v1::scheduler_client::SchedulerClient;
use proto::scheduler::v1::{JobTargetMetadata, TargetActorReminder, job_target_metadata::Type};
use serde_json::json;
use tempfile::TempDir;

/// Where namespaces are.
const NAMESPACES: &str = "/api/v1/namespaces";

/// A cluster, a sentry, and the folder of a scheduler that may be started again.
struct World {
    cluster: Cluster,
    sentry: Sentry,
    data: TempDir,
}

impl World {
    async fn new(namespaces: &[&str]) -> Self {
        let world = Self {
            cluster: Cluster::start().await,
            sentry: Sentry::start().await,
            data: tempfile::tempdir().expect("a folder"),
        };
        for namespace in namespaces {
            world.put(namespace);
        }
        world
    }

    fn put(&self, namespace: &str) {
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        self.cluster.fake().put(NAMESPACES, object);
    }

    fn remove(&self, namespace: &str) {
        self.cluster.fake().remove(NAMESPACES, "", namespace);
    }

    async fn scheduler(&self) -> Scheduler {
        let kubeconfig = self.cluster.kubeconfig(self.data.path());
        let builder = Scheduler::builder().sentry(&self.sentry).data(&self.data);
        // The tests may run as root, which this mode refuses.
        let builder = builder.env("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK", "true");
        let builder = builder.arg("--mode=kubernetes");
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        builder.arg(&kubeconfig).start().await
    }

    /// Two jobs and two reminders in a namespace, which are not due.
    async fn fill(&self, scheduler: &Scheduler, namespace: &str) {
        let identity = self.sentry.ca().identity(namespace, "app");
        let tls = Tls::new(self.sentry.anchor(), Some(identity));
        let mut client = SchedulerClient::new(tls.channel(scheduler.port()));
        for name in ["one", "two"] {
            let mut job = once("app", name, "1h");
            let metadata = job.metadata.as_mut().expect("jobs have metadata");
            namespace.clone_into(&mut metadata.namespace);
            let mut reminder = job.clone();
            let metadata = reminder.metadata.as_mut().expect("jobs have metadata");
            let actor = TargetActorReminder {
                id: name.to_owned(),
                r#type: "cart".to_owned(),
            };
            metadata.target = Some(JobTargetMetadata {
                r#type: Some(Type::Actor(actor)),
            });
            for request in [job, reminder] {
                let done = client.schedule_job(request).await;
                done.expect("it is accepted");
            }
        }
    }

    /// How often namespaces were asked for in this way.
    fn asked(&self, verb: &str) -> usize {
        let seen = self.cluster.fake().seen();
        let asked = seen
            .iter()
            .filter(|seen| seen.verb == verb && seen.path.starts_with(NAMESPACES));
        asked.count()
    }

    async fn until_asked(&self, verb: &str, times: usize) {
        let what = format!("namespaces to be asked for by {verb}");
        wait::eventually(&what, wait::DEADLINE, || async {
            self.asked(verb) >= times
        })
        .await;
    }
}

/// How many jobs and reminders each namespace has.
async fn there(scheduler: &Scheduler) -> Vec<(String, usize)> {
    let keys = keys(scheduler, "dapr/jobs/").await;
    let namespace = |key: &String| key.split("||").nth(1).unwrap_or_default().to_owned();
    let all: Vec<String> = keys.iter().map(namespace).collect();
    let each: BTreeSet<&String> = all.iter().collect();
    let count = |one: &String| all.iter().filter(|other| *other == one).count();
    each.into_iter()
        .map(|one| (one.clone(), count(one)))
        .collect()
}

async fn until_there(scheduler: &Scheduler, namespaces: &[&str]) {
    let expected: Vec<_> = namespaces.iter().map(|name| (*name).to_owned()).collect();
    let what = format!("the jobs of {namespaces:?} to be all there are");
    wait::eventually(&what, wait::DEADLINE, || async {
        let there = there(scheduler).await;
        there.iter().all(|(_, count)| *count == 4)
            && there.into_iter().map(|(name, _)| name).eq(expected.clone())
    })
    .await;
}

#[tokio::test]
async fn jobs_of_a_deleted_namespace_go_also_while_the_scheduler_is_down() {
    let world = World::new(&["shop", "shop-2", "stay", "late"]).await;
    let scheduler = world.scheduler().await;
    for namespace in ["shop", "shop-2", "stay", "late"] {
        world.fill(&scheduler, namespace).await;
    }
    world.remove("shop");
    until_there(&scheduler, &["late", "shop-2", "stay"]).await;
    scheduler.stop().await;

    world.remove("late");
    world.put("new");
    let scheduler = world.scheduler().await;
    until_there(&scheduler, &["shop-2", "stay"]).await;
    // The same once more: it goes on hearing of deletions.
    world.remove("shop-2");
    until_there(&scheduler, &["stay"]).await;
    scheduler.stop().await;
    world.sentry.stop().await;
}

#[tokio::test]
async fn what_the_api_server_does_not_say_for_sure_deletes_nothing() {
    let world = World::new(&["shop", "stay", "again"]).await;
    let fake = world.cluster.fake();
    let scheduler = world.scheduler().await;
    for namespace in ["shop", "stay", "again"] {
        world.fill(&scheduler, namespace).await;
    }
    let all = ["again", "shop", "stay"];

    // A list that fails.
    let before = world.asked("list");
    fake.fault(
        On::verb("list").of("namespaces").times(3),
        Fault::Status(500),
    );
    fake.compact();
    fake.drop_watches();
    world.until_asked("list", before + 4).await;
    until_there(&scheduler, &all).await;

    // A namespace that seems to go, and of which nobody says that it is gone.
    let before = world.asked("get");
    fake.fault(
        On::verb("get").of("namespaces").times(2),
        Fault::Status(500),
    );
    world.remove("again");
    world.until_asked("get", before + 2).await;
    until_there(&scheduler, &all).await;
    world.put("again");
    world.until_asked("get", before + 3).await;
    until_there(&scheduler, &all).await;
    // Behind it, what is gone for sure goes.
    world.remove("shop");
    until_there(&scheduler, &["again", "stay"]).await;
    scheduler.stop().await;
    world.sentry.stop().await;
}
