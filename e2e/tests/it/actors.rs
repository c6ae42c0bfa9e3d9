//! Actors: two sidecars on one placement share the actors of a type, and one of them leaves.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use e2e::app::Answer;
use e2e::{App, Daprd, Placement, wait};
use serde_json::json;

use crate::resources::component;

const ACTORS: u32 = 12;

/// What every app of a test shares: how many are at each actor at this moment, and how many were at most.
#[derive(Clone, Default)]
struct Book(Arc<BTreeMap<u32, (AtomicU32, AtomicU32)>>);

impl Book {
    fn new() -> Self {
        Self(Arc::new(
            (0..ACTORS).map(|id| (id, Default::default())).collect(),
        ))
    }

    async fn enter(&self, id: u32) {
        let (now, most) = &self.0[&id];
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Whoever else may be at the actor gets the time to be.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> u32 {
        let most = self.0.values().map(|(_, most)| most.load(Ordering::SeqCst));
        most.max().unwrap_or_default()
    }
}

/// An app that hosts `kind`, and answers its own name.
async fn app(name: &'static str, book: &Book) -> App {
    let config = json!({"entities": ["kind"], "drainOngoingCallTimeout": "5s"});
    let mut app = App::builder().route("GET /dapr/config", Answer::json(&config));
    for id in 0..ACTORS {
        let book = book.clone();
        app = app
            .route(&format!("/actors/kind/{id}"), Answer::status(200))
            .respond(&format!("/actors/kind/{id}/method/who"), move |_| {
                let book = book.clone();
                async move {
                    book.enter(id).await;
                    Answer::bytes(name)
                }
            })
            .route(
                &format!("/actors/kind/{id}/method/timer/tick"),
                Answer::status(200),
            );
    }
    app.start().await
}

async fn daprd(name: &str, app: &App, placement: &Placement) -> Daprd {
    let store = component("store", "state.in-memory", &[("actorStateStore", "true")]);
    let daprd = Daprd::builder(name)
        .app(app)
        .placement(placement)
        .resources(&store);
    daprd.start().await
}

async fn hosts(placement: &Placement, count: usize) {
    wait::eventually(
        "hosts in the table of placement",
        wait::DEADLINE,
        || async {
            let state = placement.state().await;
            let hosts = state["tables"]["default"]["hosts"].as_array().cloned();
            let hosts = hosts.unwrap_or_default();
            let with_kind = |host: &&serde_json::Value| host.to_string().contains("\"kind\"");
            hosts.iter().filter(with_kind).count() == count
        },
    )
    .await;
}

async fn who(daprd: &Daprd, id: u32) -> String {
    let path = format!("/v1.0/actors/kind/{id}/method/who");
    let reply = daprd.http().put(&path, "").await;
    reply.expect_status(200).text()
}

#[tokio::test]
async fn actors_have_one_holder_each_while_hosts_come_and_go() {
    let placement = Placement::builder().start().await;
    let book = Book::new();
    let first = app("first", &book).await;
    let one = daprd("one", &first, &placement).await;
    hosts(&placement, 1).await;
    for id in 0..ACTORS {
        assert_eq!(who(&one, id).await, "first");
    }
    let second = app("second", &book).await;
    let two = daprd("two", &second, &placement).await;
    hosts(&placement, 2).await;
    let mut owners = BTreeMap::new();
    for id in 0..ACTORS {
        let (here, there) = tokio::join!(who(&one, id), who(&two, id));
        assert_eq!(here, there, "actor {id}");
        owners.insert(id, here);
    }
    let moved = owners.values().filter(|owner| *owner == "second").count();
    assert!(moved > 0, "all actors stayed with one host");
    for (id, owner) in &owners {
        let deactivated = first.calls(&format!("/actors/kind/{id}")).len();
        assert_eq!(deactivated == 1, owner == "second", "actor {id}");
    }
    // The second leaves while its actors are called.
    let calls = async {
        for id in (0..ACTORS).cycle().take(60) {
            who(&one, id).await;
        }
    };
    tokio::join!(two.stop(), calls);
    for id in 0..ACTORS {
        assert_eq!(who(&one, id).await, "first");
    }
    assert_eq!(book.most(), 1, "two calls were at one actor");
}

#[tokio::test]
async fn an_actor_has_state_and_timers_where_it_lives() {
    let placement = Placement::builder().start().await;
    let app = app("app", &Book::new()).await;
    let daprd = daprd("app", &app, &placement).await;
    hosts(&placement, 1).await;
    let http = daprd.http();
    assert_eq!(who(&daprd, 1).await, "app");
    let save = json!([{"operation": "upsert", "request": {"key": "k", "value": {"a": 1}}}]);
    let state = "/v1.0/actors/kind/1/state";
    http.post(state, &save).await.expect_status(204);
    let reply = http.get(&format!("{state}/k")).await.expect_status(200);
    assert_eq!(reply.json(), json!({"a": 1}));
    let timer = json!({"dueTime": "0s", "period": "10ms", "data": "d"});
    let tick = "/v1.0/actors/kind/1/timers/tick";
    http.post(tick, &timer).await.expect_status(204);
    let ticks = app.called("/actors/kind/1/method/timer/tick", 2).await;
    assert_eq!(ticks[0].json()["data"], "d");
    http.delete(tick).await.expect_status(204);
    let metadata = daprd.metadata().await;
    let runtime = &metadata["actorRuntime"];
    assert_eq!(runtime["runtimeStatus"], "RUNNING");
    assert_eq!(runtime["placement"], "placement: connected");
    assert_eq!(
        runtime["activeActors"],
        json!([{"type": "kind", "count": 1}])
    );
    http.put("/v1.0/actors/kind/1/method/none", "")
        .await
        .expect_error(500, "ERR_ACTOR_INVOKE_METHOD");
}

#[tokio::test]
async fn actors_stay_where_they_are_while_their_store_changes_under_its_name() {
    let placement = Placement::builder().start().await;
    let app = app("app", &Book::new()).await;
    let daprd = daprd("app", &app, &placement).await;
    hosts(&placement, 1).await;
    assert_eq!(who(&daprd, 1).await, "app");
    let save = json!([{"operation": "upsert", "request": {"key": "k", "value": 1}}]);
    let state = "/v1.0/actors/kind/1/state";
    daprd.http().post(state, &save).await.expect_status(204);
    let changed = [("actorStateStore", "true"), ("keyPrefix", "name")];
    daprd.write_resource("0.yaml", &component("store", "state.in-memory", &changed));
    daprd
        .logged("Actor state store store updated - actor hosting continues")
        .await;
    let key = format!("{state}/k");
    assert_eq!(daprd.http().get(&key).await.status, 204, "another store");
    assert_eq!(who(&daprd, 1).await, "app");
    assert_eq!(
        app.calls("/actors/kind/1").len(),
        0,
        "it was not deactivated"
    );

    // A second one for actors has to wait for the first to go.
    let second = component("second", "state.in-memory", &[("actorStateStore", "true")]);
    daprd.write_resource("1.yaml", &second);
    daprd
        .logged("store is already the actor state store, only one actor state store is allowed")
        .await;
    assert_eq!(who(&daprd, 1).await, "app");
    daprd.remove_resource("0.yaml");
    daprd
        .logged("Actor state store second configured - enabling actor hosting")
        .await;
    hosts(&placement, 1).await;
    assert_eq!(who(&daprd, 1).await, "app");
    daprd.stop().await;
}
