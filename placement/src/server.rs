//! The gRPC side: one stream per sidecar, reports in and orders out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use proto::placement::v1::Host;
use security::SpiffeId;
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status, Streaming};
use transport::Peer;

use crate::authorize;
use crate::board::{Board, Joined, closing};
use crate::service::wire;

/// The service behind `ReportDaprStatus`.
#[derive(Clone)]
pub struct Reports {
    board: Board,
    mtls: bool,
}

impl Reports {
    /// With `mtls` every caller has to have an identity, and may only report for itself.
    #[must_use]
    pub fn new(board: Board, mtls: bool) -> Self {
        Reports { board, mtls }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Option<SpiffeId>, Status> {
        if !self.mtls {
            return Ok(None);
        }
        let peer = request.extensions().get::<Peer>();
        let id = peer.and_then(|peer| security::peer_id(peer).ok().flatten());
        id.map(Some)
            .ok_or_else(|| Status::unauthenticated("failed to get client ID from context"))
    }

    /// Takes a sidecar's reports, and gives it its orders.
    pub(crate) async fn report_dapr_status(
        &self,
        request: Request<Streaming<Host>>,
    ) -> Result<Response<Orders>, Status> {
        let caller = self.caller(&request)?;
        let mut reports = request.into_inner();
        let host = timeout(FIRST_REPORT, reports.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no host was reported"))??
            .ok_or_else(|| Status::invalid_argument("the stream ended without a report"))?;
        authorize::report(&host, caller.as_ref())
            .inspect_err(|status| self.board.refused(&host, status))?;
        tracing::info!(
            target: "dapr.placement.server",
            "Received status report connection from new namespace={} id={} host={}",
            host.namespace, host.id, host.name
        );
        let first = names(&host);
        let joined = self.board.join(host).await?;
        let session = Session {
            board: self.board.clone(),
            caller,
            host: first,
            reports,
            joined,
            ready: VecDeque::new(),
        };
        // The response stream reads the reports too: it lives exactly as long as the connection wants it,
        // and dropping it is what tells the board that the sidecar has left.
        let orders = futures::stream::unfold(Some(session), |session| async move {
            let mut session = session?;
            match session.next().await {
                Some(Ok(order)) => Some((Ok(order), Some(session))),
                Some(Err(status)) => Some((Err(status), None)),
                None => None,
            }
        });
        Ok(Response::new(Box::pin(orders)))
    }
}

/// Encoded orders, until the stream ends.
pub(crate) type Orders = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

struct Session {
    board: Board,
    caller: Option<SpiffeId>,
    /// How the stream began: the host without its types.
    host: Host,
    reports: Streaming<Host>,
    joined: Joined,
    ready: VecDeque<Bytes>,
}

impl Session {
    /// The next order to send; `None` when the sidecar has closed its side.
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            if let Some(order) = self.ready.pop_front() {
                return Some(Ok(order));
            }
            tokio::select! {
                biased;
                status = &mut self.joined.expelled => {
                    let status = status.unwrap_or_else(|_| closing());
                    if status.code() == Code::ResourceExhausted {
                        self.board.refused(&self.host, &status);
                    }
                    return Some(Err(status));
                }
                order = self.joined.orders.next() => match order {
                    Some(order) => self.ready.extend(wire(order)),
                    None => return Some(Err(closing())),
                },
                report = self.reports.message() => match report {
                    Ok(Some(host)) => {
                        if let Err(status) = self.reported(host).await {
                            self.board.refused(&self.host, &status);
                            return Some(Err(status));
                        }
                    }
                    Ok(None) => return None,
                    Err(status) => return Some(Err(status)),
                },
            }
        }
    }

    async fn reported(&mut self, host: Host) -> Result<(), Status> {
        authorize::report(&host, self.caller.as_ref())?;
        if host.namespace != self.host.namespace {
            return Err(Status::invalid_argument(format!(
                "namespace {} is not {}, which this stream began with",
                host.namespace, self.host.namespace
            )));
        }
        self.board.report(self.joined.id, host).await
    }
}

/// Who a host is.
fn names(host: &Host) -> Host {
    Host {
        name: host.name.clone(),
        id: host.id.clone(),
        namespace: host.namespace.clone(),
        ..Host::default()
    }
}

/// A sidecar reports at once; what only opens streams does not get to hold them.
const FIRST_REPORT: Duration = Duration::from_secs(30);
