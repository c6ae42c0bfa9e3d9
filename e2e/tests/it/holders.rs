//! One holder at a time: actors count in a state store while hosts join, leave, die and are stopped, and while members of
//! placement go. No turns of an actor overlap, no count that a caller has heard is lost, and in the end every call works.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use e2e::app::Answer;
use e2e::http::Client;
use e2e::process::Signal;
use e2e::proxy::Proxy;
use e2e::redis::Redis;
use e2e::turns::Book;
use e2e::{App, Daprd, wait};
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::placement::Cluster;
use crate::resources::component;

const ACTORS: u32 = 10;

/// Callers of each actor.
const CALLERS: usize = 2;

/// How long a caller waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Hosts of one app, and a sidecar without actors through which all is called.
struct World {
    placement: Cluster,
    redis: Redis,
    book: Book,
    caller: Arc<Daprd>,
    hosts: BTreeMap<usize, Host>,
}

struct Host {
    daprd: Daprd,
    _app: App,
}

impl World {
    async fn start(hosts: usize) -> Self {
        let placement = Cluster::start(None).await;
        placement.leader().await;
        let caller =
            Daprd::builder("caller").flag("placement-host-address", &placement.addresses());
        let mut world = Self {
            caller: Arc::new(caller.start().await),
            placement,
            redis: Redis::start().await,
            book: Book::default(),
            hosts: BTreeMap::new(),
        };
        for number in 0..hosts {
            world.join(number).await;
        }
        world
    }

    async fn join(&mut self, number: usize) {
        let placement = self.placement.addresses();
        self.join_by(number, &placement).await;
    }

    async fn join_by(&mut self, number: usize, placement: &str) {
        let own = Arc::new(OnceLock::new());
        let app = counting(number, &self.book, &own).await;
        let redis = self.redis.address();
        let metadata = [("redisHost", redis.as_str()), ("actorStateStore", "true")];
        let daprd = Daprd::builder("counters")
            .app(&app)
            .resources(&component("store", "state.redis", &metadata))
            .flag("placement-host-address", placement)
            .start()
            .await;
        own.get_or_init(|| daprd.http());
        self.hosts.insert(number, Host { daprd, _app: app });
        self.settled().await;
    }

    fn take(&mut self, number: usize) -> Daprd {
        self.hosts.remove(&number).expect("it was there").daprd
    }

    /// Waits until placement has all hosts in its table, and no other.
    async fn settled(&self) {
        wait::eventually("the hosts in the table", wait::DEADLINE, || async {
            self.in_table().await == self.hosts.len()
        })
        .await;
    }

    async fn in_table(&self) -> usize {
        let leader = self.placement.leader().await;
        let leader = self.placement.members[leader].as_ref().expect("it leads");
        let state = leader.state().await;
        let hosts = state["tables"]["default"]["hosts"].as_array().cloned();
        let counts = |host: &&serde_json::Value| host["id"] == "counters";
        hosts.unwrap_or_default().iter().filter(counts).count()
    }

    /// Calls all actors until the load is over.
    fn load(&self) -> Load {
        let stop = CancellationToken::new();
        let mut callers = JoinSet::new();
        for actor in (0..ACTORS).cycle().take(ACTORS as usize * CALLERS) {
            let (stop, book, http) = (stop.clone(), self.book.clone(), self.caller.http());
            callers.spawn(async move {
                while !stop.is_cancelled() {
                    if let Some(count) = count(&http, actor).await {
                        book.acknowledged(actor, count);
                    }
                }
            });
        }
        Load { stop, callers }
    }

    /// Waits until each actor has counted so much further.
    async fn counted(&self, more: usize) {
        let before = self.book.counts();
        let what = format!("{more} more calls of each actor");
        wait::eventually(&what, wait::DEADLINE, || async {
            let now = self.book.counts();
            (0..ACTORS).all(|actor| {
                let of = |counts: &BTreeMap<_, _>| counts.get(&actor).copied().unwrap_or_default();
                of(&now) >= of(&before) + more
            })
        })
        .await;
    }

    /// Ends the load; then every call works at once, and the book is in order.
    async fn check(self, mut load: Load) {
        load.stop.cancel();
        let ended = async { while load.callers.join_next().await.is_some() {} };
        wait::within("the end of the load", wait::DEADLINE, ended).await;
        self.settled().await;
        let mut counted = BTreeMap::new();
        for actor in 0..ACTORS {
            let count = count(&self.caller.http(), actor).await;
            counted.insert(actor, count.expect("a call that works"));
        }
        self.book.check(&counted);
    }
}

struct Load {
    stop: CancellationToken,
    callers: JoinSet<()>,
}

