//! Issuer and root are replaced under load, over random schedules of restarts, writes that fail half-way, two replicas and
//! clocks that jump: at every moment every two peers can connect, whichever anchors they began with.

use std::collections::BTreeSet;
use std::time::SystemTime;

use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use security::SpiffeId;
use values::FixedClock;

use super::*;
use crate::ca::{Subject, verifies};
use crate::rotation::Plan;

/// Schedules; a failure names the one.
const SEEDS: u64 = 5;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const TTL: Duration = Duration::from_secs(8 * 3600);
const SKEW: Duration = Duration::from_secs(900);
/// Replicas look at the store this often.
const LOOK: Duration = Duration::from_secs(1800);
/// A pod is restarted after this time at the latest; the old root lives for so long after the new one was made.
const POD: Duration = Duration::from_secs(3 * 24 * 3600);

type Chain = Vec<CertificateDer<'static>>;

fn plan() -> Plan {
    Plan {
        issuer: true,
        root: true,
        root_life: 15 * DAY,
        issuer_life: 6 * DAY,
        settle: HOUR,
    }
}

async fn replica(store: Store, clock: &FixedClock, plan: Plan) -> Result<Keeper, Error> {
    let mut settings = settings(Path::new("/nowhere"), false);
    settings.rotation = plan;
    let registry = prometheus::Registry::new();
    let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default()).unwrap();
    Keeper::open(Options {
        store,
        settings,
        policy: Policy {
            workload_ttl: TTL,
            clock_skew: SKEW,
            jwks: None,
        },
        metrics: Metrics::new(&meter),
        clock: Arc::new(clock.clone()),
    })
    .await
}

/// Signs as a replica does for a peer.
fn signed(authority: &Authority, name: &str) -> Option<Chain> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let subject = Subject {
        id: SpiffeId::new("public", "default", name).unwrap(),
        dns: Vec::new(),
        images: Vec::new(),
    };
    let issued = authority
        .issue(&key.subject_public_key_info(), &subject)
        .ok()?;
    Some(ca::certificates(&issued.chain, "a chain").unwrap())
}

fn follows(chain: &Chain, anchors: &Chain, now: SystemTime) -> bool {
    anchors.iter().any(|root| {
        let valid = ca::validity(root).unwrap().1 > now;
        valid && verifies(&chain[0], &chain[1..], root, now).is_ok()
    })
}

struct Peer {
    /// As the pod was given them at its start.
    anchors: Chain,
    chain: Chain,
    renew: Timestamp,
    end: Timestamp,
}

