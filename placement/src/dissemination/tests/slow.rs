//! Hosts that do not follow in time.

use super::*;

#[test]
fn the_slow_are_expelled_and_the_others_start_anew() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.round(&[1], 1);
    bench.join(2, "b", &["x"]);
    assert!(bench.join(3, "c", &["x"]).is_empty());
    bench.follow(1, HostOperation::Lock, 2);
    assert!(bench.pass(TIMEOUT - Duration::from_millis(1)).is_empty());
    assert_eq!(
        bench.pass(Duration::from_millis(1)),
        [
            "2!dissemination timeout after 1s for version 2",
            "1:lock@3",
            "3:lock@3"
        ]
    );
    bench.follow(1, HostOperation::Lock, 3);
    assert_eq!(bench.follow(3, HostOperation::Lock, 3).len(), 2);
    assert_eq!(bench.machine.state().1.len(), 2);
    assert!(bench.leave(2).is_empty());
}

#[test]
fn a_timeout_can_empty_the_namespace() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    assert_eq!(
        bench.pass(TIMEOUT),
        ["1!dissemination timeout after 1s for version 1"]
    );
    assert!(bench.machine.is_empty());
    assert_eq!(bench.machine.wake(), None);
}

#[test]
fn each_round_has_its_own_time() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.pass(TIMEOUT / 2);
    bench.round(&[1], 1);
    bench.report(1, "a", &["y"]);
    assert!(bench.pass(TIMEOUT / 2).is_empty());
    assert_eq!(bench.pass(TIMEOUT / 2).len(), 1);
}

#[test]
fn a_changed_report_does_not_move_the_deadline() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.round(&[1], 1);
    bench.join(2, "b", &["x"]);
    bench.follow(1, HostOperation::Lock, 2);
    for kind in ["y", "x", "y"] {
        assert!(bench.pass(TIMEOUT / 4).is_empty());
        assert!(bench.report(2, "b", &[kind]).is_empty());
    }
    assert_eq!(
        bench.pass(TIMEOUT / 4),
        ["2!dissemination timeout after 1s for version 2", "1:lock@3"]
    );
}

#[test]
fn nobody_waits_again_for_a_host_that_was_expelled() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.round(&[1], 1);
    bench.join(2, "b", &["x"]);
    bench.follow(1, HostOperation::Lock, 2);
    assert_eq!(bench.pass(TIMEOUT).len(), 2);
    bench.round(&[1], 3);
    // It is asked alone, and expelled alone.
    assert_eq!(bench.join(3, "b", &["x"]), ["3:lock@3"]);
    let slow = "dissemination timeout after 1s for version 3";
    assert_eq!(bench.pass(TIMEOUT), [format!("3!{slow}")]);
    // The second time it has to wait first, and longer the third time.
    assert!(bench.join(4, "b", &["x"]).is_empty());
    assert_eq!(bench.pass(TIMEOUT), ["4:lock@3"]);
    assert_eq!(bench.pass(TIMEOUT), [format!("4!{slow}")]);
    assert!(bench.join(5, "b", &["x"]).is_empty());
    assert!(bench.pass(TIMEOUT).is_empty());
    assert_eq!(bench.pass(TIMEOUT), ["5:lock@3"]);
    // Once it follows it takes part.
    assert_eq!(
        bench.follow(5, HostOperation::Lock, 3),
        ["1:lock@4", "5:lock@4"]
    );
}
