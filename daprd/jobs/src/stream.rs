//! One stream to a scheduler: says what this sidecar takes, hands triggers on, and answers each with its result. It is opened
//! anew when it breaks, and when something else is taken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt, StreamExt, TryFutureExt, TryStreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered},
};
use proto::extensions::jobs::{TAKES_BACK, UNDELIVERED};
use proto::scheduler::v1::{
    JobTargetType, WatchJobsRequest, WatchJobsRequestInitial, WatchJobsRequestResult,
    WatchJobsResponse, watch_jobs_request::WatchJobRequestType,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    LOG,
    engine::{Inner, Wanted},
    hosts::Host,
};

/// Most triggers of a stream that are being handed on; others wait at the scheduler.
const MOST_UNDER_WAY: usize = 1000;

/// Results that wait for the connection: all that are under way, so that a scheduler that does not read keeps no stream from
/// being left.
const RESULTS: usize = MOST_UNDER_WAY;

/// The pause around which a stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// How long triggers under way may take once a stream is left for another one, before they are broken off. The scheduler
/// hands those out again, as it does with what it has sent meanwhile. Q-job-leave
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// How long a scheduler may take to close a stream that is done with.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);

/// Why a stream is not read any more.
enum End {
    /// The scheduler has ended it, or the connection broke.
    Broken(Option<Status>),
    /// Something else is taken from now on.
    Changed,
    /// The scheduler is not there any more.
    Gone,
    /// Nothing is taken any more.
    Closed,
}

/// Holds a stream of one scheduler until that is gone, or nothing is taken any more.
pub async fn follow(inner: Arc<Inner>, host: Arc<Host>) {
    let mut wanted = inner.wanted.subscribe();
    let mut failures = 0_u32;
    loop {
        let wants = wanted.borrow_and_update().clone();
        let mut stream = (!wants.is_nothing()).then(|| Stream::open(&inner, &host, &wants));
        let end = tokio::select! {
            biased;
            () = inner.closed.cancelled() => End::Closed,
            () = host.gone.cancelled() => End::Gone,
            _ = wanted.changed() => End::Changed,
            status = take(stream.as_mut(), &mut failures) => End::Broken(status),
        };
        let limit = match &end {
            // What ends the sidecar waits as long as the sidecar does.
            End::Closed => None,
            _ => Some(LEAVE_LIMIT),
        };
        if let Some(stream) = stream {
            let leave = stream.leave(limit);
            inner
                .tasks
                .spawn("a stream of the scheduler that is left", leave);
        }
        match end {
            End::Closed | End::Gone => return,
            End::Changed => continue,
            End::Broken(status) => tell(&host, status.as_ref(), failures),
        }
        failures = failures.saturating_add(1);
        tokio::select! {
            () = inner.closed.cancelled() => return,
            () = host.gone.cancelled() => return,
            () = sleep(values::around(PAUSE, fastrand::f64())) => {}
        }
    }
}

async fn take(stream: Option<&mut Stream>, failures: &mut u32) -> Option<Status> {
    match stream {
        Some(stream) => stream.take(failures).await,
        None => std::future::pending().await,
    }
}

/// Told once, until the stream has worked again.
fn tell(host: &Host, status: Option<&Status>, failures: u32) {
    let problem = status.map_or_else(|| "it has ended".to_owned(), |it| transport::describe(it));
    let text = format!(
        "Scheduler stream disconnected from {}: {problem}",
        host.address
    );
    match failures {
        0 => tracing::warn!(target: LOG, "{text}; it is opened again"),
        _ => tracing::debug!(target: LOG, "{text}"),
    }
}

struct Stream {
    inner: Arc<Inner>,
    incoming: BoxStream<'static, Result<WatchJobsResponse, Status>>,
    results: mpsc::Sender<WatchJobsRequest>,
    /// The scheduler gives to others what is not handed on.
    takes_back: Arc<AtomicBool>,
    under_way: FuturesUnordered<BoxFuture<'static, ()>>,
    _for_app: Option<ForApp>,
}