struct World {
    seed: u64,
    random: fastrand::Rng,
    fake: Fake,
    now: Timestamp,
    clocks: [FixedClock; 2],
    replicas: [Option<Keeper>; 2],
    looked: [Timestamp; 2],
    peers: Vec<Peer>,
    stages: BTreeSet<String>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let clocks = [FixedClock::at(now), FixedClock::at(now)];
        let fake = api();
        let mut world = Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            fake,
            now,
            clocks,
            replicas: [None, None],
            looked: [now; 2],
            peers: Vec::new(),
            stages: BTreeSet::new(),
        };
        for number in 0..2 {
            world.start(number).await;
        }
        world
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        for clock in &self.clocks {
            clock.advance(by);
        }
    }

    async fn start(&mut self, number: usize) {
        let opened = replica(store(&self.fake), &self.clocks[number], plan()).await;
        self.replicas[number] = opened.ok();
        if self.replicas[number].is_some() {
            self.looked[number] = self.now;
        }
    }

    /// One replica looks at the store, starts, stops, or has a clock that is wrong for a while; and something goes wrong.
    async fn disturb(&mut self, number: usize) {
        match self.random.u8(..100) {
            0..4 => self.replicas[number] = None,
            4..12 => {
                // Between the write of the Secret and that of the ConfigMap, or before both.
                let kind = if self.random.bool() {
                    "configmaps"
                } else {
                    "secrets"
                };
                let status = if self.random.bool() { 500 } else { 409 };
                let times = self.random.usize(1..3);
                let on = On::verb("update").of(kind).times(times);
                self.fake.fault(on, Fault::Status(status));
                if let Some(keeper) = &self.replicas[number] {
                    let _ = keeper.reload().await;
                }
                self.replicas[number] = None;
                self.fake.heal();
            }
            12..16 => {
                let hours = self.random.i64(-48..24 * 20);
                let span = jiff::SignedDuration::from_hours(hours);
                self.clocks[number].set(self.now.checked_add(span).unwrap());
            }
            _ => self.clocks[number].set(self.now),
        }
        let late = Duration::try_from(self.now.duration_since(self.looked[number])).unwrap() > LOOK;
        let (look, start) = (late || self.random.bool(), self.random.u8(..4) == 0);
        match &self.replicas[number] {
            None if start => self.start(number).await,
            Some(keeper) if look && keeper.reload().await.is_ok() => {
                self.looked[number] = self.now;
            }
            _ => {}
        }
    }

    /// A certificate that is valid now, from any replica that is up to date; it has shown its own before.
    fn sign(&mut self, anchors: &Chain) -> Option<Chain> {
        let now = SystemTime::from(self.now);
        let begin = self.random.usize(..2);
        for number in [begin, 1 - begin] {
            let late = Duration::try_from(self.now.duration_since(self.looked[number])).unwrap();
            let Some(keeper) = self.replicas[number].as_ref().filter(|_| late <= LOOK) else {
                continue;
            };
            let right = self.clocks[number].now() == self.now;
            let current = keeper.current();
            if right {
                let own = signed(current.own(), "dapr-sentry").expect("sentry signs for itself");
                assert!(follows(&own, anchors, now), "a peer cannot reach sentry");
            }
            let chain = signed(&current.authority, "app");
            if let Some(chain) = chain.filter(|_| right) {
                return Some(chain);
            }
        }
        None
    }

    fn renewal(&mut self) -> Timestamp {
        self.now + TTL.mul_f64(self.random.f64() / 10.0 + 0.4)
    }

    /// Pods begin with the anchors that the ConfigMap has, get certificates, and end.
    fn live(&mut self) {
        let config_map = object(&self.fake, CONFIG_MAPS);
        self.stages.insert(
            config_map["metadata"]["annotations"]["dapr.io/certificate-rotation"]
                .as_str()
                .expect("a stage")
                .to_owned(),
        );
        self.peers.retain(|peer| peer.end > self.now);
        if self.peers.len() < 6 {
            let text = config_map["data"]["ca.crt"].as_str().expect("anchors");
            let anchors = ca::certificates(text.as_bytes(), "anchors").unwrap();
            if let Some(chain) = self.sign(&anchors) {
                let end = self.now + POD.mul_f64(self.random.f64());
                let renew = self.renewal();
                self.peers.push(Peer {
                    anchors,
                    chain,
                    renew,
                    end,
                });
            }
        }
        for place in 0..self.peers.len() {
            if self.peers[place].renew <= self.now {
                let anchors = self.peers[place].anchors.clone();
                if let Some(chain) = self.sign(&anchors) {
                    self.peers[place].chain = chain;
                    self.peers[place].renew = self.renewal();
                }
            }
        }
        let now = SystemTime::from(self.now);
        // Nobody signed in time: that is no matter of chains.
        let live = |peer: &&Peer| ca::validity(&peer.chain[0]).unwrap().1 > now;
        for one in self.peers.iter().filter(live) {
            for other in self.peers.iter().filter(live) {
                assert!(
                    follows(&one.chain, &other.anchors, now),
                    "seed {}: a handshake fails at {}, stages {:?}",
                    self.seed,
                    self.now,
                    self.stages
                );
            }
        }
    }
}

#[tokio::test]
async fn no_handshake_fails_over_random_schedules() {
    let mut stages = BTreeSet::new();
    for seed in 0..SEEDS {
        let mut world = World::new(seed).await;
        let first = object(&world.fake, CONFIG_MAPS)["data"]["ca.crt"].clone();
        world.advance(DAY * 9);
        let mut handshakes = 0;
        let end = world.now + DAY * 5;
        while world.now < end {
            let pause = Duration::from_secs(world.random.u64(600..1750));
            world.advance(pause);
            for number in 0..2 {
                world.disturb(number).await;
            }
            world.live();
            handshakes += world.peers.len() * world.peers.len();
        }
        let last = object(&world.fake, CONFIG_MAPS)["data"]["ca.crt"].clone();
        // A clock that is far ahead leaves stages out; the one that matters is never left out.
        assert!(
            world.stages.contains("retire"),
            "seed {seed}: {:?}",
            world.stages
        );
        stages.append(&mut world.stages);
        assert!(
            last != first && handshakes > 1000,
            "seed {seed}: {handshakes}"
        );
    }
    let all = ["distribute", "idle", "retire", "sign"].map(str::to_owned);
    assert_eq!(stages, BTreeSet::from(all));
}

