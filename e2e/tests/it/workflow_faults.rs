//! Workflows on three sidecars of one app with one store, while what they run on is killed, paused, restarted, or answers in vain.
//! Whatever happens, each instance comes to its one result, every activity has been begun at least once, and a history says
//! nothing twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{
    Daprd, Placement, Scheduler, ports,
    process::Signal,
    proxy::Proxy,
    redis::Redis,
    wait,
    worker::{self, Outcome, Skills, TaskHub, Worker, Workflow},
};
use futures::{FutureExt, future::LocalBoxFuture};
use proto::durabletask::{GetInstanceHistoryRequest, HistoryEvent, history_event::EventType};
use tempfile::TempDir;

use crate::{resources::component, workflow::start};

const SIDECARS: usize = 3;
/// Enough that each sidecar has some.
const ORDERS: usize = 12;
const ROUNDS: usize = 3;

/// Reserves and charges, has a workflow of its own ship it, and begins anew, with the same numbers and the same child.
fn order(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        let input = workflow.input();
        let (id, round) = input.split_once('/').ok_or("no round")?;
        let reserved = workflow.activity("reserve", &input).await?;
        let charged = workflow.activity("charge", &reserved).await?;
        let child = format!("shipment-{id}");
        let shipped = workflow.child("shipment", &child, &charged).await?;
        let round: usize = round.parse().map_err(|_| "no number".to_owned())?;
        if round < ROUNDS {
            return workflow.again(&format!("{id}/{}", round + 1)).await;
        }
        Ok(shipped)
    }
    .boxed_local()
}

fn shipment(workflow: Workflow) -> LocalBoxFuture<'static, Outcome> {
    async move {
        workflow.sleep(Duration::from_millis(20)).await;
        workflow.activity("ship", &workflow.input()).await
    }
    .boxed_local()
}

/// What the workers can do, and how often activities have been begun.
fn skills(begun: &Arc<AtomicUsize>) -> Skills {
    let tell = |what: &'static str| {
        let begun = Arc::clone(begun);
        move |input: String| {
            begun.fetch_add(1, Ordering::SeqCst);
            async move { Ok(format!("{what} {input}")) }
        }
    };
    Skills::default()
        .workflow("order", order)
        .workflow("shipment", shipment)
        .activity("reserve", tell("reserved"))
        .activity("charge", tell("charged"))
        .activity("ship", tell("shipped"))
}

fn id(number: usize) -> String {
    format!("order-{number}")
}

/// Everything that there is.
struct World {
    placement: Option<Placement>,
    placement_port: u16,
    scheduler: Option<Scheduler>,
    to_scheduler: Proxy,
    jobs: TempDir,
    _redis: Redis,
    to_redis: Proxy,
    sidecars: Vec<Option<(Daprd, Worker)>>,
    skills: Skills,
    begun: Arc<AtomicUsize>,
}

impl World {
    async fn new() -> Self {
        let jobs = tempfile::tempdir().expect("a temporary folder");
        let placement_port = ports::reserve().release();
        let (placement, scheduler, redis) = tokio::join!(
            Placement::builder().port(placement_port).start(),
            Scheduler::builder().data(&jobs).start(),
            Redis::start(),
        );
        let to_scheduler = Proxy::start(&scheduler.address()).await;
        let to_redis = Proxy::start(&redis.address()).await;
        let begun = Arc::default();
        let mut world = Self {
            placement: Some(placement),
            placement_port,
            scheduler: Some(scheduler),
            to_scheduler,
            jobs,
            _redis: redis,
            to_redis,
            sidecars: Vec::new(),
            skills: skills(&begun),
            begun,
        };
        let started = (0..SIDECARS).map(|_| world.daprd().start());
        for daprd in futures::future::join_all(started).await {
            let worker = Worker::start(&daprd, &world.skills).await;
            world.sidecars.push(Some((daprd, worker)));
        }
        world
    }

    fn daprd(&self) -> e2e::daprd::Builder {
        let store = component(
            "store",
            "state.redis",
            &[
                ("redisHost", self.to_redis.address.as_str()),
                ("actorStateStore", "true"),
            ],
        );
        let placement = format!("127.0.0.1:{}", self.placement_port);
        Daprd::builder("workflow-faults")
            .flag("placement-host-address", &placement)
            .flag("scheduler-host-address", &self.to_scheduler.address)
            .resources(&store)
    }

    /// A sidecar that is there.
    fn any(&self) -> &Daprd {
        let mut there = self.sidecars.iter().flatten();
        &there.next_back().expect("one is there").0
    }

    async fn start_orders(&self) {
        for number in 0..ORDERS {
            start(self.any(), "order", &id(number), &format!("{number}/1")).await;
        }
    }

    /// Waits until so many activities more have been begun.
    async fn goes_on(&self, count: usize) {
        let until = self.begun.load(Ordering::SeqCst) + count;
        wait::eventually("workflows to go on", LONG, || async {
            self.begun.load(Ordering::SeqCst) >= until
        })
        .await;
    }

