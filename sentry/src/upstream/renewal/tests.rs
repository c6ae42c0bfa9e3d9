//! Issuers from cert-manager, whose part a stub plays: it signs what it is asked to, or does not.

use std::sync::Mutex as Shared;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser as _;
use jiff::Timestamp;
use kubernetes_fake::Fake;
use rcgen::{BasicConstraints, CertificateSigningRequestParams, CertifiedIssuer, IsCa};
use serde_json::{Value, json};
use values::FixedClock;

use super::*;
use crate::api_server::ApiServer;
use crate::keeper::{self, Keeper};
use crate::upstream::{IssuerRef, Requests};

const REQUESTS: &str = "/apis/cert-manager.io/v1/certificaterequests";
const DAY: Duration = Duration::from_secs(86_400);
const LIFE: Duration = Duration::from_secs(90 * 86_400);
const LONGEST: Duration = Duration::from_secs(86_400 + 900);

type Root = CertifiedIssuer<'static, KeyPair>;

fn root(clock: &FixedClock) -> Root {
    let mut params = CertificateParams::default();
    let now = SystemTime::from(clock.now());
    (params.not_before, params.not_after) = ((now - DAY).into(), (now + 3650 * DAY).into());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::self_signed(params, key).unwrap()
}

fn signed(root: &Root, request: &Value, clock: &FixedClock) -> Value {
    let csr = STANDARD
        .decode(request["spec"]["request"].as_str().unwrap())
        .unwrap();
    let csr = std::str::from_utf8(&csr).unwrap();
    let mut csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
    let now = SystemTime::from(clock.now());
    csr.params.not_before = now.into();
    csr.params.not_after = (now + LIFE).into();
    csr.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let chain = csr.signed_by(root).unwrap().pem();
    json!({
        "conditions": [{"type": "Ready", "status": "True", "reason": "Issued"}],
        "certificate": STANDARD.encode(chain), "ca": STANDARD.encode(root.pem()),
    })
}

/// A cluster whose cert-manager decides at once.
struct Bench {
    fake: Fake,
    clock: FixedClock,
    root: Arc<Shared<Root>>,
    store: Store,
}

fn settings() -> crate::settings::Settings {
    let flags = crate::Flags::parse_from([
        "sentry",
        "--issuer-credentials=/x",
        "--mode=kubernetes",
        "--cert-manager-issuer-name=mesh",
    ]);
    crate::settings::Settings::new(&flags, |_| None).unwrap()
}

impl Bench {
    fn new() -> Self {
        let (fake, clock) = (Fake::new(), FixedClock::at(Timestamp::now()));
        for (path, kind) in [("secrets", "Secret"), ("configmaps", "ConfigMap")] {
            let metadata = json!({"name": "dapr-trust-bundle", "namespace": "default"});
            let object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
            fake.put(&format!("/api/v1/{path}"), object);
        }
        let root = Arc::new(Shared::new(root(&clock)));
        let (signer, time) = (root.clone(), clock.clone());
        fake.admit(move |target, object| {
            if target.plural == "certificaterequests" {
                object["status"] = signed(&signer.lock().unwrap(), object, &time);
            }
            Ok(())
        });
        let store = Store::Cluster {
            api: ApiServer::new(fake.client()),
            namespace: "default".into(),
            paths: settings().paths,
        };
        Self {
            fake,
            clock,
            root,
            store,
        }
    }

    /// A new one, as after a restart.
    fn renewal(&self) -> Renewal {
        let upstream = Requests {
            api: ApiServer::new(self.fake.client()),
            namespace: "default".into(),
            issuer: IssuerRef {
                name: "mesh".into(),
                kind: "ClusterIssuer".into(),
                group: "cert-manager.io".into(),
            },
        };
        let wanted = Wanted {
            subject: "spiffe://localhost/ns/default/dapr-sentry".into(),
            life: LIFE,
            longest: LONGEST,
        };
        Renewal::new(Box::new(upstream), wanted, Arc::new(self.clock.clone()))
    }

