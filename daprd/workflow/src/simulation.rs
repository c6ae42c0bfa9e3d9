//! Workflows on several sidecars, under chance: calls are lost, doubled and answered in vain, stores and schedulers fail before or after
//! they have done what they were asked, sidecars are lost between any two steps, and instances move while somebody still works on
//! them. The sidecars, their workers and their clock are in one thread and in simulated time, so a seed is a run. Whatever happens,
//! a history only grows, nothing in it is said twice, and each workflow comes to its one result.

mod chance;
mod cost;
mod faults;
mod network;
mod program;
mod scenarios;
mod scheduler;
mod store;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::Message;
use proto::durabletask::{
    CreateInstanceRequest, GetInstanceRequest, HistoryEvent, OrchestrationStatus as Status,
    PurgeInstancesRequest, RaiseEventRequest, TerminateRequest, history_event::EventType,
    purge_instances_request::Request,
};
use tokio::time::{Instant, sleep};

use crate::{
    Engine, Error,
    core::{event, fold::Fold, resolution},
};
use chance::Chance;
use network::World;
use program::EVENTS;

/// Runs `test` in simulated time, in one thread.
fn simulate(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(test);
}

/// Repeats what a client does until it hears that it was done.
async fn insist<T, Call>(call: impl Fn() -> Call) -> T
where
    Call: Future<Output = Result<T, Error>>,
{
    loop {
        let asked = tokio::time::timeout(Duration::from_secs(5), call());
        match asked.await {
            Ok(Ok(done)) => return done,
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn start(world: &World, instance: &str, name: &str, input: &str) {
    let request = CreateInstanceRequest {
        instance_id: instance.to_owned(),
        name: name.to_owned(),
        input: Some(input.to_owned()),
        ..CreateInstanceRequest::default()
    };
    loop {
        let engine = world.any();
        let asked = engine.start(request.clone());
        match tokio::time::timeout(Duration::from_secs(5), asked).await {
            // A start whose answer was lost has been a start.
            Ok(Ok(_) | Err(Error::Exists(_))) => return,
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn raise(world: &World, instance: &str, number: usize) {
    let raise = || async {
        let engine = world.any();
        let request = RaiseEventRequest {
            instance_id: instance.to_owned(),
            name: "go".to_owned(),
            // What has one name, time and input is one event, and the sidecars have one clock.
            input: Some(number.to_string()),
            ..RaiseEventRequest::default()
        };
        engine.raise_event(request).await
    };
    insist(raise).await;
}

async fn terminate(world: &World, instance: &str) {
    let terminate = || async {
        let engine = world.any();
        let request = TerminateRequest {
            instance_id: instance.to_owned(),
            output: Some("stop".to_owned()),
            recursive: true,
            ..TerminateRequest::default()
        };
        engine.terminate(request).await
    };
    insist(terminate).await;
}

async fn purge(world: &World, instance: &str) {
    let purge = || async {
        let engine = world.any();
        let request = PurgeInstancesRequest {
            request: Some(Request::InstanceId(instance.to_owned())),
            ..PurgeInstancesRequest::default()
        };
        match engine.purge(request).await {
            Err(Error::NotFound) => Ok(()),
            other => other.map(drop),
        }
    };
    insist(purge).await;
}

async fn state(engine: &Engine, instance: &str) -> Option<proto::durabletask::WorkflowState> {
    let request = GetInstanceRequest {
        instance_id: instance.to_owned(),
        get_inputs_and_outputs: true,
        router: None,
    };
    engine.state(request).await.ok().flatten()
}

/// Waits until an instance has ended.
async fn ended(world: &World, instance: &str, seed: u64) -> proto::durabletask::WorkflowState {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(state) = state(&world.any(), instance).await
            && matches!(
                state.workflow_status(),
                Status::Completed | Status::Terminated | Status::Failed
            )
        {
            return state;
        }
        assert!(
            Instant::now() < end,
            "seed {seed}: {instance} has not ended: {:?}, {:?}, its child {:?}, jobs {:?}",
            world
                .any()
                .state(GetInstanceRequest {
                    instance_id: instance.to_owned(),
                    ..GetInstanceRequest::default()
                })
                .await
                .err(),
            kinds(&world.store.history(instance)),
            kinds(&world.store.history(&format!("{instance}:0005"))),
            world.scheduler.names(),
        );
        sleep(Duration::from_millis(100)).await;
    }
}

fn kinds(history: &[HistoryEvent]) -> Vec<&'static str> {
    history.iter().map(event::kind).collect()
}

/// Nothing of a history is said twice, everything that it waits for has been asked for before, and every result is that of this asking.
fn check(history: &[HistoryEvent], seed: u64) {
    let mut fold = Fold::default();
    let mut asked = HashMap::new();
    let mut completed = 0;
    for event in history {
        let kind = event::kind(event);
        assert!(fold.add(event), "seed {seed}: {kind} comes twice");
        if let Some(awaited) = resolution::awaited(event) {
            let before = asked.insert(awaited, event);
            assert_eq!(before, None, "seed {seed}: {kind} is asked for twice");
        }
        if let Some(resolved) = resolution::of(event) {
            let asked = asked.get(&resolved);
            assert!(asked.is_some(), "seed {seed}: {kind} was not asked for");
            if let (Some(EventType::TaskCompleted(it)), Some(asked)) = (&event.event_type, asked) {
                let execution = resolution::execution(asked);
                assert_eq!(
                    it.result.as_deref(),
                    execution,
                    "seed {seed}: {kind} of another run"
                );
            }
        }
        completed += usize::from(matches!(
            event.event_type,
            Some(EventType::ExecutionCompleted(_))
        ));
    }
    assert_eq!(completed, 1, "seed {seed}: ends");
}

async fn run(seed: u64, fast_path: bool) {
    let chance = Arc::new(Chance::new(seed));
    let world = World::new(Arc::clone(&chance), fast_path).await;
    let reborn = async {
        start(&world, "reborn", "ship", "once").await;
        ended(&world, "reborn", seed).await;
        purge(&world, "reborn").await;
        start(&world, "reborn", "ship", "again").await;
    };
    let driver = async {
        start(&world, "order", "order", "0").await;
        start(&world, "doomed", "endless", "").await;
        for number in 0..EVENTS {
            raise(&world, "order", number).await;
        }
        terminate(&world, "doomed").await;
        reborn.await;
        for instance in ["order", "doomed", "reborn"] {
            ended(&world, instance, seed).await;
        }
    };
    let chaos = async {
        let end = Instant::now() + CHAOS;
        while Instant::now() < end {
            sleep(chance.millis(400)).await;
            world.disturb().await;
        }
        chance.calm();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = driver => chance.calm(),
        () = chaos => {}
    }
    for (instance, output) in [("order", "done in 2"), ("reborn", "shipped again")] {
        let state = ended(&world, instance, seed).await;
        assert_eq!(state.workflow_status(), Status::Completed, "seed {seed}");
        assert_eq!(state.output.as_deref(), Some(output), "seed {seed}");
        check(&world.store.history(instance), seed);
    }
    let doomed = ended(&world, "doomed", seed).await;
    assert_eq!(doomed.workflow_status(), Status::Terminated, "seed {seed}");
    check(&world.store.history("doomed"), seed);
    // The second may have been terminated before it had a child.
    let child = state(&world.any(), "doomed:0001").await;
    let children = ["order:0005"]
        .into_iter()
        .chain(child.map(|_| "doomed:0001"));
    for child in children {
        ended(&world, child, seed).await;
        check(&world.store.history(child), seed);
    }
    quiet(&world, seed).await;
    let broken = world.store.violations();
    assert!(broken.is_empty(), "seed {seed}: {broken:?}");
    world.end().await;
}

/// Nothing is left that would wake anybody.
async fn quiet(world: &World, seed: u64) {
    let end = Instant::now() + PATIENCE;
    loop {
        let jobs = world.scheduler.names();
        if jobs.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "seed {seed}: {jobs:?} are left");
        sleep(Duration::from_millis(100)).await;
    }
}

/// How long it goes wrong, and how long workflows may take to end after that; in simulated time.
const CHAOS: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn whatever_happens_a_workflow_comes_to_its_one_result() {
    all_seeds(false);
}

#[test]
fn on_the_fast_path_too() {
    all_seeds(true);
}

fn all_seeds(fast_path: bool) {
    let seeds = seeds();
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            simulate(run(seed, fast_path));
        }
    };
    std::thread::scope(|threads| {
        let parallel = std::thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..parallel).map(|_| threads.spawn(work)).collect();
        for worker in workers {
            if let Err(failed) = worker.join() {
                std::panic::resume_unwind(failed);
            }
        }
    });
}

/// Which seeds are to be run: `7`, or `400..500`; those below [`SEEDS`] where nothing is said.
const CHOSEN: &str = "WORKFLOW_SEEDS";

/// How many runs, of about 10 ms each, or 90 ms where nothing is optimised.
const SEEDS: u64 = if cfg!(debug_assertions) { 400 } else { 1000 };

fn seeds() -> Range<u64> {
    let Ok(chosen) = std::env::var(CHOSEN) else {
        return 0..SEEDS;
    };
    let number = |text: &str| -> u64 { text.parse().expect("a seed is a number") };
    match chosen.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&chosen)..number(&chosen) + 1,
    }
}

/// Decodes what a store keeps.
fn decode(value: &[u8]) -> HistoryEvent {
    HistoryEvent::decode(value).expect("an event")
}
