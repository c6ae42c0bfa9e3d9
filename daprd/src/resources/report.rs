//! What this sidecar tells the operator about its components, so that it shows in their status. An operator that knows no such
//! call is asked again once an hour.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::extensions::operator::v1::{
    ComponentReport, ReportRequest, component_status_client::ComponentStatusClient,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

/// One call may take this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A sidecar that ends waits no longer to have said so; otherwise its last report counts until it is too old.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Only the replica of the operator that leads takes reports; so often one is looked for, over a connection of its own each.
const ATTEMPTS: usize = 8;

/// The pause between two of these.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(500);

/// After a change others follow, which are told with it.
const SETTLE: Duration = Duration::from_secs(2);

/// The pause after a report that was not taken.
const RETRY: Duration = Duration::from_secs(60);

/// The bounds of what the operator may ask for.
const SHORTEST: Duration = Duration::from_secs(10);
/// See [`SHORTEST`].
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Components that are told of; the operator takes no more.
const MOST_COMPONENTS: usize = 500;

/// Why a component is not open, by name; `None` if it is.
pub type States = BTreeMap<String, Option<String>>;

/// The way to the operator.
#[derive(Clone)]
pub struct Reporter {
    pub dial: Arc<dyn Fn() -> Channel + Send + Sync>,
    pub namespace: String,
    pub pod: String,
}

