//! The line to placement: one stream at a time, to one member after the other until one leads (contract 7.3, 7.5).

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt, future::BoxFuture};
use proto::placement::v1::{
    Host, HostOperation, PlacementOrder, placement_client::PlacementClient,
};
use security::Expect;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use transport::{ChannelOptions, Connector, Heard};

use crate::{
    Engine,
    active::Cell,
    session::{Broken, Session, Step},
    silence::Silence,
};

/// Where placement is.
#[derive(Clone, Debug)]
pub struct Members {
    /// `host:port` of each; none switches actors off.
    pub addresses: Vec<String>,
    /// The first address is a name, and each of its addresses a member.
    pub lookup: bool,
    /// Whose certificate they show.
    pub expect: Expect,
}

/// What the engine keeps of the line.
#[derive(Default)]
pub struct Line {
    turn: AtomicUsize,
    ready: AtomicBool,
}

/// What placement is to hear once actors have gone.
#[derive(Default)]
struct Owed {
    /// Until others may have them.
    leaving: Option<BoxFuture<'static, ()>>,
    answer: Option<(HostOperation, u64)>,
}

impl Owed {
    /// The answer, once it is time for it.
    async fn due(&mut self) -> (HostOperation, u64) {
        let Some(answer) = self.answer else {
            return std::future::pending().await;
        };
        if let Some(leaving) = &mut self.leaving {
            leaving.await;
        }
        *self = Self::default();
        answer
    }
}

/// Why a stream has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no address of placement: {0}")]
    Address(String),
    #[error("{}", .0.message())]
    Status(#[from] Status),
    #[error("placement has ended the stream")]
    Closed,
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("placement has not been heard of for too long")]
    Silent,
    #[error("this sidecar did not run for {0:?}")]
    Paused(Duration),
}

impl Line {
    /// Whether there is a stream, and a table by it.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

impl Engine {
    /// Keeps a stream to placement until shutdown.
    pub(crate) async fn follow_placement(&self, shutdown: CancellationToken) {
        let inner = &self.0;
        let mut silence = Silence::new();
        let mut quiet = false;
        let mut lost = Instant::now();
        inner.pulse.recovered();
        while !shutdown.is_cancelled() {
            let ended = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                gap = inner.pulse.missed() => Ended::Paused(gap),
                ended = self.stream(quiet, &silence) => ended,
            };
            let was_ready = inner.line.ready.swap(false, Ordering::Relaxed);
            silence.ended(matches!(ended, Ended::Silent));
            // Every caller that comes to a member which does not lead would say so otherwise.
            quiet = is_follower(&ended);
            let problem = component::error::chain(&ended);
            if quiet {
                tracing::debug!("Placement stream closed: {problem}. Reconnecting...");
            } else {
                tracing::info!("Placement stream closed: {problem}. Reconnecting...");
            }
            if was_ready {
                lost = Instant::now();
            }
            // Reminders of actors that nobody can find would count as failed; the scheduler keeps them until they are taken.
            if lost.elapsed() > WITHOUT {
                inner.set_types(BTreeSet::new());
            }
            // Whoever was not there in time has lost them already.
            let grace = match &ended {
                Ended::Paused(_) => Duration::ZERO,
                Ended::Status(status) if status.code() == Code::DeadlineExceeded => Duration::ZERO,
                _ => LOST,
            };
            self.lose(grace);
            inner.pulse.recovered();
            let pause = match (was_ready, quiet) {
                (true, false) => Duration::ZERO,
                // The next member may be the one that leads.
                (_, true) => NEXT_MEMBER,
                (false, false) => PAUSE,
            };
            let pause = values::around(pause, fastrand::f64());
            let _ = shutdown
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
        }
    }

    /// One stream, from its report to its end.
    async fn stream(&self, quiet: bool, silence: &Silence) -> Ended {
        match self.try_stream(quiet, silence).await {
            Ok(()) => Ended::Closed,
            Err(ended) => ended,
        }
    }

    async fn try_stream(&self, quiet: bool, silence: &Silence) -> Result<(), Ended> {
        let inner = &self.0;
        let (reports, outgoing) = mpsc::channel(REPORTS);
        let mut advertised = inner.hosting.advertised();
        let kinds: Vec<String> = advertised.borrow_and_update().iter().cloned().collect();
        let report = self.report(kinds.clone());
        let heard = Heard::default();
        let opened = self.open(report, &reports, outgoing, heard.clone());
        let (address, orders) = timeout(CONNECT, opened)
            .await
            .map_err(|_| Status::deadline_exceeded("placement does not answer"))??;
        if quiet {
            tracing::debug!("Connected to placement service: {address}");
        } else {
            tracing::info!("Connected to placement service: {address}");
            tracing::info!(
                "Reporting initial host to placement service with initial types {kinds:?}"
            );
        }
        let silent = silence.broken(&heard);
        tokio::select! {
            ended = self.converse(orders, &reports, advertised) => ended,
            () = silent => Err(Ended::Silent),
        }
    }