impl Stream {
    /// Calls the scheduler. Some answer only with the first trigger, so that nothing is waited for here.
    fn open(inner: &Arc<Inner>, host: &Host, wants: &Wanted) -> Self {
        let (results, outgoing) = mpsc::channel(RESULTS);
        let initial = WatchJobsRequest {
            watch_job_request_type: Some(WatchJobRequestType::Initial(initial(inner, wants))),
        };
        let outgoing = futures::stream::iter([initial]).chain(ReceiverStream::new(outgoing));
        let mut client = host.client();
        let takes_back = Arc::<AtomicBool>::default();
        let knows = Arc::clone(&takes_back);
        let call = async move { client.watch_jobs(outgoing).await };
        let incoming = call
            .map_ok(move |answer| {
                let takes_back = answer.metadata().contains_key(TAKES_BACK);
                knows.store(takes_back, Ordering::Relaxed);
                answer.into_inner()
            })
            .try_flatten_stream();
        tracing::debug!(target: LOG, "Scheduler stream to {} for {wants:?}", host.address);
        Self {
            inner: Arc::clone(inner),
            incoming: incoming.boxed(),
            results,
            takes_back,
            under_way: FuturesUnordered::new(),
            _for_app: wants.app.then(|| ForApp::new(&inner.for_app)),
        }
    }

    /// Hands triggers on until the stream ends; may be dropped at any point without a loss.
    async fn take(&mut self, failures: &mut u32) -> Option<Status> {
        loop {
            tokio::select! {
                Some(()) = self.under_way.next() => {}
                trigger = self.incoming.next(), if self.under_way.len() < MOST_UNDER_WAY => {
                    match trigger {
                        Some(Ok(trigger)) => {
                            *failures = 0;
                            self.begin(trigger);
                        }
                        Some(Err(status)) => return Some(status),
                        None => return None,
                    }
                }
            }
        }
    }

    fn begin(&self, trigger: WatchJobsResponse) {
        let (inner, results) = (Arc::clone(&self.inner), self.results.clone());
        let delivery = async move {
            let result = inner.deliver(trigger).await;
            // Where the stream is broken, the scheduler hands the trigger out again.
            let _ = results.send(request(result)).await;
        };
        self.under_way.push(delivery.boxed());
    }

    /// Gives back what comes while something is under way: it would wait for that.
    async fn give_back(&mut self) {
        let mut id = 0;
        while !self.under_way.is_empty() {
            // A scheduler that does not read has its results at the end, or when it hands all of it out again.
            let _ = self.results.try_send(undelivered(id));
            loop {
                tokio::select! {
                    Some(()) = self.under_way.next() => if self.under_way.is_empty() {
                        return;
                    },
                    trigger = self.incoming.next() => match trigger {
                        Some(Ok(trigger)) => {
                            id = trigger.id;
                            break;
                        }
                        Some(Err(_)) | None => return,
                    },
                }
            }
        }
    }

    /// Takes no more, gives the results of what is under way, and closes.
    async fn leave(mut self, limit: Option<Duration>) {
        let rest = async {
            if self.takes_back.load(Ordering::Relaxed) {
                self.give_back().await;
            }
            while self.under_way.next().await.is_some() {}
        };
        match limit {
            Some(limit) => {
                let _ = timeout(limit, rest).await;
            }
            None => rest.await,
        }
        self.under_way.clear();
        // The scheduler reads to the end what was sent, and then closes as well.
        drop(self.results);
        let rest = async { while let Ok(Some(_)) = self.incoming.try_next().await {} };
        let _ = timeout(FAREWELL_LIMIT, rest).await;
    }
}

fn request(result: WatchJobsRequestResult) -> WatchJobsRequest {
    WatchJobsRequest {
        watch_job_request_type: Some(WatchJobRequestType::Result(result)),
    }
}

fn undelivered(id: u64) -> WatchJobsRequest {
    request(WatchJobsRequestResult {
        id,
        status: UNDELIVERED,
    })
}

fn initial(inner: &Inner, wants: &Wanted) -> WatchJobsRequestInitial {
    let mut accept = Vec::new();
    if wants.app {
        accept.push(JobTargetType::Job.into());
    }
    if !wants.types.is_empty() {
        accept.push(JobTargetType::ActorReminder.into());
    }
    WatchJobsRequestInitial {
        app_id: inner.app_id.clone(),
        namespace: inner.namespace.clone(),
        actor_types: wants.types.iter().cloned().collect(),
        accept_job_types: accept,
        concurrency_limits: inner.limits.clone(),
    }
}

/// A stream on which jobs of the app may come, counted as long as it lives.
struct ForApp(watch::Sender<usize>);

impl ForApp {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for ForApp {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}
