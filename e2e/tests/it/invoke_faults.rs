//! Invocation between two sidecars while the network between them fails, and while the callee stands still. The oracle: every
//! call is answered in bounded time; what nobody asked to be repeated comes to the app once at most, and once where it was
//! answered; under a policy that repeats, nothing is lost, and nothing is repeated more often than it says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::app::Answer;
use e2e::http::Client;
use e2e::process::Signal;
use e2e::proxy::Proxy;
use e2e::{App, Daprd, wait};
use futures::future::join_all;
use http::Method;
use tokio::time::Instant;

use crate::resolvers::{agent, consul};

/// Who calls beside each other, and how often each.
const CALLERS: usize = 6;
const CALLS: usize = 40;

/// No call takes longer, whatever happens; faults are over long before.
const BOUND: Duration = Duration::from_secs(30);

const REPEATS: usize = 10;

/// How often each call came to the app.
type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

struct Pair {
    caller: Daprd,
    callee: Daprd,
    proxy: Proxy,
    counts: Counts,
    _apps: (App, App),
}

impl Pair {
    /// The caller knows the callee by the address of a proxy.
    async fn start(resiliency: Option<&str>) -> Self {
        let counts = Counts::default();
        let counted = Arc::clone(&counts);
        let app = App::builder()
            .respond("/m", move |call| {
                let id = String::from_utf8_lossy(&call.body).into_owned();
                *counted
                    .lock()
                    .expect("no panic holds it")
                    .entry(id)
                    .or_default() += 1;
                async move {
                    // Some calls are under way when something happens.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Answer::bytes(call.body)
                }
            })
            .start()
            .await;
        let callee = Daprd::builder("faulty").app(&app).start().await;
        let proxy = Proxy::start(&format!("127.0.0.1:{}", callee.internal_port())).await;
        let agent = agent("faulty", proxy.port).await;
        let mut caller = Daprd::builder("caller").config(&consul(agent.port()));
        if let Some(resiliency) = resiliency {
            caller = caller.resources(resiliency);
        }
        Self {
            caller: caller.start().await,
            callee,
            proxy,
            counts,
            _apps: (app, agent),
        }
    }

    /// All calls, and how each was answered.
    async fn load(&self) -> BTreeMap<String, u16> {
        let http = self.caller.http();
        let callers = (0..CALLERS).map(|caller| call(&http, caller));
        join_all(callers).await.into_iter().flatten().collect()
    }

    fn count(&self, id: &str) -> usize {
        let counts = self.counts.lock().expect("no panic holds it");
        counts.get(id).copied().unwrap_or(0)
    }

    /// Once the network is well again, so are calls.
    async fn recovers(&self) {
        wait::eventually("a call that comes through", wait::DEADLINE, async || {
            let request = self
                .caller
                .http()
                .request(Method::POST, METHOD)
                .body("again");
            request.send().await.status == 200
        })
        .await;
    }

    async fn stop(self) {
        self.caller.stop().await;
        self.callee.stop().await;
    }
}

const METHOD: &str = "/v1.0/invoke/faulty/method/m";

async fn call(http: &Client, caller: usize) -> Vec<(String, u16)> {
    let mut answers = Vec::new();
    for number in 0..CALLS {
        let id = format!("{caller}/{number}");
        let request = http.request(Method::POST, METHOD).body(id.clone());
        let began = Instant::now();
        let reply = wait::within("an answer", BOUND, request.send()).await;
        assert!(began.elapsed() < BOUND);
        if reply.status == 200 {
            assert_eq!(reply.text(), id, "the answer of another call");
        }
        answers.push((id, reply.status));
    }
    answers
}

/// What goes wrong, again and again, until it is dropped.
async fn faults(pair: &Pair) {
    let mut ticks = tokio::time::interval(Duration::from_millis(40));
    for round in 0_u32.. {
        ticks.tick().await;
        match round % 6 {
            0 => pair.proxy.reset(),
            1 => pair.proxy.delay(Duration::from_millis(15)),
            2 => pair.proxy.half_close(),
            3 => pair.proxy.delay(Duration::ZERO),
            4 => {
                pair.callee.signal(Signal::Stop).await;
                ticks.tick().await;
                pair.callee.signal(Signal::Continue).await;
            }
            _ => {
                pair.proxy.hold(true);
                ticks.tick().await;
                pair.proxy.hold(false);
            }
        }
    }
}

/// The load under faults, which end with it.
async fn under_faults(pair: &Pair) -> BTreeMap<String, u16> {
    let load = pair.load();
    let answers = tokio::select! {
        answers = load => answers,
        () = faults(pair) => unreachable!("they go on"),
    };
    pair.callee.signal(Signal::Continue).await;
    pair.proxy.hold(false);
    pair.proxy.delay(Duration::ZERO);
    answers
}

#[tokio::test]
async fn nothing_is_repeated_that_nobody_asked_to_repeat() {
    let pair = Pair::start(None).await;
    let answers = under_faults(&pair).await;
    let good = answers.values().filter(|status| **status == 200).count();
    for (id, status) in &answers {
        let count = pair.count(id);
        assert!(count <= 1, "{id} came {count} times, answered {status}");
        assert!(
            *status != 200 || count == 1,
            "{id} was answered and never came"
        );
    }
    assert!(
        good > 0 && good < answers.len(),
        "{good} of {}",
        answers.len()
    );
    pair.recovers().await;
    pair.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_that_a_policy_repeats() {
    let policy = format!(
        "apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {{name: again}}
spec:
  policies:
    retries:
      again: {{policy: constant, duration: 100ms, maxRetries: {REPEATS}}}
  targets:
    apps:
      faulty: {{retry: again}}
"
    );
    let pair = Pair::start(Some(&policy)).await;
    let answers = under_faults(&pair).await;
    for (id, status) in &answers {
        let count = pair.count(id);
        assert_eq!(*status, 200, "{id}, which came {count} times");
        assert!(
            (1..=REPEATS + 1).contains(&count),
            "{id} came {count} times"
        );
    }
    pair.recovers().await;
    pair.stop().await;
}

/// A callee that nothing is heard of any more, while the connection stays: the timeout of a policy is what bounds the wait.
#[tokio::test]
async fn a_black_hole_is_waited_for_as_long_as_the_policy_says() {
    let policy = "apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: bound}
spec:
  policies:
    timeouts: {short: 500ms}
  targets:
    apps:
      faulty: {timeout: short}
";
    let pair = Pair::start(Some(policy)).await;
    pair.recovers().await;
    pair.proxy.hold(true);
    let request = pair
        .caller
        .http()
        .request(Method::POST, METHOD)
        .body("lost");
    let began = Instant::now();
    let reply = wait::within("an answer", BOUND, request.send()).await;
    assert_eq!(reply.status, 500);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    pair.proxy.hold(false);
    pair.recovers().await;
    assert!(pair.count("lost") <= 1);
    pair.stop().await;
}
