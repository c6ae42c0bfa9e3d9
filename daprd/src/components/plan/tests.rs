//! Tests of the plan, one component after the other. What random sequences come to is tested with the sources.

use crds::component::Spec;

use super::*;

fn component(name: &str, component_type: &str) -> Component {
    let spec = Spec {
        component_type: component_type.to_owned(),
        ..Spec::default()
    };
    Component::new(name, spec)
}

/// A plan with a clock that stands still unless told otherwise.
struct World {
    plan: Plan,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            plan: Plan::default(),
            now: Instant::now(),
        }
    }

    fn want(&mut self, component: &Component) {
        self.plan.want(component.clone(), self.now);
    }

    fn unwant(&mut self, name: &str) {
        self.plan.unwant(name, self.now);
    }

    fn next(&mut self) -> Option<Step> {
        self.plan.next(self.now)
    }

    /// Takes the next step, which opens.
    fn opening(&mut self) -> (Component, Generation, Option<Component>) {
        match self.next() {
            Some(Step::Open {
                component,
                generation,
                replaces,
            }) => (component, generation, replaces.map(|it| *it)),
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self) -> Generation {
        let (component, generation, _) = self.opening();
        self.plan.opened(component, generation, self.now);
        generation
    }

    fn fail(&mut self) -> Option<Duration> {
        let (component, ..) = self.opening();
        self.plan.failed(&component, true, self.now, 1.0)
    }

    fn running(&self) -> Vec<&str> {
        let running = self.plan.running();
        running.map(|it| &*it.spec.component_type).collect()
    }

    fn failures(&self) -> Vec<(String, bool)> {
        let failures = self.plan.failures();
        failures
            .map(|it| (it.component.spec.component_type, it.previous_runs))
            .collect()
    }
}