    /// Waits for the ends of all orders, and looks what became of them.
    async fn check(&self) {
        let daprd = self.any();
        for number in 0..ORDERS {
            let (status, outcome) = worker::ended(daprd, &id(number)).await;
            assert_eq!(status, "COMPLETED", "{number}: {outcome:?}");
            let last = format!("shipped charged reserved {number}/{ROUNDS}");
            assert_eq!(outcome, Ok(last), "{number}");
            for round in 1..=ROUNDS {
                let mut input = format!("{number}/{round}");
                for (activity, what) in [
                    ("reserve", "reserved"),
                    ("charge", "charged"),
                    ("ship", "shipped"),
                ] {
                    let runs = self.skills.runs(activity, &input);
                    assert!(runs >= 1, "{activity}({input}) was not begun");
                    input = format!("{what} {input}");
                }
            }
            for instance in [id(number), format!("shipment-{number}")] {
                said_once(&instance, &history(daprd, &instance).await);
            }
        }
    }
}

async fn history(daprd: &Daprd, instance: &str) -> Vec<HistoryEvent> {
    let mut hub = TaskHub::new(daprd.channel());
    let request = GetInstanceHistoryRequest {
        instance_id: instance.to_owned(),
    };
    let answer = hub.get_instance_history(request).await;
    answer.expect("it is there").into_inner().events
}

/// Every task, timer and child is asked for once and resolved once, and there is one start and one end.
fn said_once(instance: &str, history: &[HistoryEvent]) {
    let mut said: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for event in history {
        let said_now = match &event.event_type {
            Some(EventType::ExecutionStarted(_)) => ("started", 0),
            Some(EventType::ExecutionCompleted(_)) => ("ended", 0),
            Some(
                EventType::TaskScheduled(_)
                | EventType::TimerCreated(_)
                | EventType::ChildWorkflowInstanceCreated(_),
            ) => ("asked", event.event_id),
            Some(EventType::TaskCompleted(it)) => ("resolved", it.task_scheduled_id),
            Some(EventType::TimerFired(it)) => ("resolved", it.timer_id),
            Some(EventType::ChildWorkflowInstanceCompleted(it)) => {
                ("resolved", it.task_scheduled_id)
            }
            _ => continue,
        };
        *said.entry(said_now).or_default() += 1;
    }
    assert!(
        said.values().all(|times| *times == 1),
        "{instance}: {said:?}"
    );
    assert!(said.contains_key(&("ended", 0)), "{instance}: {said:?}");
    let count = |what| said.keys().filter(|(kind, _)| *kind == what).count();
    assert_eq!(count("asked"), count("resolved"), "{instance}: {said:?}");
}

#[tokio::test]
async fn while_sidecars_are_killed() {
    let mut world = World::new().await;
    world.start_orders().await;
    for place in 0..SIDECARS - 1 {
        world.goes_on(ORDERS / 2).await;
        let (daprd, worker) = world.sidecars[place].take().expect("it is there");
        daprd.kill().await;
        drop(worker);
    }
    world.check().await;
}

#[tokio::test]
async fn while_a_sidecar_is_paused_until_others_have_its_instances() {
    let world = World::new().await;
    world.start_orders().await;
    world.goes_on(ORDERS / 2).await;
    let (paused, _) = world.sidecars[0].as_ref().expect("it is there");
    paused.signal(Signal::Stop).await;
    world.check().await;
    let of_all = async || {
        let mut all = Vec::new();
        for number in 0..ORDERS {
            all.push(history(world.any(), &id(number)).await);
        }
        all
    };
    let before = of_all().await;
    paused.signal(Signal::Continue).await;
    worker::hosted(paused).await;
    // What it was at when it was paused it has done by the time that it has had something new to do.
    for number in 0..ORDERS {
        let again = id(ORDERS + number);
        start(
            paused,
            "order",
            &again,
            &format!("{}/{ROUNDS}", ORDERS + number),
        )
        .await;
        assert_eq!(worker::ended(paused, &again).await.0, "COMPLETED");
    }
    assert_eq!(of_all().await, before, "what had ended has changed");
    world.check().await;
}

#[tokio::test]
async fn while_the_scheduler_is_killed_and_comes_back() {
    let mut world = World::new().await;
    world.start_orders().await;
    for _ in 0..2 {
        world.goes_on(ORDERS / 2).await;
        world.scheduler.take().expect("it is there").kill().await;
        let scheduler = Scheduler::builder().data(&world.jobs).start().await;
        world.to_scheduler.lead_to(&scheduler.address());
        world.to_scheduler.cut();
        world.scheduler = Some(scheduler);
    }
    world.check().await;
}

#[tokio::test]
async fn while_placement_is_killed_and_comes_back() {
    let mut world = World::new().await;
    world.start_orders().await;
    for _ in 0..2 {
        world.goes_on(ORDERS / 2).await;
        drop(world.placement.take());
        let placement = Placement::builder().port(world.placement_port);
        world.placement = Some(placement.start().await);
    }
    world.check().await;
}

/// The store executes transactions, and nobody hears of it: the connection breaks instead.
#[tokio::test]
async fn while_the_store_writes_and_does_not_say_so() {
    const UNHEARD: u32 = 30;
    let world = World::new().await;
    world.start_orders().await;
    world.to_redis.lose_answers(UNHEARD, b"EVAL");
    world.check().await;
    let left = world.to_redis.answers_to_lose();
    assert!(left < UNHEARD / 2, "{left} of {UNHEARD} were not lost");
}

/// Long enough for a takeover.
const LONG: Duration = Duration::from_secs(60);
