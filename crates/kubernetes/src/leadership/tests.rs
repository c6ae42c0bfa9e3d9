//! Elections on the fake API server, in paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kubernetes_fake::{Fake, Fault, On};
use serde_json::json;

use super::*;
use crate::client::over;

const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";

fn options(name: &str, server: &Fake) -> Options {
    Options {
        leases: Api::namespaced(over(server.service()), "dapr-system"),
        name: "operator.dapr.io".to_owned(),
        identity: name.to_owned(),
    }
}

fn spec(server: &Fake, member: &str) -> serde_json::Value {
    let lease = server.object(LEASES, "dapr-system", "operator.dapr.io");
    lease.expect("a lease")["spec"][member].clone()
}

struct Replica {
    terms: Arc<AtomicUsize>,
    leads: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    fn start(name: &str, server: &Fake) -> Self {
        let (terms, leads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&terms), Arc::clone(&leads));
        let work = move |token: CancellationToken| {
            let (terms, leads) = (Arc::clone(&counters.0), Arc::clone(&counters.1));
            async move {
                terms.fetch_add(1, Ordering::SeqCst);
                leads.fetch_add(1, Ordering::SeqCst);
                token.cancelled().await;
                leads.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            }
        };
        let stop = CancellationToken::new();
        #[allow(clippy::disallowed_methods, reason = "the test owns the task")]
        let task = tokio::spawn(run(options(name, server), work, stop.clone()));
        Self {
            terms,
            leads,
            stop,
            task,
        }
    }

    fn leads(&self) -> bool {
        self.leads.load(Ordering::SeqCst) == 1
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn seconds(count: u64) {
    tokio::time::sleep(Duration::from_secs(count)).await;
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_hands_over_when_it_stops() {
    let server = Fake::new();
    let first = Replica::start("a", &server);
    seconds(1).await;
    assert!(first.leads());
    let second = Replica::start("b", &server);
    seconds(60).await;
    assert!(first.leads() && !second.leads());
    assert_eq!(first.terms.load(Ordering::SeqCst), 1);
    first.stop().await;
    assert_eq!(spec(&server, "holderIdentity"), "", "the lease is released");
    seconds(5).await;
    assert!(second.leads());
    assert_eq!(spec(&server, "leaseTransitions"), json!(1));
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_the_api_stops_and_comes_back() {
    let server = Fake::new();
    let replica = Replica::start("a", &server);
    seconds(5).await;
    assert!(replica.leads());
    server.fault(On::all(), Fault::Status(503));
    seconds(7).await;
    assert!(replica.leads(), "not at the first failure");
    seconds(7).await;
    assert!(!replica.leads());
    server.heal();
    seconds(6).await;
    assert!(replica.leads());
    assert_eq!(replica.terms.load(Ordering::SeqCst), 2);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_after_its_lease() {
    let server = Fake::new();
    let first = Replica::start("a", &server);
    seconds(1).await;
    first.task.abort();
    let second = Replica::start("b", &server);
    seconds(14).await;
    assert!(!second.leads());
    seconds(8).await;
    assert!(second.leads());
    assert_eq!(spec(&server, "holderIdentity"), "b");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_work_ends_the_replica() {
    let server = Fake::new();
    let work = |_| async { Err(anyhow::anyhow!("broken")) };
    let result = run(options("a", &server), work, CancellationToken::new()).await;
    assert_eq!(result.unwrap_err().to_string(), "broken");
}

#[tokio::test(start_paused = true)]
async fn a_slow_api_server_still_has_a_leader() {
    let server = Fake::new();
    server.fault(On::all(), Fault::Latency(Duration::from_secs(3)));
    let replica = Replica::start("a", &server);
    seconds(8).await;
    assert!(replica.leads());
    for _ in 0..60 {
        seconds(1).await;
        assert!(replica.leads());
    }
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_requests_hang_stops_in_time() {
    let server = Fake::new();
    let first = Replica::start("a", &server);
    seconds(1).await;
    assert!(first.leads());
    server.fault(On::all(), Fault::Hang);
    // The last renewal is at most one pause old, and nobody else may lead before 15 s.
    seconds(11).await;
    assert!(!first.leads());
    server.heal();
    seconds(8).await;
    assert!(first.leads());
    first.stop().await;
}

#[test]
fn identities_differ() {
    let (first, second) = (identity("host"), identity("host"));
    assert!(first.starts_with("host_") && first != second);
}
