//! Elections against a scripted API, in paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::fake;

/// One Lease, with the API server's compare-and-swap; `None` while the API is away.
type Server = Arc<Mutex<(Option<Value>, bool)>>;

fn leases(server: &Server) -> Api<Lease> {
    let server = Arc::clone(server);
    let (cluster, _) = fake::cluster(move |seen| {
        let mut server = server.lock();
        if !server.1 {
            return fake::status(503, "ServiceUnavailable");
        }
        let version = |lease: &Value| {
            lease["metadata"]["resourceVersion"]
                .as_str()
                .map(str::to_owned)
        };
        match (&seen.method, server.0.clone()) {
            (&Method::GET, Some(lease)) => (200, lease),
            (&Method::GET, None) => fake::missing(),
            (&Method::POST, Some(_)) => fake::status(409, "AlreadyExists"),
            (&Method::PUT, None) => fake::missing(),
            (&Method::PUT, Some(lease)) if version(&seen.body) != version(&lease) => {
                fake::status(409, "Conflict")
            }
            (_, lease) => {
                let next = lease
                    .and_then(|lease| version(&lease)?.parse::<u64>().ok())
                    .unwrap_or(0)
                    + 1;
                let mut lease = seen.body.clone();
                lease["metadata"]["resourceVersion"] = json!(next.to_string());
                server.0 = Some(lease.clone());
                (200, lease)
            }
        }
    });
    cluster.within("dapr-system")
}

fn server() -> Server {
    Arc::new(Mutex::new((None, true)))
}

fn holder(server: &Server) -> String {
    let server = server.lock();
    let holder = server
        .0
        .as_ref()
        .map(|lease| lease["spec"]["holderIdentity"].clone());
    holder
        .and_then(|holder| Some(holder.as_str()?.to_owned()))
        .unwrap_or_default()
}

struct Replica {
    terms: Arc<AtomicUsize>,
    leads: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Replica {
    fn start(name: &str, server: &Server) -> Self {
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
        let task = tokio::spawn(run(leases(server), name.to_owned(), work, stop.clone()));
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
    let server = server();
    let first = Replica::start("a", &server);
    seconds(1).await;
    assert!(first.leads());
    let second = Replica::start("b", &server);
    seconds(60).await;
    assert!(first.leads() && !second.leads());
    assert_eq!(first.terms.load(Ordering::SeqCst), 1);
    first.stop().await;
    assert_eq!(holder(&server), "", "the lease is released");
    seconds(5).await;
    assert!(second.leads());
    let transitions = server.lock().0.as_ref().unwrap()["spec"]["leaseTransitions"].clone();
    assert_eq!(transitions, json!(1));
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_the_api_stops_and_comes_back() {
    let server = server();
    let replica = Replica::start("a", &server);
    seconds(5).await;
    assert!(replica.leads());
    server.lock().1 = false;
    seconds(7).await;
    assert!(replica.leads(), "not at the first failure");
    seconds(7).await;
    assert!(!replica.leads());
    server.lock().1 = true;
    seconds(6).await;
    assert!(replica.leads());
    assert_eq!(replica.terms.load(Ordering::SeqCst), 2);
    replica.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_after_its_lease() {
    let server = server();
    let first = Replica::start("a", &server);
    seconds(1).await;
    first.task.abort();
    let second = Replica::start("b", &server);
    seconds(14).await;
    assert!(!second.leads());
    seconds(8).await;
    assert!(second.leads());
    assert_eq!(holder(&server), "b");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_work_ends_the_replica() {
    let server = server();
    let work = |_| async { Err(anyhow::anyhow!("broken")) };
    let result = run(
        leases(&server),
        "a".to_owned(),
        work,
        CancellationToken::new(),
    )
    .await;
    assert_eq!(result.unwrap_err().to_string(), "broken");
}

#[test]
fn identities_differ() {
    let (first, second) = (identity("host"), identity("host"));
    assert!(first.starts_with("host_") && first != second);
}
