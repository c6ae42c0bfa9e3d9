//! What stuck or was lost where something failed at the wrong moment.

use super::{scenarios::output, *};

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