#[test]
fn what_cannot_be_opened_leaves_the_one_before_in_use_and_is_tried_again() {
    let mut world = World::new();
    world.want(&component("a", "state.one"));
    world.open();
    world.want(&component("a", "state.two"));
    let pauses: Vec<u64> = (0..8)
        .map(|_| {
            let pause = world.fail().unwrap();
            assert_eq!(world.next(), None, "the pause holds");
            assert_eq!(world.plan.due(world.now), Some(world.now + pause));
            world.now += pause;
            pause.as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(world.running(), ["state.one"]);
    assert_eq!(world.failures(), [("state.two".to_owned(), true)]);
    world.open();
    assert_eq!(world.running(), ["state.two"]);
    assert_eq!(world.failures(), []);
    assert_eq!((world.next(), world.plan.due(world.now)), (None, None));
}

#[test]
fn a_change_of_type_that_fails_and_is_taken_back_keeps_the_old_component() {
    let mut world = World::new();
    let old = component("a", "state.one");
    world.want(&old);
    world.open();
    world.want(&component("a", "pubsub.two"));
    assert!(world.fail().is_some());
    world.want(&old);
    assert_eq!(world.failures(), []);
    assert_eq!((world.next(), world.plan.due(world.now)), (None, None));
    assert_eq!(world.running(), ["state.one"]);
}

#[test]
fn a_newer_change_or_a_removal_ends_the_pause() {
    let mut world = World::new();
    world.want(&component("a", "state.one"));
    world.fail();
    world.want(&component("a", "state.two"));
    world.open();
    assert_eq!(world.running(), ["state.two"]);
    world.want(&component("b", "state.one"));
    world.fail();
    world.unwant("b");
    assert_eq!((world.next(), world.plan.due(world.now)), (None, None));
    assert_eq!(world.failures(), []);
}

#[test]
fn what_no_attempt_would_change_waits_for_its_resource() {
    let mut world = World::new();
    world.want(&component("a", "unknown.one"));
    let (wanted, ..) = world.opening();
    assert_eq!(world.plan.failed(&wanted, false, world.now, 0.0), None);
    world.now += Duration::from_secs(3600);
    assert_eq!((world.next(), world.plan.due(world.now)), (None, None));
    assert_eq!(world.failures().len(), 1);
    world.want(&component("a", "state.one"));
    world.open();
    assert_eq!(world.running(), ["state.one"]);
}

#[test]
fn what_is_wanted_while_something_is_under_way_comes_next() {
    let mut world = World::new();
    let (one, two) = (component("a", "state.one"), component("a", "state.two"));
    world.want(&one);
    let (opening, generation, _) = world.opening();
    world.want(&two);
    assert_eq!(world.next(), None, "one step at a time");
    world.plan.opened(opening, generation, world.now);
    let (opening, generation, replaces) = world.opening();
    assert_eq!((&opening, replaces.as_ref()), (&two, Some(&one)));
    // Wanted as it runs again: the opening of the other one was for nothing, whatever becomes of it.
    world.want(&one);
    world.plan.failed(&opening, true, world.now, 1.0);
    assert_eq!((world.next(), world.running()), (None, vec!["state.one"]));
    world.want(&two);
    let (opening, later, _) = world.opening();
    assert!(later > generation);
    world.unwant("a");
    world.plan.opened(opening, later, world.now);
    assert_eq!(world.next(), Some(Step::Close(two)));
    // And while it is closed, it is wanted after all.
    world.want(&one);
    world.plan.closed("a", world.now);
    world.open();
    assert_eq!(world.running(), ["state.one"]);
}

#[test]
fn secret_stores_are_opened_before_those_that_refer_to_them() {
    let mut world = World::new();
    let mut user = component("a", "state.one");
    user.auth = Some(crds::Auth {
        secret_store: "z".to_owned(),
    });
    world.want(&user);
    world.want(&component("b", "state.two"));
    world.want(&component("z", "secretstores.one"));
    let (store, generation, _) = world.opening();
    assert_eq!(store.name(), "z");
    let (other, ..) = world.opening();
    assert_eq!(other.name(), "b");
    assert_eq!(world.next(), None);
    assert_eq!(
        world.plan.due(world.now),
        None,
        "the end of a step says when to look again"
    );
    world.plan.opened(store, generation, world.now);
    assert_eq!(world.opening().0.name(), "a");
}

#[test]
fn a_panic_has_the_component_opened_anew_with_growing_pauses() {
    let mut world = World::new();
    world.want(&component("a", "state.one"));
    let mut generation = world.open();
    for seconds in [1, 2, 4] {
        assert!(world.plan.broke("a", generation, world.now, 1.0));
        assert!(
            !world.plan.broke("a", generation, world.now, 1.0),
            "told twice"
        );
        assert_eq!(world.next(), None);
        world.now += Duration::from_secs(seconds);
        let before = generation;
        generation = world.open();
        assert!(!world.plan.broke("a", before, world.now, 1.0), "it is gone");
    }
    assert!(world.plan.is_at_rest("a", generation));
    world.now += SOUND_AFTER;
    assert!(world.plan.broke("a", generation, world.now, 1.0));
    world.now += FIRST_PAUSE;
    // In the middle of an opening, too.
    let before = generation;
    let (opening, generation, _) = world.opening();
    assert!(!world.plan.is_at_rest("a", before), "it is replaced");
    assert!(world.plan.broke("a", generation, world.now, 1.0));
    world.plan.opened(opening, generation, world.now);
    assert_eq!(world.next(), None);
    world.now += LONGEST_PAUSE;
    world.open();
    assert_eq!((world.next(), world.plan.due(world.now)), (None, None));
}

#[test]
fn what_is_asked_for_and_taken_back_during_an_opening_opens_nothing_twice() {
    let mut world = World::new();
    let (one, two) = (component("a", "state.one"), component("a", "state.two"));
    world.want(&one);
    let (opening, generation, _) = world.opening();
    world.want(&two);
    world.want(&one);
    world.plan.opened(opening, generation, world.now);
    assert_eq!((world.next(), world.plan.due(world.now)), (None, None));
    // Nor does a panic of the one before, which is replaced at that moment.
    world.want(&two);
    let (opening, next, _) = world.opening();
    world.plan.broke("a", generation, world.now, 1.0);
    world.plan.opened(opening, next, world.now);
    assert_eq!((world.next(), world.plan.due(world.now)), (None, None));
}

#[test]
fn pauses_are_spread() {
    let all = [0.0, 0.5, 1.0].map(|jitter| pause(3, jitter).as_millis());
    assert_eq!(all, [2000, 3000, 4000]);
}
