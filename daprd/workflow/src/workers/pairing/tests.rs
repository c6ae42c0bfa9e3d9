//! Items and workers in all orders.

use std::collections::BTreeMap;

use super::*;

type Machine = Pairing<&'static str>;

fn machine(workflows: Option<usize>, activities: Option<usize>) -> Machine {
    Pairing::new(Limits {
        workflows,
        activities,
        item: None,
    })
}

fn turn(instance: &str) -> Key {
    Key::Turn(instance.to_owned())
}

fn activity(instance: &str, number: i32) -> Key {
    Key::Activity(instance.to_owned(), number)
}

fn offer(machine: &mut Machine, key: Key) -> Ticket {
    machine.offer(key, "item", None).unwrap().0
}

fn past(events: usize) -> Option<Past> {
    Some(Past {
        execution: "run".to_owned(),
        events,
    })
}

#[test]
fn an_item_waits_for_a_worker_and_is_answered_once() {
    let mut machine = machine(None, None);
    let ticket = offer(&mut machine, turn("a"));
    assert_eq!(
        machine.complete(&turn("a"), None),
        None,
        "nobody has it yet"
    );
    let worker = machine.join(false, usize::MAX);
    assert_eq!(machine.ready(), BTreeSet::from([worker]));
    assert_eq!(
        machine.complete(&turn("a"), None),
        None,
        "nobody has taken it"
    );
    let handed = machine.take(worker).unwrap();
    assert_eq!(
        (handed.ticket, handed.item, handed.cached),
        (ticket, "item", 0)
    );
    assert!(machine.take(worker).is_none());
    assert_eq!(
        machine.complete(&turn("b"), Some(ticket)),
        None,
        "another's"
    );
    assert_eq!(machine.complete(&turn("a"), Some(ticket + 1)), None);
    assert_eq!(machine.complete(&activity("a", 0), Some(ticket)), None);
    assert_eq!(machine.complete(&turn("a"), Some(ticket)), Some(ticket));
    assert_eq!(machine.complete(&turn("a"), Some(ticket)), None, "once");
}

#[test]
fn a_worker_of_old_says_no_ticket() {
    let mut machine = machine(None, None);
    let worker = machine.join(false, usize::MAX);
    let ticket = offer(&mut machine, activity("a", 3));
    machine.take(worker).unwrap();
    assert_eq!(machine.complete(&activity("a", 4), None), None);
    assert_eq!(machine.complete(&activity("a", 3), None), Some(ticket));
}

#[test]
fn what_a_worker_has_is_lost_with_it_and_what_it_has_not_taken_goes_to_another() {
    let mut machine = machine(None, None);
    let worker = machine.join(false, usize::MAX);
    let taken = offer(&mut machine, turn("a"));
    machine.take(worker).unwrap();
    let left = offer(&mut machine, turn("b"));
    assert_eq!(machine.leave(worker), [taken]);
    assert_eq!(machine.complete(&turn("a"), Some(taken)), None);
    let other = machine.join(false, usize::MAX);
    assert_eq!(machine.take(other).unwrap().ticket, left);
    assert!(machine.leave(worker).is_empty(), "it is away already");
}

#[test]
fn items_are_spread_and_the_idle_worker_is_next() {
    let mut machine = machine(None, None);
    let [one, two] = [
        machine.join(false, usize::MAX),
        machine.join(false, usize::MAX),
    ];
    let tickets: Vec<Ticket> = (0..4)
        .map(|number| offer(&mut machine, activity("a", number)))
        .collect();
    let take = |machine: &mut Machine, id| -> Vec<Ticket> {
        std::iter::from_fn(|| machine.take(id))
            .map(|handed| handed.ticket)
            .collect()
    };
    assert_eq!(take(&mut machine, one), [tickets[0], tickets[2]]);
    assert_eq!(take(&mut machine, two), [tickets[1], tickets[3]]);
    machine.complete(&activity("a", 1), None).unwrap();
    machine.complete(&activity("a", 3), None).unwrap();
    let [third, fourth] = [7, 8].map(|number| offer(&mut machine, activity("a", number)));
    assert_eq!(take(&mut machine, two), [third, fourth]);
}

#[test]
fn limits_hold_for_each_kind_until_an_answer_comes() {
    let mut machine = machine(Some(1), Some(2));
    let worker = machine.join(false, usize::MAX);
    for number in 0..6 {
        offer(&mut machine, activity("a", number));
        offer(&mut machine, turn(&number.to_string()));
    }
    let taken = std::iter::from_fn(|| machine.take(worker)).count();
    assert_eq!(taken, 3);
    machine.complete(&activity("a", 0), None).unwrap();
    assert!(machine.take(worker).is_some());
    assert!(machine.take(worker).is_none());
    assert_eq!(machine.leave(worker).len(), 3);
    let worker = machine.join(false, usize::MAX);
    let taken = std::iter::from_fn(|| machine.take(worker)).count();
    assert_eq!(taken, 3, "what is lost counts no more");
}

