//! What turns and janitors cost where there is much under way.

use super::*;

fn calmly<Run>(scenario: impl FnOnce(World) -> Run)
where
    Run: Future<Output = World>,
{
    simulate(async {
        let chance = Arc::new(Chance::new(0));
        chance.calm();
        let world = scenario(World::new(chance, true).await).await;
        world.end().await;
    });
}

/// The janitor kept an instance from everybody while it asked for each of its activities in turn.
#[test]
fn a_janitor_asks_for_many_activities_at_the_same_time() {
    calmly(|world| async {
        start(&world, "busy", "busy", "160 never").await;
        while world.store.history("busy").len() < 160 {
            sleep(Duration::from_millis(10)).await;
        }
        world.scheduler.slow.store(100, Ordering::Relaxed);
        // The next looks of the janitor.
        let mut slowest = Duration::ZERO;
        for number in 0..60 {
            let began = Instant::now();
            raise(&world, "busy", number).await;
            slowest = slowest.max(began.elapsed());
            sleep(Duration::from_millis(100)).await;
        }
        assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
        world
    });
}

/// Each completion woke the instance, though one look takes many.
#[test]
fn one_wake_up_is_enough_for_many_completions() {
    calmly(|world| async {
        start(&world, "busy", "busy", "400 task").await;
        let state = ended(&world, "busy", 0).await;
        assert_eq!(state.output.as_deref(), Some("all"));
        assert!(world.woken() < 100, "{} wake-ups", world.woken());
        world
    });
}

/// An instance that has ended got a janitor with each event that came late.
#[test]
fn nobody_looks_after_what_has_ended() {
    calmly(|world| async {
        start(&world, "reborn", "ship", "once").await;
        ended(&world, "reborn", 0).await;
        quiet(&world, 0).await;
        let made = world.scheduler.made("reborn", "new-event-janitor");
        for number in 0..10 {
            raise(&world, "reborn", number).await;
        }
        quiet(&world, 0).await;
        let now = world.scheduler.made("reborn", "new-event-janitor");
        assert_eq!(now, made);
        world
    });
}

/// With policies, each call of another app read and verified the whole history of the instance.
#[test]
fn a_history_is_read_once_for_all_calls_that_come_until_it_changes() {
    calmly(|world| async {
        start(&world, "doomed", "endless", "").await;
        while world.store.history("doomed").len() < 9 {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_secs(1)).await;
        let policy = r#"{"apiVersion":"dapr.io/v1alpha1","kind":"WorkflowAccessPolicy","metadata":{"name":"p"},
            "spec":{"rules":[{"callers":[{"appID":"till"}],"workflows":[{"name":"endless","operations":["raise"]}]}]}}"#;
        world.set_access(&serde_json::from_str(policy).expect("a policy"));
        let before = world.store.read();
        let terminated = EventType::ExecutionTerminated(Default::default());
        let terminated = event::plain(Default::default(), terminated);
        for _ in 0..20 {
            let denied = world.tell_as("till", "doomed", &terminated).await;
            assert!(denied.is_err(), "nobody allows it");
        }
        assert_eq!(world.store.read() - before, 9);
        // It has changed, and is looked at again.
        raise(&world, "doomed", 0).await;
        sleep(Duration::from_secs(1)).await;
        let (events, before) = (world.store.history("doomed").len(), world.store.read());
        let raised = EventType::EventRaised(Default::default());
        let raised = event::plain(Default::default(), raised);
        let allowed = world.tell_as("till", "doomed", &raised).await;
        assert!(allowed.is_ok(), "a rule allows it");
        assert!(world.store.read() - before >= events);
        world
    });
}

/// The size of a turn was measured over the whole history each time.
#[test]
fn what_is_counted_is_what_would_be_measured() {
    calmly(|world| async {
        start(&world, "doomed", "endless", "").await;
        while world.store.history("doomed").len() < 9 {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_secs(1)).await;
        let mut record = world.record("doomed").await;
        check_size(&record);
        let more = record.history[..2].to_vec();
        let (kept, mut history) = (record.history.len(), record.history.clone());
        history.extend(more.clone());
        let fold = Fold::of(&history);
        record.set_history(history, kept, fold);
        check_size(&record);
        let signing = crate::signing::Signing::new(None, "shop", "ns");
        let (state, actor) = (world.state(), network::others::actor("doomed"));
        let now = jiff::Timestamp::UNIX_EPOCH;
        let saved = record.save(&state, &actor, &signing, now).await;
        saved.expect("saved");
        check_size(&record);
        record.set_history(more.clone(), 0, Fold::of(&more));
        check_size(&record);
        world
    });
}

fn check_size(record: &crate::record::Record) {
    let measured = record.history.iter().chain(&record.inbox);
    let measured: usize = measured.map(Message::encoded_len).sum();
    assert_eq!(record.size(), measured);
}