    async fn keeper(&self) -> Keeper {
        let registry = prometheus::Registry::new();
        let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default());
        let options = keeper::Options {
            store: Store::Cluster {
                api: ApiServer::new(self.fake.client()),
                namespace: "default".into(),
                paths: settings().paths,
            },
            settings: settings(),
            policy: crate::config::Policy {
                workload_ttl: DAY,
                clock_skew: Duration::from_secs(900),
                jwks: None,
            },
            metrics: crate::metrics::Metrics::new(&meter.unwrap()),
            clock: Arc::new(self.clock.clone()),
        };
        Keeper::open(options).await.unwrap()
    }

    /// Looks until nothing is under way.
    async fn looked(&self) {
        let mut pause = Duration::ZERO;
        while pause <= LATER {
            pause = self.renewal().look(&self.store).await.unwrap();
        }
    }

    async fn there(&self) -> Credentials {
        self.store.load().await.unwrap().credentials
    }

    fn asked(&self) -> usize {
        let seen = self.fake.seen();
        let created = |seen: &&kubernetes_fake::Seen| {
            seen.verb == "create" && seen.path.ends_with("/certificaterequests")
        };
        seen.iter().filter(created).count()
    }
}

fn text(bytes: Option<&Vec<u8>>) -> String {
    String::from_utf8(bytes.cloned().unwrap_or_default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_issuer_comes_from_outside_and_the_next_one_at_half_of_its_life() {
    let bench = Bench::new();
    bench.renewal().begin(&bench.store).await.unwrap();
    let first = bench.there().await;
    let root = bench.root.lock().unwrap().pem();
    assert_eq!(text(first.root.as_ref()), root);
    let keeper = bench.keeper().await;
    assert!(keeper.current().authority.anchors().contains(root.trim()));
    let map = bench
        .fake
        .object("/api/v1/configmaps", "default", "dapr-trust-bundle");
    assert_eq!(map.unwrap()["data"]["ca.crt"], root);
    let asked = bench.fake.seen();
    let asked = asked.iter().find(|seen| seen.verb == "create").unwrap();
    assert_eq!(asked.body["spec"]["isCA"], true);
    assert_eq!(asked.body["spec"]["issuerRef"]["kind"], "ClusterIssuer");
    let name = asked.body["metadata"]["name"].as_str().unwrap();
    assert!(
        bench.fake.object(REQUESTS, "default", name).is_none(),
        "left over"
    );

    bench.clock.advance(LIFE / 2 - DAY);
    bench.renewal().look(&bench.store).await.unwrap();
    assert_eq!((bench.there().await, bench.asked()), (first.clone(), 1));
    bench.clock.advance(DAY);
    bench.looked().await;
    let second = bench.there().await;
    assert!(second.chain != first.chain && second.key != first.key);
    assert_eq!(second.root, first.root);
    assert!(keeper.reload().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_issuer_is_told_where_it_was_not_replaced() {
    let bench = Bench::new();
    bench.renewal().begin(&bench.store).await.unwrap();
    let keeper = bench.keeper().await;
    let told = || {
        let lines = bench.fake.lines();
        lines.iter().filter(|it| it.ends_with("/events")).count()
    };
    bench.clock.advance(LIFE - 50 * DAY);
    keeper.report_expiry().await;
    assert_eq!(told(), 0);
    bench.clock.advance(25 * DAY);
    keeper.report_expiry().await;
    assert_eq!(told(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_root_is_known_before_anything_is_signed_below_it() {
    let bench = Bench::new();
    bench.renewal().begin(&bench.store).await.unwrap();
    let first = bench.there().await;
    *bench.root.lock().unwrap() = root(&bench.clock);
    bench.clock.advance(LIFE / 2);
    bench.looked().await;
    let between = bench.there().await;
    assert_eq!((&between.chain, &between.key), (&first.chain, &first.key));
    let anchors = ca::certificates(between.root.as_ref().unwrap(), "anchors").unwrap();
    assert_eq!(anchors.len(), 2);
    // Also after a restart.
    bench.clock.advance(LONGEST - Duration::from_secs(60));
    bench.renewal().look(&bench.store).await.unwrap();
    assert_eq!((bench.there().await, bench.asked()), (between.clone(), 2));
    bench.keeper().await;
    bench.clock.advance(Duration::from_secs(61));
    bench.looked().await;
    let last = bench.there().await;
    assert!(last.chain != first.chain && last.root == between.root);
    bench.keeper().await;
    bench.renewal().look(&bench.store).await.unwrap();
    assert_eq!(bench.asked(), 2, "and that is all");
}

#[tokio::test(start_paused = true)]
async fn what_sentry_has_made_gives_way_and_what_others_have_made_stays() {
    let bench = Bench::new();
    bench.keeper().await;
    let own = bench.there().await;
    bench.renewal().begin(&bench.store).await.unwrap();
    bench.looked().await;
    let between = bench.there().await;
    assert_eq!(between.chain, own.chain);
    let keeper = bench.keeper().await;
    bench.clock.advance(LONGEST + Duration::from_secs(1));
    bench.looked().await;
    assert_ne!(bench.there().await.chain, own.chain);
    assert!(keeper.reload().await.unwrap());

    let foreign = Bench::new();
    let stored = foreign.store.load().await.unwrap();
    let theirs = Credentials {
        record: None,
        ..own
    };
    foreign.store.save(&stored, &theirs, None).await.unwrap();
    let refused = foreign.renewal().begin(&foreign.store).await;
    assert!(matches!(refused, Err(Error::Foreign { .. })), "{refused:?}");
    assert_eq!((foreign.there().await, foreign.asked()), (theirs, 0));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_denied_is_no_issuer_and_another_one_follows() {
    for (status, expected) in [
        (
            json!({"conditions": [{"type": "Denied", "status": "True", "message": "not by policy"}]}),
            "not by policy",
        ),
        (
            json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Failed", "message": "no signer"}]}),
            "no signer",
        ),
        (
            json!({"conditions": [{"type": "Ready", "status": "True"}], "certificate": "eA=="}),
            "no ca",
        ),
    ] {
        let bench = Bench::new();
        let answer = status.clone();
        bench.fake.admit(move |target, object| {
            if target.plural == "certificaterequests" {
                object["status"] = answer.clone();
            }
            Ok(())
        });
        for _ in 0..2 {
            bench.renewal().look(&bench.store).await.unwrap();
            let refused = bench.renewal().look(&bench.store).await;
            let refused = refused.expect_err("no issuer").to_string();
            assert!(refused.contains(expected), "{refused}");
            let there = bench.there().await;
            assert_eq!((there.root, there.chain, there.key), (None, None, None));
        }
        let seen = bench.fake.seen();
        let deleted = seen.iter().filter(|seen| seen.verb == "delete").count();
        assert_eq!((bench.asked(), deleted), (2, 2), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_approves_after_days_is_put_into_force_also_after_restarts() {
    let bench = Bench::new();
    bench.fake.admit(|_, _| Ok(()));
    let name = || {
        let seen = bench.fake.seen();
        let created = seen.iter().find(|seen| seen.verb == "create").unwrap();
        created.body["metadata"]["name"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for hour in 0..100 {
        let pause = bench.renewal().look(&bench.store).await.unwrap();
        assert!(pause <= LATER, "nobody is waited for");
        bench.clock.advance(Duration::from_secs(60 * 60));
        if hour == 50 {
            bench.fake.remove(REQUESTS, "default", &name());
        }
    }
    assert_eq!(bench.asked(), 2, "once, and once more as it was removed");
    let mut request = bench.fake.object(REQUESTS, "default", &name()).unwrap();
    request["status"] = signed(&bench.root.lock().unwrap(), &request, &bench.clock);
    bench.fake.put(REQUESTS, request);
    bench.looked().await;
    bench.keeper().await;
    assert_eq!(bench.asked(), 2);
    assert!(bench.fake.object(REQUESTS, "default", &name()).is_none());
}