/// Lets an actor count; `None` where the call fails or takes too long.
async fn count(http: &Client, actor: u32) -> Option<u64> {
    let path = format!("/v1.0/actors/counter/{actor}/method/count");
    let call = http.request(Method::PUT, &path).attempt();
    let reply = timeout(PATIENCE, call).await.ok()?.ok()?;
    (reply.status == 200).then(|| reply.text().parse().expect("a number"))
}

/// An app whose actors add one to what they have in the store, and write into the book when they do.
async fn counting(number: usize, book: &Book, own: &Arc<OnceLock<Client>>) -> App {
    let config = json!({"entities": ["counter"], "drainOngoingCallTimeout": "2s"});
    let mut app = App::builder().route("GET /dapr/config", Answer::json(&config));
    for actor in 0..ACTORS {
        let (book, own) = (book.clone(), Arc::clone(own));
        let path = format!("/actors/counter/{actor}");
        app = app.route(&path, Answer::status(200)).respond(
            &format!("{path}/method/count"),
            move |_| {
                let (book, own) = (book.clone(), Arc::clone(&own));
                async move {
                    let turn = book.enter(number, actor);
                    let Some(count) = own.get().map(|daprd| add_one(daprd, actor)) else {
                        return Answer::status(500);
                    };
                    match count.await {
                        Some(count) => {
                            turn.written();
                            Answer::bytes(count.to_string())
                        }
                        None => Answer::status(500),
                    }
                }
            },
        );
    }
    app.start().await
}

/// Reads, adds and writes; `None` where the sidecar refuses.
async fn add_one(daprd: &Client, actor: u32) -> Option<u64> {
    let state = format!("/v1.0/actors/counter/{actor}/state");
    let read = daprd.request(Method::GET, &format!("{state}/n"));
    let read = read.attempt().await.ok()?;
    let before = match read.status {
        200 => read.json().as_u64()?,
        204 => 0,
        _ => return None,
    };
    // Whoever else may be at the actor gets the time to be.
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let request = json!({"key": "n", "value": before + 1});
    let steps = json!([{"operation": "upsert", "request": request}]);
    let write = daprd.request(Method::POST, &state).json(&steps);
    let written = write.attempt().await.ok()?;
    (written.status == 204).then_some(before + 1)
}

#[tokio::test]
async fn while_hosts_join_leave_and_die() {
    let mut world = World::start(2).await;
    let load = world.load();
    world.counted(5).await;
    world.join(2).await;
    world.counted(5).await;
    world.take(0).stop().await;
    world.settled().await;
    world.counted(5).await;
    world.join(3).await;
    world.counted(5).await;
    world.book.breaks_off(2);
    world.take(2).kill().await;
    world.settled().await;
    world.counted(5).await;
    world.check(load).await;
}

#[tokio::test]
async fn while_a_host_is_stopped_until_others_have_its_actors() {
    let world = World::start(2).await;
    let load = world.load();
    world.counted(5).await;
    let host = &world.hosts[&0].daprd;
    world.book.breaks_off(0);
    host.signal(Signal::Stop).await;
    wait::eventually("the host out of the table", wait::DEADLINE, || async {
        world.in_table().await == 1
    })
    .await;
    world.counted(5).await;
    world.book.goes_on(0);
    host.signal(Signal::Continue).await;
    world.settled().await;
    world.counted(5).await;
    let began = Instant::now();
    world.counted(5).await;
    assert_eq!(world.book.hosts(began).len(), 2, "both have actors again");
    world.check(load).await;
}

#[tokio::test]
async fn while_a_host_is_cut_off_from_placement() {
    let mut world = World::start(1).await;
    let mut proxies = Vec::new();
    for port in world.placement.ports {
        proxies.push(Proxy::start(&format!("127.0.0.1:{port}")).await);
    }
    let addresses = proxies.iter().map(|proxy| proxy.address.as_str());
    let addresses: Vec<_> = addresses.collect();
    world.join_by(1, &addresses.join(",")).await;
    let load = world.load();
    world.counted(5).await;
    for _ in 0..2 {
        proxies.iter().for_each(|proxy| proxy.hold(true));
        wait::eventually("the host out of the table", wait::DEADLINE, || async {
            world.in_table().await == 1
        })
        .await;
        world.counted(5).await;
        proxies.iter().for_each(|proxy| proxy.hold(false));
        world.settled().await;
        world.counted(5).await;
    }
    world.check(load).await;
}

#[tokio::test]
async fn while_placement_fails_over() {
    let mut world = World::start(3).await;
    let load = world.load();
    for _ in 0..2 {
        world.counted(5).await;
        let leader = world.placement.leader().await;
        drop(world.placement.members[leader].take());
        world.settled().await;
        world.counted(5).await;
        world.placement.restart(leader).await;
    }
    world.check(load).await;
}
