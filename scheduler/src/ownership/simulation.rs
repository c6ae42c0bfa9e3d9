//! Random schedules: replicas that join, leave, die, pause past their lease and come back, over a store that is late, loses
//! requests and answers, and takes leases away. `OWNERSHIP_SEED=7` runs only the schedule of that number.

use std::collections::BTreeMap;

use super::*;
use model::{Answer, Model, Request, key};

mod model;

const TTL: Duration = Duration::from_secs(20);

struct Replica {
    machine: Ownership,
    /// Tells it from those of its name before it.
    birth: u64,
    born: Duration,
    /// How fast its clock runs.
    rate: f64,
    paused: bool,
    resumes: Duration,
    inbox: Vec<Answer>,
}

enum Event {
    Request(Request),
    Answer(u32, u64, Answer),
    /// A replica hears that records have changed.
    News(u32, u64),
}

struct World {
    seed: u64,
    rng: fastrand::Rng,
    now: Duration,
    model: Model,
    replicas: BTreeMap<u32, Replica>,
    events: BTreeMap<(Duration, u64), Event>,
    births: u64,
    order: u64,
    chaos: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now: Duration::ZERO,
            model: Model::default(),
            replicas: BTreeMap::new(),
            events: BTreeMap::new(),
            births: 0,
            order: 0,
            chaos: true,
        }
    }

    fn later(&mut self, most: u64, event: Event) {
        let delay = if self.chaos && self.rng.u32(..50) == 0 {
            self.rng.u64(..8000)
        } else {
            self.rng.u64(1..most)
        };
        self.order += 1;
        let at = self.now + Duration::from_millis(delay);
        self.events.insert((at, self.order), event);
    }

    fn join(&mut self, name: u32) {
        self.births += 1;
        let uids = fastrand::Rng::with_seed(self.rng.u64(..));
        let replica = Replica {
            machine: Ownership::new(key(name), Any::default(), uids),
            birth: self.births,
            born: self.now,
            rate: 0.97 + 0.06 * self.rng.f64(),
            paused: false,
            resumes: Duration::ZERO,
            inbox: Vec::new(),
        };
        self.replicas.insert(name, replica);
        self.later(100, Event::News(name, self.births));
    }

    fn trouble(&mut self) {
        let name = self.rng.u32(..4);
        match self.rng.u32(..100) {
            0..40 if !self.replicas.contains_key(&name) => self.join(name),
            40..45 => drop(self.replicas.remove(&name)),
            45..50 => {
                if let Some(mut replica) = self.replicas.remove(&name) {
                    let now = replica.local(self.now);
                    if let Some(lease) = replica.machine.resign(now) {
                        self.send(name, replica.birth, now, Effect::Revoke(lease));
                    }
                }
            }
            50..60 => {
                let pause = Duration::from_millis(self.rng.u64(..40_000));
                if let Some(replica) = self.replicas.get_mut(&name) {
                    replica.paused = true;
                    replica.resumes = self.now + pause;
                }
            }
            60..63 => {
                let leases: Vec<_> = self.model.leases.keys().copied().collect();
                if let Some(lease) = self.rng.choice(leases) {
                    // It is as if it had not been renewed: taken away at once it would be another one's fault.
                    self.replicas
                        .retain(|_, replica| !replica.machine.is_under(lease));
                    self.end(lease);
                }
            }
            _ => {}
        }
    }

    fn send(&mut self, name: u32, birth: u64, asked: Moment, effect: Effect) {
        let request = Request {
            name,
            birth,
            asked,
            effect,
            lost: self.chaos && self.rng.u32(..30) == 0,
            unanswered: self.chaos && self.rng.u32(..30) == 0,
        };
        self.later(150, Event::Request(request));
    }

    /// Lets a replica look at the time and at what it has heard, as it does before it fires.
    fn wake(&mut self, name: u32) {
        let Some(replica) = self.replicas.get_mut(&name) else {
            return;
        };
        if replica.paused {
            return;
        }
        let now = replica.local(self.now);
        let mut effects = Vec::new();
        for answer in std::mem::take(&mut replica.inbox) {
            // It fires before it listens, too.
            replica.machine.advance(now);
            match answer {
                Answer::Granted(asked, Ok(lease)) => replica.machine.granted(asked, lease),
                Answer::Granted(_, Err(_)) => replica.machine.refused(now),
                Answer::Renewed(asked, lease, outcome) => {
                    replica.machine.renewed(now, asked, lease, outcome);
                }
                Answer::Wrote(outcome) => replica.machine.wrote(outcome),
                Answer::Seen(page) => replica.machine.seen(&page),
            }
        }
        replica.machine.advance(now);
        while let Some(effect) = replica.machine.effect() {
            effects.push(effect);
        }
        let birth = replica.birth;
        for effect in effects {
            if !matches!(effect, Effect::Own(_)) {
                self.send(name, birth, now, effect);
            }
        }
    }

    fn step(&mut self) {
        let until = self.now + Duration::from_millis(self.rng.u64(1..200));
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), event) = entry.remove_entry();
            self.pass(at);
            self.happen(event);
            self.check();
        }
        self.pass(until);
        if self.chaos && self.rng.u32(..10) == 0 {
            self.trouble();
        }
        let names: Vec<_> = self.replicas.keys().copied().collect();
        for name in names {
            self.wake(name);
        }
        self.check();
    }

    fn pass(&mut self, now: Duration) {
        self.now = now;
        let ended: Vec<_> = self
            .model
            .leases
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(id, _)| *id)
            .collect();
        for lease in ended {
            self.end(lease);
        }
        for replica in self.replicas.values_mut() {
            replica.paused &= now < replica.resumes;
        }
    }

    fn end(&mut self, lease: i64) {
        if self.model.end(lease) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let all: Vec<_> = self
            .replicas
            .iter()
            .map(|(name, replica)| (*name, replica.birth))
            .collect();
        for (name, birth) in all {
            self.later(100, Event::News(name, birth));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Request(request) => {
                let before = self.model.revision;
                let answer = self.model.answer(self.now, &request);
                if self.model.revision > before {
                    self.tell();
                }
                if let Some(answer) = answer {
                    self.later(150, Event::Answer(request.name, request.birth, answer));
                }
            }
            Event::Answer(name, birth, answer) => {
                if let Some(replica) = self
                    .replicas
                    .get_mut(&name)
                    .filter(|replica| replica.birth == birth)
                {
                    replica.inbox.push(answer);
                    self.wake(name);
                }
            }
            Event::News(name, birth) => self.send(name, birth, Moment::ZERO, Effect::Read),
        }
    }

    /// At most one replica that runs drives a partition; `None` if one has none.
    fn drivers(&self, partition: u64) -> Vec<u32> {
        let drives = |(name, replica): (&u32, &Replica)| {
            let may = !replica.paused && replica.machine.holds(replica.local(self.now), partition);
            may.then_some(*name)
        };
        self.replicas.iter().filter_map(drives).collect()
    }

    fn check(&self) {
        for partition in 0..PARTITIONS {
            let drivers = self.drivers(partition);
            assert!(
                drivers.len() <= 1,
                "OWNERSHIP_SEED={}: {drivers:?} drive partition {partition} after {:?}",
                self.seed,
                self.now
            );
        }
    }

    fn settled(&self) -> bool {
        (0..PARTITIONS).all(|partition| self.drivers(partition).len() == 1)
    }
}

