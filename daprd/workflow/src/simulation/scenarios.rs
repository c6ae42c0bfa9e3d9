//! What has gone wrong with workflows elsewhere, each as it came about there, and some chance around it.

use proto::durabletask::WorkflowState;

use super::*;

/// Runs a scenario with some seeds, with the fast path and without. Nothing is lost and nobody fails, unless the scenario has it so; who goes first is chance.
pub fn several<Run>(scenario: impl Fn(World) -> Run)
where
    Run: Future<Output = World>,
{
    for (seed, fast_path) in (0..5).flat_map(|seed| [(seed, false), (seed, true)]) {
        simulate(async {
            let chance = Arc::new(Chance::new(seed));
            chance.calm();
            let world = scenario(World::new(chance, fast_path).await).await;
            quiet(&world, seed).await;
            let broken = world.store.violations();
            assert!(broken.is_empty(), "seed {seed}: {broken:?}");
            world.end().await;
        });
    }
}

pub async fn output(world: &World, instance: &str) -> Option<String> {
    let state: WorkflowState = ended(world, instance, 0).await;
    assert_eq!(state.workflow_status(), Status::Completed, "{instance}");
    state.output
}

/// A completion that comes after its workflow has begun anew hid the one with the same number that the new run waits for.
#[test]
fn completions_cross_a_new_run() {
    several(|world| async {
        start(&world, "order", "order", "0").await;
        for number in 0..EVENTS {
            raise(&world, "order", number).await;
        }
        assert_eq!(output(&world, "order").await.as_deref(), Some("done in 2"));
        check(&world.store.history("order"), 0);
        world
    });
}

/// Of many events that came while a workflow began anew at each of them some were lost, and some were taken twice.
#[test]
fn events_come_in_a_burst_while_the_workflow_begins_anew() {
    several(|world| async {
        start(&world, "tally", "tally", "").await;
        for number in 0..BURST {
            raise(&world, "tally", number).await;
        }
        let tally = output(&world, "tally").await.unwrap_or_default();
        let mut numbers: Vec<usize> = tally.split(',').filter_map(|it| it.parse().ok()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..BURST).collect::<Vec<_>>());
        world
    });
}

/// The parent of a child whose id was taken tried for ever.
#[test]
fn the_id_of_a_child_is_taken() {
    several(|world| async {
        start(&world, "order:0005", "endless", "").await;
        start(&world, "order", "order", "0").await;
        raise(&world, "order", 0).await;
        let outcome = output(&world, "order").await;
        assert_eq!(outcome.as_deref(), Some("round 0 has heard of None"));
        terminate(&world, "order:0005").await;
        ended(&world, "order:0005", 0).await;
        world
    });
}

/// A workflow that was terminated with its children hung where one of them was just then to report to it.
#[test]
fn a_workflow_is_terminated_while_its_child_ends() {
    several(|world| async {
        start(&world, "doomed", "endless", "").await;
        while world.store.history("doomed:0001").is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        terminate(&world, "doomed").await;
        for instance in ["doomed", "doomed:0001"] {
            ended(&world, instance, 0).await;
            check(&world.store.history(instance), 0);
        }
        world
    });
}

/// What an activity came to was told for ever to a workflow that had been purged.
#[test]
fn a_workflow_is_purged_while_its_activities_run() {
    several(|world| async {
        for _ in 0..3 {
            start(&world, "reborn", "ship", "now").await;
            ended(&world, "reborn", 0).await;
            purge(&world, "reborn").await;
        }
        world
    });
}

/// An id was used again, and what was left of the run before got in the way of the new one.
#[test]
fn an_id_is_used_again() {
    several(|world| async {
        for input in ["first", "second", "third"] {
            start(&world, "reborn", "ship", input).await;
            let shipped = format!("shipped {input}");
            assert_eq!(output(&world, "reborn").await, Some(shipped));
            check(&world.store.history("reborn"), 0);
        }
        world
    });
}

/// Who looked at a workflow between two of its writes was told that rows are missing.
#[test]
fn somebody_reads_between_the_rows() {
    several(|world| async {
        start(&world, "order", "order", "0").await;
        let look = async {
            loop {
                let engine = world.any();
                let request = GetInstanceRequest {
                    instance_id: "order".to_owned(),
                    get_inputs_and_outputs: true,
                    router: None,
                };
                engine.state(request).await.expect("it can be looked at");
                engine.history("order").await.expect("it can be read");
                tokio::task::yield_now().await;
            }
        };
        let work = async {
            for number in 0..EVENTS {
                raise(&world, "order", number).await;
            }
            ended(&world, "order", 0).await;
        };
        tokio::select! {
            () = look => {}
            () = work => {}
        }
        world
    });
}

/// More than a workflow may begin anew within a turn.
const BURST: usize = 50;
