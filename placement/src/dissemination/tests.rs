//! The rules of contract 7.3, one by one, against the machine alone.

use prost::Message as _;
use proto::placement::v1::PlacementOrder;

use super::*;

mod slow;

const TIMEOUT: Duration = Duration::from_secs(1);

struct Bench {
    machine: Dissemination,
    now: Instant,
}

fn bench(coalesce: Duration) -> Bench {
    let timing = Timing {
        timeout: TIMEOUT,
        coalesce,
    };
    Bench {
        machine: Dissemination::new(timing, 100, None),
        now: Instant::now(),
    }
}

fn host(name: &str, entities: &[&str]) -> Host {
    Host {
        name: name.to_owned(),
        id: name.to_owned(),
        namespace: "ns".to_owned(),
        entities: entities.iter().map(|entity| (*entity).to_owned()).collect(),
        ..Host::default()
    }
}

/// Effects as short text, such as `1:lock@2`.
fn short(effects: Vec<Effect>) -> Vec<String> {
    let text = |effect| match effect {
        Effect::Send(to, Order::Lock(version)) => format!("{to}:lock@{version}"),
        Effect::Send(to, Order::Update(version, tables)) => {
            format!("{to}:update@{version}{}", names(tables))
        }
        Effect::Send(to, Order::Unlock(version)) => format!("{to}:unlock@{version}"),
        Effect::Send(to, Order::Table(version, tables)) => {
            format!("{to}:table@{version}{}", names(tables))
        }
        Effect::Expel(who, Reason::Slow(text)) => format!("{who}!{text}"),
        Effect::Expel(who, Reason::Full) => format!("{who}!full"),
    };
    effects.into_iter().map(text).collect()
}

fn names(order: Bytes) -> String {
    let order = PlacementOrder::decode(order).expect("an order");
    let tables = order.tables.expect("an order with a table");
    let hosts = |table: &proto::placement::v1::PlacementTable| {
        table.load_map.keys().cloned().collect::<Vec<_>>().join("+")
    };
    let entries: Vec<_> = tables
        .entries
        .iter()
        .map(|(entity, table)| format!("{entity}={}", hosts(table)))
        .collect();
    format!("[{}]", entries.join(" "))
}

impl Bench {
    fn join(&mut self, id: StreamId, name: &str, entities: &[&str]) -> Vec<String> {
        short(self.machine.join(id, host(name, entities), self.now))
    }

    fn report(&mut self, id: StreamId, name: &str, entities: &[&str]) -> Vec<String> {
        let mut report = host(name, entities);
        report.set_operation(HostOperation::Report);
        short(self.machine.report(id, report, self.now))
    }

    fn follow(&mut self, id: StreamId, operation: HostOperation, version: u64) -> Vec<String> {
        let mut report = host("x", &["x"]);
        report.set_operation(operation);
        report.version = Some(version);
        short(self.machine.report(id, report, self.now))
    }

    /// As old sidecars do: no operation, no version.
    fn nod(&mut self, id: StreamId, name: &str, entities: &[&str]) -> Vec<String> {
        short(self.machine.report(id, host(name, entities), self.now))
    }

    fn leave(&mut self, id: StreamId) -> Vec<String> {
        short(self.machine.leave(id, self.now))
    }

    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        short(self.machine.tick(self.now))
    }

    /// Takes everyone in `ids` through the round of `version`, and gives the effects of its end.
    fn round(&mut self, ids: &[StreamId], version: u64) -> Vec<String> {
        let mut last = Vec::new();
        for operation in [
            HostOperation::Lock,
            HostOperation::Update,
            HostOperation::Unlock,
        ] {
            for id in ids {
                last = self.follow(*id, operation, version);
            }
        }
        last
    }
}

#[test]
fn a_round_of_one() {
    let mut bench = bench(Duration::ZERO);
    assert_eq!(bench.join(1, "a", &["cat", "ant"]), ["1:lock@1"]);
    assert_eq!(
        bench.follow(1, HostOperation::Lock, 1),
        ["1:update@1[ant=a cat=a]"]
    );
    assert_eq!(bench.follow(1, HostOperation::Update, 1), ["1:unlock@1"]);
    assert!(bench.follow(1, HostOperation::Unlock, 1).is_empty());
    assert_eq!(bench.machine.wake(), None);
    assert_eq!(bench.machine.state().0, 1);
    assert_eq!(bench.machine.counts(), (1, 1));
}

#[test]
fn after_an_election_hosts_are_gathered_for_the_first_round() {
    let mut bench = bench(Duration::ZERO);
    let gathers = bench.now + TIMEOUT;
    bench.machine = Dissemination::new(bench.machine.timing, 100, Some(gathers));
    assert!(bench.join(1, "a", &["x"]).is_empty());
    assert!(bench.pass(TIMEOUT / 2).is_empty());
    assert!(bench.join(2, "b", &["x"]).is_empty());
    assert_eq!(bench.pass(TIMEOUT / 2), ["1:lock@1", "2:lock@1"]);
    bench.round(&[1, 2], 1);
    assert_eq!(bench.join(3, "c", &["x"]).len(), 3, "at once");
}