    /// Takes orders to the end of the stream. They are heard also while actors go: placement may have changed its mind.
    async fn converse(
        &self,
        mut orders: impl Stream<Item = Result<PlacementOrder, Status>> + Unpin,
        reports: &mpsc::Sender<Host>,
        mut advertised: watch::Receiver<BTreeSet<String>>,
    ) -> Result<(), Ended> {
        let inner = &self.0;
        let mut session = Session::new(inner.options.disseminate_timeout);
        let mut owed = Owed::default();
        loop {
            let end = session.end();
            let late = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What has been answered is answered before the next order is heard.
                biased;
                (operation, version) = owed.due() => {
                    send(reports, self.answer(operation, version)).await?;
                    session.answered(Instant::now());
                }
                order = orders.next() => {
                    let Some(order) = order else {
                        return Ok(());
                    };
                    let order = order?;
                    inner.metrics.ordered(&order.operation);
                    for step in session.order(order, Instant::now())? {
                        self.take(step, &mut owed);
                    }
                }
                () = late => {
                    let broken = session.timed_out();
                    tracing::warn!("Dissemination timeout for version {}", session.version());
                    return Err(broken.into());
                }
                changed = advertised.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let kinds = advertised.borrow_and_update().iter().cloned().collect();
                    send(reports, self.report(kinds)).await?;
                    inner.metrics.reported();
                }
            }
        }
    }

    async fn open(
        &self,
        report: Host,
        reports: &mpsc::Sender<Host>,
        outgoing: mpsc::Receiver<Host>,
        heard: Heard,
    ) -> Result<(String, Streaming<PlacementOrder>), Ended> {
        let options = &self.0.options;
        let (address, authority) = self.next_member().await?;
        let uri: http::Uri = format!("http://{address}")
            .parse()
            .map_err(|_| Ended::Address(authority.clone()))?;
        let expect = options.placement.expect.clone();
        let connector = Connector::maybe_tls(options.security.client(expect)).heard(heard);
        let channel = transport::channel(uri, connector, ChannelOptions::control_plane());
        let mut client = PlacementClient::new(channel)
            .max_decoding_message_size(MAX_TABLE)
            .max_encoding_message_size(MAX_TABLE);
        // It waits in the stream: members answer once they have read it.
        send(reports, report).await?;
        let answer = client
            .report_dapr_status(ReceiverStream::new(outgoing))
            .await?;
        self.0.metrics.reported();
        Ok((address, answer.into_inner()))
    }

    /// The member whose turn it is: its address, and the name it was found by.
    async fn next_member(&self) -> Result<(String, String), Ended> {
        let Members {
            addresses, lookup, ..
        } = &self.0.options.placement;
        let turn = self.0.line.turn.fetch_add(1, Ordering::Relaxed);
        if !*lookup {
            let address = &addresses[turn % addresses.len()];
            return Ok((address.clone(), address.clone()));
        }
        let name = addresses[0].clone();
        let found = tokio::net::lookup_host(&name).await;
        let mut found: Vec<SocketAddr> = found
            .map_err(|error| Ended::Address(format!("{name}: {error}")))?
            .collect();
        found.sort_unstable();
        found.dedup();
        let Some(address) = found.get(turn % found.len().max(1)) else {
            return Err(Ended::Address(name));
        };
        Ok((address.to_string(), name))
    }

    /// An answer that is owed from before is not waited for any more: placement has gone on without it.
    fn take(&self, step: Step, owed: &mut Owed) {
        let inner = &self.0;
        match step {
            Step::Install(tables) => {
                inner.directory.install(placement_table::rings(&tables));
                let others = |cell: &Cell| !inner.directory.is_ours(cell.actor());
                owed.leaving = Some(self.give_away(others).boxed());
            }
            Step::Settle => {
                inner.directory.settle();
                inner.line.ready.store(true, Ordering::Relaxed);
                self.connected();
            }
            Step::Answer(operation, version) => {
                if operation != HostOperation::Update {
                    // What is left of an earlier stream: once everybody has locked, its actors are others'.
                    let is_first = operation == HostOperation::Lock && !inner.line.is_ready();
                    owed.leaving = is_first.then(|| self.left_behind().boxed());
                }
                owed.answer = Some((operation, version));
            }
        }
    }

    fn answer(&self, operation: HostOperation, version: u64) -> Host {
        let options = &self.0.options;
        Host {
            operation: operation.into(),
            version: Some(version),
            id: options.app_id.clone(),
            namespace: options.namespace.clone(),
            ..Host::default()
        }
    }

    fn report(&self, entities: Vec<String>) -> Host {
        let options = &self.0.options;
        Host {
            name: options.address.clone(),
            id: options.app_id.clone(),
            namespace: options.namespace.clone(),
            entities,
            api_level: API_LEVEL,
            operation: HostOperation::Report.into(),
            ..Host::default()
        }
    }
}

async fn send(reports: &mpsc::Sender<Host>, host: Host) -> Result<(), Ended> {
    reports.send(host).await.map_err(|_| Ended::Closed)
}

/// A member that does not lead refuses hosts, and another does not.
fn is_follower(ended: &Ended) -> bool {
    let Ended::Status(status) = ended else {
        return false;
    };
    status.code() == Code::FailedPrecondition && status.message().contains("not a leader")
}

/// What this sidecar says it can do (contract 7.3).
const API_LEVEL: u32 = 20;

/// About as long as between two attempts to reach placement.
const PAUSE: Duration = Duration::from_millis(500);

/// How long calls may go on at actors that placement may give to others at any time.
const LOST: Duration = Duration::from_secs(2);

/// How long placement may be away before no reminders are taken any more.
const WITHOUT: Duration = Duration::from_secs(5);

/// Between a member that does not lead and the next one: one is found within a second of its election.
const NEXT_MEMBER: Duration = Duration::from_millis(100);

/// How long a member may take to answer a stream; the next one may be faster.
const CONNECT: Duration = Duration::from_secs(3);

/// Reports that wait to be sent.
const REPORTS: usize = 16;

/// The largest table, in bytes.
const MAX_TABLE: usize = 64 << 20;

#[cfg(test)]
mod tests;