#[test]
fn a_worker_gets_no_more_than_it_has_room_for() {
    let mut machine = machine(None, None);
    let worker = machine.join(false, 2);
    for number in 0..3 {
        offer(&mut machine, activity("a", number));
    }
    let taken = std::iter::from_fn(|| machine.take(worker)).count();
    assert_eq!(taken, 2);
    machine.complete(&activity("a", 0), None).unwrap();
    assert!(machine.take(worker).is_some());
}

#[test]
fn both_kinds_have_their_turn() {
    let mut machine = machine(None, None);
    let mut kinds = Vec::new();
    for number in 0..100 {
        offer(&mut machine, turn(&number.to_string()));
        offer(&mut machine, activity("a", number));
    }
    let worker = machine.join(false, usize::MAX);
    while let Some(handed) = machine.take(worker) {
        kinds.push(matches!(machine.tasks[&handed.ticket].key, Key::Turn(_)));
    }
    assert_eq!(kinds.len(), 200);
    assert!(kinds.chunks(2).all(|pair| pair[0] != pair[1]), "{kinds:?}");
}

#[test]
fn a_newer_item_takes_the_place_of_the_older() {
    let mut machine = machine(Some(1), None);
    let worker = machine.join(false, usize::MAX);
    let old = offer(&mut machine, turn("a"));
    machine.take(worker).unwrap();
    let (new, displaced) = machine.offer(turn("a"), "item", None).unwrap();
    assert_eq!(displaced, Some(old));
    assert_eq!(machine.take(worker).unwrap().ticket, new);
    assert_eq!(machine.complete(&turn("a"), Some(old)), None);
    assert_eq!(machine.complete(&turn("a"), Some(new)), Some(new));
}

#[test]
fn what_is_withdrawn_is_nobody_s_any_more() {
    let mut machine = machine(Some(1), None);
    let worker = machine.join(false, usize::MAX);
    let taken = offer(&mut machine, turn("a"));
    machine.take(worker).unwrap();
    let waiting = offer(&mut machine, turn("b"));
    machine.withdraw(taken);
    machine.withdraw(taken);
    assert_eq!(machine.take(worker).unwrap().ticket, waiting);
    let third = offer(&mut machine, turn("c"));
    machine.withdraw(third);
    machine.withdraw(waiting);
    assert!(machine.take(worker).is_none());
    assert_eq!(machine.out, [0, 0]);
}

#[test]
fn a_worker_that_does_not_take_its_items_loses_them_to_others() {
    let mut machine = machine(None, None);
    let stuck = machine.join(false, usize::MAX);
    let first = offer(&mut machine, turn("a"));
    let second = offer(&mut machine, turn("b"));
    assert_eq!(machine.late(first), Late::Waiting);
    assert_eq!(machine.late(first), Late::Waiting, "nobody else is there");
    let other = machine.join(false, usize::MAX);
    assert_eq!(machine.take(other).unwrap().ticket, first);
    assert_eq!(machine.late(first), Late::Held);
    assert_eq!(machine.take(other).unwrap().ticket, second);
    assert!(machine.take(stuck).is_none(), "it takes part again");
    let third = offer(&mut machine, turn("c"));
    assert_eq!(machine.take(stuck).unwrap().ticket, third);
}

#[test]
fn an_instance_stays_at_the_worker_that_has_its_past() {
    let mut machine = machine(None, None);
    let [one, two] = [
        machine.join(true, usize::MAX),
        machine.join(true, usize::MAX),
    ];
    let mut cached = Vec::new();
    for events in [0, 3, 7] {
        machine.offer(turn("a"), "item", past(events)).unwrap();
        assert!(machine.take(two).is_none());
        cached.push(machine.take(one).unwrap().cached);
        machine.complete(&turn("a"), None).unwrap();
    }
    assert_eq!(cached, [0, 0, 3]);
    machine.leave(one).len();
    machine.offer(turn("a"), "item", past(9)).unwrap();
    assert_eq!(machine.take(two).unwrap().cached, 0, "another worker");
    machine.complete(&turn("a"), None).unwrap();
    machine.over("a");
    machine.offer(turn("a"), "item", past(9)).unwrap();
    assert_eq!(machine.take(two).unwrap().cached, 0, "it was over");
}

#[test]
fn a_worker_that_keeps_nothing_gets_everything() {
    let mut machine = machine(None, None);
    let worker = machine.join(false, usize::MAX);
    for _ in 0..2 {
        machine.offer(turn("a"), "item", past(5)).unwrap();
        assert_eq!(machine.take(worker).unwrap().cached, 0);
        machine.complete(&turn("a"), None).unwrap();
    }
}