#[test]
fn every_phase_waits_for_all() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.round(&[1], 1);
    assert_eq!(bench.join(2, "b", &["x"]), ["1:lock@2", "2:lock@2"]);
    assert!(bench.follow(1, HostOperation::Lock, 2).is_empty());
    assert!(
        bench.follow(1, HostOperation::Lock, 2).is_empty(),
        "one answer counts once"
    );
    assert!(
        bench.follow(1, HostOperation::Update, 2).is_empty(),
        "not asked yet"
    );
    assert_eq!(
        bench.follow(2, HostOperation::Lock, 2),
        ["1:update@2[x=a+b]", "2:update@2[x=a+b]"]
    );
    assert!(bench.follow(2, HostOperation::Update, 2).is_empty());
    assert_eq!(
        bench.follow(1, HostOperation::Update, 2),
        ["1:unlock@2", "2:unlock@2"]
    );
    assert!(bench.follow(1, HostOperation::Unlock, 2).is_empty());
    assert!(bench.follow(2, HostOperation::Unlock, 2).is_empty());
    assert_eq!(bench.machine.wake(), None);
}

#[test]
fn old_and_future_versions_are_ignored() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.round(&[1], 1);
    bench.join(2, "b", &["x"]);
    assert!(bench.follow(1, HostOperation::Lock, 1).is_empty());
    assert!(bench.follow(1, HostOperation::Lock, 3).is_empty());
    assert!(bench.follow(2, HostOperation::Lock, 2).is_empty());
    assert_eq!(bench.follow(1, HostOperation::Lock, 2).len(), 2);
}

#[test]
fn old_sidecars_nod() {
    let mut bench = bench(Duration::ZERO);
    assert_eq!(bench.join(1, "a", &["x"]), ["1:lock@1"]);
    assert_eq!(bench.nod(1, "a", &["x"]), ["1:update@1[x=a]"]);
    assert_eq!(bench.nod(1, "a", &["x"]), ["1:unlock@1"]);
    assert!(bench.nod(1, "a", &["x"]).is_empty());
    assert!(
        bench.nod(1, "a", &["x"]).is_empty(),
        "unchanged, so nothing happens"
    );
    assert_eq!(
        bench.nod(1, "a", &["x", "y"]),
        ["1:lock@2"],
        "a change is a report"
    );
}

#[test]
fn hosts_without_actors_get_the_table_once() {
    let mut bench = bench(Duration::ZERO);
    assert_eq!(bench.join(1, "a", &[]), ["1:table@0[]"]);
    for operation in [
        HostOperation::Lock,
        HostOperation::Update,
        HostOperation::Unlock,
    ] {
        assert!(bench.follow(1, operation, 0).is_empty());
    }
    assert_eq!(bench.machine.counts(), (1, 0));
    assert_eq!(bench.join(2, "b", &["x"]), ["1:lock@1", "2:lock@1"]);
    bench.round(&[1, 2], 1);
    assert_eq!(bench.join(3, "c", &[]), ["3:table@1[x=b]"]);
    // An old sidecar answers without names; these three are no new reports.
    for _ in 0..3 {
        assert!(bench.nod(3, "c", &[]).is_empty());
    }
    assert_eq!(bench.report(1, "a", &[]), ["1:table@1[x=b]"]);
    assert!(bench.leave(1).is_empty(), "it was in no table");
}

#[test]
fn late_answers_to_a_pushed_table_do_not_count_for_a_round() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &[]);
    assert_eq!(bench.join(2, "b", &["x"]), ["1:lock@1", "2:lock@1"]);
    assert!(bench.follow(1, HostOperation::Lock, 0).is_empty());
    assert!(bench.follow(2, HostOperation::Lock, 1).is_empty());
    assert_eq!(bench.follow(1, HostOperation::Lock, 1).len(), 2);
}

#[test]
fn joins_during_a_round_share_the_next_one() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    for id in 2..5 {
        assert!(bench.join(id, &format!("h{id}"), &["x"]).is_empty());
    }
    assert_eq!(bench.machine.counts(), (1, 1));
    let next = bench.round(&[1], 1);
    assert_eq!(next, ["1:lock@2", "2:lock@2", "3:lock@2", "4:lock@2"]);
    assert!(bench.round(&[1, 2, 3, 4], 2).is_empty());
    assert_eq!(bench.machine.state().1.len(), 4);
}

#[test]
fn a_join_without_actors_waits_and_starts_no_round() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    assert!(bench.join(2, "b", &[]).is_empty());
    assert_eq!(bench.round(&[1], 1), ["2:table@1[x=a]"]);
}

#[test]
fn leaving_removes_the_host() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.join(2, "b", &["x"]);
    bench.round(&[1], 1);
    bench.round(&[1, 2], 2);
    assert_eq!(bench.leave(2), ["1:lock@3"]);
    assert_eq!(bench.follow(1, HostOperation::Lock, 3), ["1:update@3[x=a]"]);
    assert!(bench.leave(2).is_empty());
    assert!(!bench.machine.is_empty());
    bench.leave(1);
    assert!(bench.machine.is_empty());
    assert_eq!(bench.machine.wake(), None);
}