impl Replica {
    fn local(&self, now: Duration) -> Moment {
        now.saturating_sub(self.born).mul_f64(self.rate)
    }
}

impl Ownership {
    fn is_under(&self, lease: i64) -> bool {
        matches!(self.lease, Lease::Held { id, .. } if id == lease)
    }
}

#[test]
fn nobody_drives_what_another_one_drives_and_everything_is_driven() {
    let seeds = match std::env::var("OWNERSHIP_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("OWNERSHIP_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        let mut world = World::new(seed);
        for name in 0..1 + world.rng.u32(..3) {
            world.join(name);
        }
        while world.now < CHAOS {
            world.step();
        }
        world.chaos = false;
        if world.replicas.is_empty() {
            world.join(0);
        }
        let healed = world.now;
        while !world.settled() {
            let took = world.now - healed;
            assert!(
                took < HEALS,
                "OWNERSHIP_SEED={seed}: not everything is driven after {took:?}"
            );
            world.step();
        }
    }
}

const SEEDS: u64 = 300;
/// Enough for every share of up to four replicas.
const PARTITIONS: u64 = 24;
/// How long there is trouble,
const CHAOS: Duration = Duration::from_secs(120);
/// and how long it takes at most to get over it: the longest pause, a lease, and late answers.
const HEALS: Duration = Duration::from_secs(90);
