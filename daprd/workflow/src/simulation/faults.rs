//! What stuck or was lost where something failed at the wrong moment.

use super::{
    scenarios::{output, several},
    *,
};

/// A workflow that began a workflow of its own id waited for itself, for ever.
#[test]
fn a_workflow_begins_itself() {
    several(|world| async {
        start(&world, "afresh", "afresh", "afresh").await;
        let output = output(&world, "afresh").await;
        assert_eq!(output.as_deref(), Some("begun"));
        world
    });
}

/// The child that has ended tells its parent so before its id is used again, and the parent waited for the child meanwhile.
#[test]
fn a_workflow_begins_its_own_child_anew() {
    several(|world| async {
        start(&world, "afresh", "afresh", "afresh:0001").await;
        assert_eq!(output(&world, "afresh").await.as_deref(), Some("begun"));
        let again = output(&world, "afresh:0001").await;
        assert_eq!(again.as_deref(), Some("shipped afresh"));
        check(&world.store.history("afresh"), 0);
        world
    });
}

/// Whoever was asked for something and never answered kept whoever had asked from everything else.
#[test]
fn somebody_never_answers() {
    several(|world| async {
        world.silence(&["island", "order:0005"]);
        start(&world, "afresh", "afresh", "island").await;
        start(&world, "order", "order", "0").await;
        for number in 0..EVENTS {
            raise(&world, "order", number).await;
        }
        sleep(Duration::from_secs(20)).await;
        world.silence(&[]);
        assert_eq!(output(&world, "afresh").await.as_deref(), Some("begun"));
        let outcome = output(&world, "order").await;
        assert_eq!(outcome.as_deref(), Some("done in 2"));
        assert_eq!(
            output(&world, "island").await.as_deref(),
            Some("shipped afresh")
        );
        world
    });
}

/// A scheduler that failed at the wrong moment had what a turn was to tell others forgotten: the turn was stored by then.
#[test]
fn a_scheduler_fails_while_a_turn_is_stored() {
    several(|world| async {
        start(&world, "tally", "tally", &"0,".repeat(49)).await;
        start(&world, "doomed", "endless", "").await;
        start(&world, "herald", "herald", "tally doomed").await;
        while world.store.history("herald").is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        // Whoever has it now does not know what is open.
        world.move_all();
        world.scheduler.refuses.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(3)).await;
        world.scheduler.refuses.store(false, Ordering::Relaxed);
        let state = ended(&world, "doomed", 0).await;
        assert_eq!(state.workflow_status(), Status::Terminated);
        let tally = output(&world, "tally").await;
        assert_eq!(tally, Some("0,".repeat(50)));
        terminate(&world, "herald").await;
        ended(&world, "herald", 0).await;
        world
    });
}

/// A sidecar that was lost while it ended an instance whose rows had been changed left nothing that would have told the parent.
#[test]
fn a_sidecar_is_lost_while_it_ends_what_was_tampered_with() {
    for fast_path in [false, true] {
        let mut effects = 0;
        while is_cut_after(effects, fast_path) {
            effects += 1;
        }
        assert!(effects > 3, "an end has some effects");
    }
}

/// Whether so many effects were had, and one more.
fn is_cut_after(effects: usize, fast_path: bool) -> bool {
    let mut cut = false;
    simulate(async {
        let chance = Arc::new(Chance::new(1));
        chance.calm();
        let world = World::new(Arc::clone(&chance), fast_path).await;
        start(&world, "guardian", "guardian", "").await;
        // Its activity has run, and it waits for a timer.
        while world.store.history("guardian:0005").len() < 9 {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_secs(1)).await;
        world.store.tamper("guardian:0005");
        world.lose_all();
        sleep(Duration::from_millis(100)).await;
        chance.cut_after(Some(effects));
        let engine = world.any();
        let request = RaiseEventRequest {
            instance_id: "guardian:0005".to_owned(),
            name: "look".to_owned(),
            ..RaiseEventRequest::default()
        };
        let looked = engine.raise_event(request);
        let _ = tokio::time::timeout(Duration::from_secs(1), looked).await;
        cut = chance.is_cut();
        chance.cut_after(None);
        if cut {
            world.lose_all();
        }
        let guardian = output(&world, "guardian").await;
        assert_eq!(guardian.as_deref(), Some("heard"), "{effects} effects");
        let failed = ended(&world, "guardian:0005", 1).await;
        assert_eq!(
            failed.workflow_status(),
            Status::Failed,
            "{effects} effects"
        );
        world.end().await;
    });
    cut
}
