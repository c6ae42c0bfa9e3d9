//! Jobs that are read anew.

use super::*;

#[test]
fn what_does_not_turn_up_in_a_reading_has_been_deleted() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.put(&app("ns", "app"), name, None, Some("10s"));
    }
    world.engine.begin_reading();
    let name = names::job(&app("ns", "app"), "a").unwrap();
    let value = world
        .engine
        .slots
        .get(world.engine.slots.find(&name).unwrap());
    let value = value.value().to_vec();
    world.engine.read(&name, 1, &value, None);
    world.engine.end_reading(2);
    // The third was written since.
    world.connect(1, &[], &[]);
    world.pass(10);
    assert_eq!(world.sent(), [to(1, "a", 1), to(1, "c", 2)]);
}

#[test]
fn jobs_of_a_store_that_has_gone_back_are_forgotten() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.put(&app("ns", "app"), name, None, Some("10s"));
    }
    world.engine.forget_later(2);
    world.connect(1, &[], &[]);
    world.pass(10);
    assert_eq!(world.sent(), [to(1, "a", 1), to(1, "b", 2)]);
}