#[test]
fn only_so_many_wait() {
    let mut machine = machine(None, None);
    for number in 0..MOST_WAITING {
        offer(&mut machine, turn(&number.to_string()));
    }
    assert_eq!(machine.offer(turn("more"), "item", None), Err(Full));
    offer(&mut machine, activity("a", 1));
    machine.join(false, usize::MAX);
    offer(&mut machine, turn("more"));
}

/// How an item ended, for the walk below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Answered,
    Lost,
    Withdrawn,
}

/// Random orders of everything that can happen: each item ends once, limits hold, and nothing waits beside a worker with room.
#[test]
fn every_item_ends_once_in_every_order() {
    for seed in 0..100 {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let limits = [1, 2, 5, usize::MAX];
    let mut machine = machine(
        Some(limits[random.usize(..4)]),
        Some(limits[random.usize(..4)]),
    );
    let mut workers: Vec<Id> = Vec::new();
    let mut ended: BTreeMap<Ticket, End> = BTreeMap::new();
    let mut open: BTreeMap<Ticket, Key> = BTreeMap::new();
    let mut end = |open: &mut BTreeMap<Ticket, Key>, ticket: Ticket, how: End| {
        assert!(
            open.remove(&ticket).is_some(),
            "seed {seed}: {ticket} {how:?}"
        );
        assert_eq!(ended.insert(ticket, how), None, "seed {seed}: twice");
    };
    for _ in 0..400 {
        let some = |random: &mut fastrand::Rng, workers: &[Id]| random.choice(workers).copied();
        match random.u8(..12) {
            0 if workers.len() < 5 => {
                workers.push(machine.join(random.bool(), [2, usize::MAX][random.usize(..2)]))
            }
            1 => {
                if let Some(id) = some(&mut random, &workers) {
                    workers.retain(|other| *other != id);
                    for ticket in machine.leave(id) {
                        end(&mut open, ticket, End::Lost);
                    }
                }
            }
            2..=5 => {
                let instance = random.u8(..9).to_string();
                let key = match random.bool() {
                    true => Key::Turn(instance),
                    false => Key::Activity(instance, random.i32(..3)),
                };
                let offered = machine.offer(key.clone(), "item", past(random.usize(..4)));
                let (ticket, displaced) = offered.unwrap();
                open.insert(ticket, key);
                if let Some(displaced) = displaced {
                    end(&mut open, displaced, End::Lost);
                }
            }
            6..=7 => {
                if let Some(id) = some(&mut random, &workers) {
                    machine.take(id);
                }
            }
            8..=9 => {
                let keys: Vec<(Ticket, Key)> = open.clone().into_iter().collect();
                if let Some((ticket, key)) = random.choice(&keys) {
                    let said = random.bool().then_some(*ticket);
                    if let Some(done) = machine.complete(key, said) {
                        end(&mut open, done, End::Answered);
                    }
                }
            }
            10 => {
                let tickets: Vec<Ticket> = open.keys().copied().collect();
                if let Some(ticket) = random.choice(&tickets).copied() {
                    machine.withdraw(ticket);
                    end(&mut open, ticket, End::Withdrawn);
                }
            }
            _ => {
                let tickets: Vec<Ticket> = open.keys().copied().collect();
                if let Some(ticket) = random.choice(&tickets) {
                    machine.late(*ticket);
                }
            }
        }
        check(&machine, &open, seed);
    }
}

fn check(machine: &Machine, open: &BTreeMap<Ticket, Key>, seed: u64) {
    let known: BTreeSet<Ticket> = machine.tasks.keys().copied().collect();
    assert_eq!(known, open.keys().copied().collect(), "seed {seed}");
    assert_eq!(machine.current.len(), open.len(), "seed {seed}");
    let mut out = [0; KINDS];
    for (id, worker) in &machine.workers {
        assert!(worker.outbox.len() <= OUTBOX, "seed {seed}");
        assert!(worker.load() <= worker.most, "seed {seed}");
        for ticket in worker.outbox.iter().chain(&worker.held) {
            let task = &machine.tasks[ticket];
            let here = match task.place {
                Place::Outbox(at, _) | Place::Held(at) => at == *id,
                Place::Waiting(_) => false,
            };
            assert!(here, "seed {seed}: {ticket}");
            out[task.key.kind()] += 1;
        }
    }
    assert_eq!(machine.out, out, "seed {seed}");
    for kind in [TURNS, ACTIVITIES] {
        assert!(out[kind] <= machine.limits[kind], "seed {seed}");
        let could =
            out[kind] < machine.limits[kind] && machine.workers.values().any(Worker::has_room);
        assert!(
            !could || machine.waiting[kind].is_empty(),
            "seed {seed}: idle"
        );
    }
    let waiting: usize = machine.waiting.iter().map(BTreeSet::len).sum();
    assert_eq!(
        waiting + out.iter().sum::<usize>(),
        open.len(),
        "seed {seed}"
    );
}
