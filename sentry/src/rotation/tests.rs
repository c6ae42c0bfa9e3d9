//! The decision, stage by stage.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const NOTHING: Duration = Duration::ZERO;

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap()
}

fn plan(issuer: bool, root: bool) -> Plan {
    Plan {
        issuer,
        root,
        root_life: 3650 * DAY,
        issuer_life: 365 * DAY,
        settle: DAY / 24,
    }
}

fn view(stage: Stage, passed: Duration) -> View {
    View {
        stage,
        passed,
        written: NOTHING,
        longest: DAY,
        issuer_begin: at(0),
        issuer_end: at(365),
        root_end: at(3650),
        root_key: true,
    }
}

fn waits(step: Step) -> bool {
    matches!(step, Step::Wait(_))
}

#[test]
fn what_is_not_due_or_not_asked_for_stays() {
    let idle = view(Stage::Idle, NOTHING);
    assert!(waits(next(&idle, &plan(true, true), at(200))));
    assert_eq!(next(&idle, &plan(true, false), at(250)), Step::Issuer);
    assert!(waits(next(&idle, &plan(false, false), at(300))));
    // Without its key the root has to be replaced for a new issuer, if that is asked for.
    let keyless = View {
        root_key: false,
        ..idle
    };
    assert!(waits(next(&keyless, &plan(true, false), at(300))));
    assert_eq!(next(&keyless, &plan(true, true), at(300)), Step::Begin);
    // A root that ends with its issuer makes no longer one.
    let short = View {
        root_end: at(365),
        ..idle
    };
    assert!(waits(next(&short, &plan(true, false), at(300))));
    assert_eq!(next(&short, &plan(true, true), at(300)), Step::Begin);
    // A clock that shows a time before everything decides nothing.
    assert!(waits(next(&short, &plan(true, true), at(-1))));
}

#[test]
fn stages_last_until_nobody_needs_them() {
    let plan = plan(true, true);
    let overlap = DAY + plan.settle;
    let almost = overlap.checked_sub(Duration::from_secs(1)).unwrap();
    for (stage, step) in [
        (Stage::Distribute, Step::Sign),
        (Stage::Sign, Step::Own),
        (Stage::Retire, Step::Finish),
    ] {
        let written = View {
            written: almost,
            ..view(stage, almost)
        };
        assert!(waits(next(&written, &plan, at(1))), "{stage:?}");
        assert_eq!(next(&view(stage, almost), &plan, at(1)), Step::Note);
        assert_eq!(next(&view(stage, overlap), &plan, at(1)), step);
        // However far the clock jumps, the old root is handed out for as long as its certificates may be in use.
        if stage == Stage::Retire {
            assert!(waits(next(&view(stage, NOTHING), &plan, at(100_000))));
        }
    }
    // What is about to end is left early.
    assert_eq!(
        next(&view(Stage::Distribute, NOTHING), &plan, at(365)),
        Step::Sign
    );
    assert_eq!(next(&view(Stage::Sign, NOTHING), &plan, at(365)), Step::Own);
}
