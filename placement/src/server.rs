//! The gRPC side: one stream per sidecar, reports in and orders out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use proto::placement::v1::placement_server::{Placement, PlacementServer};
use proto::placement::v1::{Host, PlacementOrder};
use security::SpiffeId;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};
use transport::Peer;

use crate::authorize;
use crate::board::{Board, Joined, closing};
use crate::dissemination::Order;

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

    /// As a service for [`transport::serve`].
    #[must_use]
    pub fn into_service(self) -> PlacementServer<Self> {
        PlacementServer::new(self)
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
}

#[tonic::async_trait]
impl Placement for Reports {
    type ReportDaprStatusStream =
        Pin<Box<dyn Stream<Item = Result<PlacementOrder, Status>> + Send>>;

    async fn report_dapr_status(
        &self,
        request: Request<Streaming<Host>>,
    ) -> Result<Response<Self::ReportDaprStatusStream>, Status> {
        let caller = self.caller(&request)?;
        let mut reports = request.into_inner();
        let host = timeout(FIRST_REPORT, reports.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no host was reported"))??
            .ok_or_else(|| Status::invalid_argument("the stream ended without a report"))?;
        authorize::report(&host, caller.as_ref())?;
        tracing::info!(
            target: "dapr.placement.server",
            "Received status report connection from new namespace={} id={} host={}",
            host.namespace, host.id, host.name
        );
        let namespace = host.namespace.clone();
        let joined = self.board.join(host).await?;
        let session = Session {
            board: self.board.clone(),
            caller,
            namespace,
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

struct Session {
    board: Board,
    caller: Option<SpiffeId>,
    namespace: String,
    reports: Streaming<Host>,
    joined: Joined,
    ready: VecDeque<PlacementOrder>,
}

impl Session {
    /// The next order to send; `None` when the sidecar has closed its side.
    async fn next(&mut self) -> Option<Result<PlacementOrder, Status>> {
        loop {
            if let Some(order) = self.ready.pop_front() {
                return Some(Ok(order));
            }
            tokio::select! {
                biased;
                status = &mut self.joined.expelled => {
                    return Some(Err(status.unwrap_or_else(|_| closing())));
                }
                order = self.joined.orders.recv() => match order {
                    Some(order) => self.ready.extend(wire(order)),
                    None => return Some(Err(closing())),
                },
                report = self.reports.message() => match report {
                    Ok(Some(host)) => {
                        if let Err(status) = self.reported(host).await {
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
        if host.namespace != self.namespace {
            return Err(Status::invalid_argument(format!(
                "namespace {} is not {}, which this stream began with",
                host.namespace, self.namespace
            )));
        }
        self.board.report(self.joined.id, host).await
    }
}

fn wire(order: Order) -> Vec<PlacementOrder> {
    let message = |operation: &str, version, tables| PlacementOrder {
        tables,
        operation: operation.to_owned(),
        version,
    };
    match order {
        Order::Lock(version) => vec![message("lock", version, None)],
        Order::Update(version, tables) => vec![message("update", version, Some((*tables).clone()))],
        Order::Unlock(version) => vec![message("unlock", version, None)],
        Order::Table(version, tables) => vec![
            message("lock", version, None),
            message("update", version, Some((*tables).clone())),
            message("unlock", version, None),
        ],
    }
}

/// A sidecar reports at once; what only opens streams does not get to hold them.
const FIRST_REPORT: Duration = Duration::from_secs(30);
