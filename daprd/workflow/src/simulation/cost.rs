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