impl Reporter {
    /// Reports now, after changes, and as often as the operator asks for, until shutdown; then that nothing is open any more.
    pub async fn run(
        self,
        states: impl Fn() -> States,
        mut changed: watch::Receiver<u64>,
        shutdown: CancellationToken,
    ) {
        let work = async {
            loop {
                let told = states();
                let result = self.report(&told).await;
                if let Err(status) = &result {
                    tracing::debug!("a report about components is not taken: {status}");
                }
                let pause = pause(&result).mul_f64(1.0 - fastrand::f64() / 4.0);
                tokio::select! {
                    // What was not taken is not offered any sooner because it is another thing now.
                    () = other(&mut changed, &states, &told), if result.is_ok() => {
                        tokio::time::sleep(SETTLE).await;
                    }
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        shutdown.run_until_cancelled(work).await;
        self.report_within(FAREWELL_TIMEOUT, States::new()).await;
    }

    /// What a sidecar that cannot start says of the components that keep it from it, if that can be said soon.
    pub async fn report_once(&self, states: States) {
        self.report_within(CALL_TIMEOUT, states).await;
    }

    async fn report_within(&self, limit: Duration, states: States) {
        let report = self.report(&states);
        if let Ok(Err(status)) = tokio::time::timeout(limit, report).await {
            tracing::debug!("a report about components is not taken: {status}");
        }
    }

    async fn report(&self, states: &States) -> Result<Duration, Status> {
        let components = states.iter().take(MOST_COMPONENTS);
        let components = components.map(|(name, error)| ComponentReport {
            name: name.clone(),
            error: error.clone().unwrap_or_default(),
        });
        let request = ReportRequest {
            namespace: self.namespace.clone(),
            pod: self.pod.clone(),
            components: components.collect(),
        };
        let mut last = Status::deadline_exceeded("no answer in time");
        for _ in 0..ATTEMPTS {
            // A connection that is kept would lead to the same replica for ever.
            let mut client = ComponentStatusClient::new((self.dial)());
            match tokio::time::timeout(CALL_TIMEOUT, client.report(request.clone())).await {
                Ok(Ok(answer)) => {
                    let again = answer.into_inner().again_seconds;
                    return Ok(Duration::from_secs(again.into()));
                }
                Ok(Err(status)) if status.code() == Code::FailedPrecondition => last = status,
                Ok(Err(status)) => return Err(status),
                Err(_) => return Err(last),
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
        Err(last)
    }
}

/// Until there is something else to tell: attempts that fail as before are none.
async fn other(changed: &mut watch::Receiver<u64>, states: &impl Fn() -> States, told: &States) {
    while changed.changed().await.is_ok() {
        if states() != *told {
            return;
        }
    }
    std::future::pending().await
}

/// How long to wait after a report. An operator that knows no such call may be replaced by one that does.
fn pause(result: &Result<Duration, Status>) -> Duration {
    match result {
        Ok(again) => (*again).clamp(SHORTEST, LONGEST),
        Err(status) if status.code() == Code::Unimplemented => LONGEST,
        Err(_) => RETRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use proto::extensions::operator::v1::{
        ReportResponse,
        component_status_server::{ComponentStatus, ComponentStatusServer},
    };
    use tonic::{Request, Response};
    use transport::{ChannelOptions, Connector, Listener, ServerOptions};

    /// A test fails that waits for longer.
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Refuses so often, and then takes reports.
    struct Replicas {
        refusals: Mutex<Vec<Code>>,
        taken: watch::Sender<Vec<ReportRequest>>,
    }

    #[tonic::async_trait]
    impl ComponentStatus for Replicas {
        async fn report(
            &self,
            request: Request<ReportRequest>,
        ) -> Result<Response<ReportResponse>, Status> {
            if let Some(code) = self.refusals.lock().pop() {
                return Err(Status::new(code, "no"));
            }
            self.taken
                .send_modify(|taken| taken.push(request.into_inner()));
            Ok(Response::new(ReportResponse {
                again_seconds: 3600,
            }))
        }
    }

    /// Runs a reporter against replicas that refuse first, until they have taken so many reports.
    async fn reported(refusals: Vec<Code>, enough: usize) -> Vec<ReportRequest> {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let uri: http::Uri = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let (taken, mut seen) = watch::channel(Vec::new());
        let refusals = Mutex::new(refusals);
        let service = ComponentStatusServer::new(Replicas { refusals, taken });
        let (stop, served) = (CancellationToken::new(), CancellationToken::new());
        let server = transport::serve(listener, ServerOptions::default(), service, served.clone());
        let reporter = Reporter {
            dial: Arc::new(move || {
                transport::channel(uri.clone(), Connector::plain(), ChannelOptions::default())
            }),
            namespace: "shop".to_owned(),
            pod: "cart-1".to_owned(),
        };
        let (change, changed) = watch::channel(0);
        // Another one each time.
        let count = std::sync::atomic::AtomicU64::new(0);
        let states = || {
            let count = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            States::from([
                ("a".to_owned(), None),
                ("b".to_owned(), Some(format!("no {count}"))),
            ])
        };
        let run = async {
            reporter.run(states, changed, stop.clone()).await;
            served.cancel();
        };
        let script = async {
            let done = seen.wait_for(|taken| {
                change.send_modify(|count| *count += 1);
                taken.len() >= enough
            });
            let _ = tokio::time::timeout(DEADLINE, done).await;
            stop.cancel();
        };
        let all = async { tokio::join!(server, run, script) };
        tokio::time::timeout(DEADLINE * 2, all)
            .await
            .expect("an end");
        seen.borrow().clone()
    }

    #[tokio::test]
    async fn the_replica_that_leads_is_looked_for_and_changes_are_told() {
        let not_leading = vec![Code::FailedPrecondition; 2];
        let taken = reported(not_leading, 2).await;
        assert!(taken.len() >= 2, "{taken:?}");
        let errors: Vec<_> = taken[0]
            .components
            .iter()
            .map(|it| it.error.as_str())
            .collect();
        assert_eq!(taken[0].pod, "cart-1");
        let last = taken.last().expect("reports");
        assert!(last.components.is_empty(), "it has ended: {last:?}");
        assert!(
            errors[0].is_empty() && errors[1].starts_with("no "),
            "{errors:?}"
        );
    }

    #[test]
    fn an_operator_that_knows_no_reports_is_asked_again_late() {
        let no = |code| Err(Status::new(code, "no"));
        assert_eq!(pause(&no(Code::Unimplemented)), LONGEST);
        assert_eq!(pause(&no(Code::Unavailable)), RETRY);
        assert_eq!(pause(&Ok(Duration::ZERO)), SHORTEST);
        assert_eq!(pause(&Ok(Duration::from_secs(300))).as_secs(), 300);
    }

    #[tokio::test]
    async fn what_is_as_before_is_no_change() {
        let (change, mut changed) = watch::channel(0);
        let reasons = Mutex::new("no".to_owned());
        let states = || States::from([("a".to_owned(), Some(reasons.lock().clone()))]);
        let told = states();
        let mut other = std::pin::pin!(other(&mut changed, &states, &told));
        change.send_modify(|count| *count += 1);
        assert!(futures::poll!(other.as_mut()).is_pending());
        *reasons.lock() = "still no".to_owned();
        change.send_modify(|count| *count += 1);
        assert!(futures::poll!(other.as_mut()).is_ready());
    }
}