#[tokio::test]
async fn certificates_of_others_are_never_replaced() {
    let (fake, other) = (api(), api());
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let clock = FixedClock::at(now);
    replica(store(&other), &clock, plan()).await.unwrap();
    // Somebody brings a set, without what another sentry has written down about it.
    let mut secret = object(&other, SECRETS);
    secret["data"]
        .as_object_mut()
        .unwrap()
        .remove("rotation.json");
    secret["metadata"]["annotations"] = Value::Null;
    fake.put(SECRETS, secret);
    let keeper = replica(store(&fake), &clock, plan()).await.unwrap();
    let before = object(&fake, SECRETS)["data"].clone();
    clock.advance(DAY * 5);
    assert!(!keeper.reload().await.unwrap());
    assert_eq!(object(&fake, SECRETS)["data"], before);
    let event = fake
        .seen()
        .into_iter()
        .find(|seen| seen.path.ends_with("/events"))
        .expect("an event");
    assert_eq!(event.body["reason"], "CertificateExpiry");
    let message = event.body["message"].as_str().unwrap();
    assert!(message.contains("sentry has not made it"), "{message}");
    // One part that somebody else has changed is enough.
    let keeper = replica(store(&other), &clock, plan()).await.unwrap();
    let mut secret = object(&other, SECRETS);
    let mut root = keeper.current().authority.anchors().to_owned();
    root.push_str("# mine\n");
    use base64::Engine as _;
    secret["data"]["ca.crt"] = base64::engine::general_purpose::STANDARD
        .encode(root)
        .into();
    other.put(SECRETS, secret);
    let before = object(&other, SECRETS)["data"].clone();
    clock.advance(DAY * 5);
    assert!(keeper.reload().await.is_ok());
    assert_eq!(object(&other, SECRETS)["data"], before);
}

/// Files are written one by one: whichever is the last before sentry ends, the set is completed.
#[tokio::test]
async fn files_that_were_written_in_part_are_completed() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FixedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let paths = settings(folder.path(), false).paths;
    let files = || Store::Files(paths.clone());
    let names = ["ca.crt", "issuer.crt", "issuer.key"];
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    replica(files(), &clock, plan()).await.unwrap();
    let old = names.map(read);
    clock.advance(DAY * 5);
    // A new issuer: its certificate and its key.
    replica(files(), &clock, plan()).await.unwrap();
    let new = names.map(read);
    assert!(new[0] == old[0] && new[1] != old[1] && new[2] != old[2]);
    for written in 0..names.len() {
        for (place, name) in names.iter().enumerate() {
            let content = if place < written {
                &new[place]
            } else {
                &old[place]
            };
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let keeper = replica(files(), &clock, plan()).await.unwrap();
        assert_eq!(names.map(read), new);
        assert!(signed(&keeper.current().authority, "app").is_some());
    }
}

/// Sentry was off until everything had expired: it does not stay away for that.
#[tokio::test]
async fn what_has_expired_is_replaced_at_the_start() {
    for days in [7, 20] {
        let fake = api();
        let clock = FixedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        replica(store(&fake), &clock, plan()).await.unwrap();
        clock.advance(DAY * days);
        let keeper = replica(store(&fake), &clock, plan()).await.unwrap();
        let text = object(&fake, CONFIG_MAPS)["data"]["ca.crt"].clone();
        let anchors = ca::certificates(text.as_str().unwrap().as_bytes(), "anchors").unwrap();
        let current = keeper.current();
        for authority in [current.own(), &current.authority] {
            let chain = signed(authority, "app").unwrap();
            assert!(follows(&chain, &anchors, clock.now().into()), "{days}");
        }
    }
    // Where that is not asked for, the reason is said.
    let (fake, clock) = (api(), FixedClock::at(Timestamp::now()));
    let plan = Plan {
        issuer: false,
        root: false,
        ..plan()
    };
    replica(store(&fake), &clock, plan).await.unwrap();
    clock.advance(DAY * 7);
    let refused = replica(store(&fake), &clock, plan).await;
    assert!(matches!(refused, Err(Error::Authority(_))));
}
