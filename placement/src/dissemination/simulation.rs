//! Random schedules against the machine, with hosts that answer, dawdle, change their types, leave, come back or
//! are dead. `PLACEMENT_SEED=7` runs only the schedule of that number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use prost::Message as _;
use proto::placement::v1::PlacementOrder;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(8);

/// A connected host, as it sees the machine.
struct Peer {
    name: u32,
    /// Never answers.
    dead: bool,
    unread: VecDeque<Order>,
    locked: Option<u64>,
    /// The version of the table in use, and its rows.
    table: Option<(u64, BTreeSet<String>)>,
}

struct World {
    seed: u64,
    rng: fastrand::Rng,
    now: Instant,
    machine: Dissemination,
    peers: BTreeMap<StreamId, Peer>,
    /// Hosts that held up a round to its end, and when.
    waited_for: BTreeMap<u32, Instant>,
    next: StreamId,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let timing = Timing {
            timeout: TIMEOUT,
            coalesce: Duration::from_millis(if rng.bool() { 0 } else { 500 }),
        };
        let now = Instant::now();
        let gathers = rng.bool().then(|| now + TIMEOUT / 2);
        World {
            seed,
            rng,
            now,
            machine: Dissemination::new(timing, 100, gathers),
            peers: BTreeMap::new(),
            waited_for: BTreeMap::new(),
            next: 1,
        }
    }

    fn host(&mut self, name: u32) -> Host {
        let types = (0..3u32).filter(|_| self.rng.bool());
        Host {
            name: format!("host{name}"),
            id: "app".to_owned(),
            namespace: "ns".to_owned(),
            entities: types.map(|number| format!("type{number}")).collect(),
            operation: HostOperation::Report.into(),
            ..Host::default()
        }
    }

    fn join(&mut self) {
        let name = self.rng.u32(0..12);
        if self.peers.values().any(|peer| peer.name == name) {
            return;
        }
        let (id, host) = (self.next, self.host(name));
        self.next += 1;
        let peer = Peer {
            name,
            dead: name < 3,
            unread: VecDeque::new(),
            locked: None,
            table: None,
        };
        self.peers.insert(id, peer);
        let effects = self.machine.join(id, host, self.now);
        self.carry_out(effects, false);
    }

    fn carry_out(&mut self, effects: Vec<Effect>, waited: bool) {
        for effect in effects {
            match effect {
                Effect::Send(id, order) => {
                    let seed = self.seed;
                    let peer = self.peers.get_mut(&id);
                    let peer = peer.unwrap_or_else(|| panic!("seed {seed}: order to a stranger"));
                    peer.unread.push_back(order);
                }
                Effect::Expel(id, reason) => {
                    let seed = self.seed;
                    assert_ne!(reason, Reason::Full, "seed {seed}");
                    let peer = self.peers.remove(&id);
                    let peer = peer.unwrap_or_else(|| panic!("seed {seed}: expelled twice"));
                    assert!(peer.dead, "seed {seed}: a host that answers was expelled");
                    if waited {
                        let before = self.waited_for.insert(peer.name, self.now);
                        assert!(
                            before.is_none_or(|before| self.now - before >= probation::MEMORY),
                            "seed {seed}: everyone waited for dead host {} twice",
                            peer.name
                        );
                    }
                }
            }
        }
    }

    /// A peer reads one order and answers it.
    fn read(&mut self, id: StreamId) {
        let seed = self.seed;
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.dead) else {
            return;
        };
        let Some(order) = peer.unread.pop_front() else {
            return;
        };
        let (version, operations) = match order {
            Order::Lock(version) => {
                peer.locked = Some(version);
                (version, &[HostOperation::Lock][..])
            }
            Order::Update(version, table) => {
                assert_eq!(peer.locked, Some(version), "seed {seed}: no lock before");
                peer.table = Some((version, rows(table)));
                (version, &[HostOperation::Update][..])
            }
            Order::Unlock(version) => {
                assert_eq!(peer.locked.take(), Some(version), "seed {seed}: not locked");
                assert_eq!(peer.table.as_ref().map(|table| table.0), Some(version));
                (version, &[HostOperation::Unlock][..])
            }
            Order::Table(version, table) => {
                peer.locked = None;
                peer.table = Some((version, rows(table)));
                let all = &[
                    HostOperation::Lock,
                    HostOperation::Update,
                    HostOperation::Unlock,
                ];
                (version, &all[..])
            }
        };
        for operation in operations {
            let mut host = Host::default();
            host.set_operation(*operation);
            host.version = Some(version);
            let effects = self.machine.report(id, host, self.now);
            self.carry_out(effects, false);
        }
        self.agree();
    }

    /// Whoever may look up owners looks into the same table as all others, but for locks still on their way.
    fn agree(&self) {
        let free = self
            .peers
            .values()
            .filter(|peer| peer.locked.is_none() && peer.unread.is_empty());
        let versions: BTreeSet<u64> = free
            .filter_map(|peer| Some(peer.table.as_ref()?.0))
            .collect();
        assert!(versions.len() <= 1, "seed {}: {versions:?}", self.seed);
    }

    fn change(&mut self, id: StreamId) {
        let Some(name) = self.peers.get(&id).map(|peer| peer.name) else {
            return;
        };
        let host = self.host(name);
        let effects = self.machine.report(id, host, self.now);
        self.carry_out(effects, false);
    }

    fn leave(&mut self, id: StreamId) {
        // The dead do not even leave.
        if self.peers.get(&id).is_some_and(|peer| !peer.dead) {
            self.peers.remove(&id);
            let effects = self.machine.leave(id, self.now);
            self.carry_out(effects, false);
        }
    }

    fn pass(&mut self, time: Duration) {
        let later = self.now + time;
        if self.machine.wake().is_some_and(|wake| wake <= later) {
            // Those that live have answered long before their time is up.
            self.read_all();
        }
        self.now = later;
        let held = |id: &StreamId| self.machine.probation.holds(*id);
        let held: BTreeSet<StreamId> = self.peers.keys().copied().filter(held).collect();
        let effects = self.machine.tick(self.now);
        for effect in effects {
            let waited = matches!(effect, Effect::Expel(id, _) if !held.contains(&id));
            self.carry_out(vec![effect], waited);
        }
    }

    fn read_all(&mut self) {
        while let Some(id) = self.busy() {
            self.read(id);
        }
    }

    fn busy(&self) -> Option<StreamId> {
        let mut peers = self.peers.iter();
        peers
            .find(|(_, peer)| !peer.dead && !peer.unread.is_empty())
            .map(|(id, _)| *id)
    }

    /// Time goes on, everyone answers at once, nobody comes: all is still before long.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.read_all();
            let Some(wake) = self.machine.wake() else {
                break;
            };
            self.pass(wake.saturating_duration_since(self.now));
        }
        let seed = self.seed;
        assert_eq!(self.machine.wake(), None, "seed {seed}: it does not settle");
        let live = || self.peers.values().filter(|peer| !peer.dead);
        let tables: BTreeSet<_> = live().map(|peer| peer.table.as_ref()).collect();
        assert!(tables.len() <= 1, "seed {seed}: {tables:?}");
        assert!(live().all(|peer| peer.locked.is_none() && peer.table.is_some()));
    }
}

fn rows(order: Bytes) -> BTreeSet<String> {
    let order = PlacementOrder::decode(order).expect("an order");
    let entries = order.tables.expect("a table").entries;
    let rows = entries.iter().flat_map(|(kind, table)| {
        table
            .load_map
            .keys()
            .map(move |host| format!("{kind}={host}"))
    });
    rows.collect()
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..120 {
        let ids: Vec<StreamId> = world.peers.keys().copied().collect();
        let id = world.rng.choice(&ids).copied().unwrap_or(0);
        match world.rng.u8(0..20) {
            0..4 => world.join(),
            4..12 => world.read(id),
            12..14 => world.change(id),
            14 => world.leave(id),
            15 => {
                let wake = world.machine.wake();
                let time = wake.map(|wake| wake.saturating_duration_since(world.now));
                world.pass(time.unwrap_or(TIMEOUT));
            }
            _ => world.pass(Duration::from_millis(1)),
        }
    }
    world.settle();
}

#[test]
fn random_schedules() {
    let seeds = match std::env::var("PLACEMENT_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    seeds.for_each(run);
}

/// Schedules of one run of the tests.
const SEEDS: u64 = 5000;