#[test]
fn leaving_during_a_round_does_not_hold_it_up() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.join(2, "b", &["x"]);
    bench.round(&[1], 1);
    bench.follow(1, HostOperation::Lock, 2);
    bench.follow(2, HostOperation::Lock, 2);
    bench.follow(1, HostOperation::Update, 2);
    assert_eq!(bench.leave(2), ["1:unlock@2"]);
    // The table of the round still had it; the next one has not. Joins of the meantime come along.
    assert!(bench.join(3, "c", &["x"]).is_empty());
    assert_eq!(
        bench.follow(1, HostOperation::Unlock, 2),
        ["1:lock@3", "3:lock@3"]
    );
    bench.follow(1, HostOperation::Lock, 3);
    assert_eq!(
        bench.follow(3, HostOperation::Lock, 3),
        ["1:update@3[x=a+c]", "3:update@3[x=a+c]"]
    );
}

#[test]
fn a_host_without_actors_leaving_does_not_hold_it_up_either() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &[]);
    bench.join(2, "b", &["x"]);
    bench.follow(2, HostOperation::Lock, 1);
    assert_eq!(bench.leave(1), ["2:update@1[x=b]"]);
}

#[test]
fn waiting_streams_may_leave_or_take_over() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x"]);
    bench.join(2, "b", &["x"]);
    bench.join(3, "c", &["x"]);
    assert!(bench.report(3, "c", &["y"]).is_empty());
    assert!(bench.leave(2).is_empty());
    assert_eq!(bench.leave(1), ["3:lock@2"]);
    assert_eq!(bench.follow(3, HostOperation::Lock, 2), ["3:update@2[y=c]"]);
}

#[test]
fn changed_reports_start_a_round_and_equal_ones_do_not() {
    let mut bench = bench(Duration::ZERO);
    bench.join(1, "a", &["x", "y"]);
    bench.round(&[1], 1);
    assert!(bench.report(1, "a", &["y", "x"]).is_empty());
    assert_eq!(bench.report(1, "a", &["y"]), ["1:lock@2"]);
    assert!(
        bench.report(1, "a", &["q"]).is_empty(),
        "a round is under way"
    );
    assert!(
        bench.report(1, "a", &["z"]).is_empty(),
        "only the last counts"
    );
    assert_eq!(bench.round(&[1], 2), ["1:lock@3"]);
    bench.round(&[1], 3);
    assert_eq!(bench.report(1, "other", &["z"]), ["1:lock@4"], "another id");
    bench.round(&[1], 4);
    assert_eq!(
        bench.report(1, "other", &[]),
        ["1:lock@5"],
        "no actors any more"
    );
    assert_eq!(bench.follow(1, HostOperation::Lock, 5), ["1:update@5[]"]);
    assert_eq!(bench.machine.counts(), (1, 0));
}

#[test]
fn changes_after_a_round_are_collected() {
    let window = Duration::from_millis(500);
    let mut bench = bench(window);
    assert_eq!(
        bench.join(1, "a", &["x"]),
        ["1:lock@1"],
        "the first change is immediate"
    );
    assert!(bench.join(2, "b", &["x"]).is_empty());
    assert!(bench.round(&[1], 1).is_empty());
    assert!(bench.join(3, "c", &["x"]).is_empty());
    assert!(bench.pass(window / 2).is_empty());
    assert_eq!(bench.pass(window / 2), ["1:lock@2", "2:lock@2", "3:lock@2"]);
    bench.round(&[1, 2, 3], 2);
    assert!(bench.leave(2).is_empty());
    assert!(bench.join(4, "d", &[]).is_empty());
    // The new one changes nothing by itself, but the others must learn who left.
    assert_eq!(bench.pass(window), ["1:lock@3", "3:lock@3", "4:lock@3"]);
    bench.round(&[1, 3, 4], 3);
    assert!(bench.pass(window).is_empty());
    assert_eq!(bench.machine.wake(), None);
    assert_eq!(
        bench.join(5, "e", &["x"]).len(),
        4,
        "after a quiet window a change is immediate again"
    );
}

#[test]
fn a_join_that_was_missed_still_causes_a_round() {
    let window = Duration::from_millis(500);
    let mut bench = bench(window);
    bench.join(1, "a", &["x"]);
    bench.round(&[1], 1);
    bench.join(2, "b", &["y"]);
    assert!(bench.leave(2).is_empty());
    assert_eq!(bench.pass(window), ["1:lock@2"]);
    assert_eq!(bench.follow(1, HostOperation::Lock, 2), ["1:update@2[x=a]"]);
}

#[test]
fn reports_of_strangers_are_ignored() {
    let mut bench = bench(Duration::ZERO);
    assert!(bench.report(9, "z", &["x"]).is_empty());
    assert!(bench.follow(9, HostOperation::Lock, 0).is_empty());
    assert!(bench.leave(9).is_empty());
    assert!(bench.machine.is_empty());
}
