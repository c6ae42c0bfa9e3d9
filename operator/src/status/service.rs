//! The call by which sidecars report (`daprrust.operator.v1`).

use std::collections::BTreeMap;

use proto::extensions::operator::v1::component_status_server::ComponentStatus;
use proto::extensions::operator::v1::{ReportRequest, ReportResponse};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Statuses;
use super::board::{AGAIN, Full, LONGEST_REASON, MOST_COMPONENTS, Reason, Sidecar};
use crate::api::access::authorize;

/// The longest name of a pod.
const LONGEST_POD: usize = 253;

/// Takes reports.
pub struct Reports {
    statuses: Statuses,
}

impl Reports {
    pub fn new(statuses: Statuses) -> Self {
        Self { statuses }
    }
}

#[tonic::async_trait]
impl ComponentStatus for Reports {
    async fn report(
        &self,
        request: Request<ReportRequest>,
    ) -> Result<Response<ReportResponse>, Status> {
        let caller = authorize(&request, &request.get_ref().namespace)?;
        let report = request.into_inner();
        if report.components.len() > MOST_COMPONENTS || report.pod.len() > LONGEST_POD {
            return Err(Status::invalid_argument("the report is too large"));
        }
        let mut components: BTreeMap<String, Reason> = BTreeMap::new();
        for one in report.components {
            // What an app does not load is not its to speak of; what is built in is not in the cluster.
            let there = self
                .statuses
                .components
                .find(&caller.namespace, &one.name, None);
            if there.is_some_and(|entry| entry.in_scope(&caller.app_id)) {
                let reason = (!one.error.is_empty()).then(|| shortened(&one.error));
                components.insert(one.name, reason);
            }
        }
        let sidecar = Sidecar {
            namespace: caller.namespace,
            app_id: caller.app_id,
            pod: report.pod,
        };
        let mut state = self.statuses.shared.lock();
        if state.leading.is_none() {
            return Err(Status::failed_precondition("this replica does not lead"));
        }
        let taken = state.board.report(sidecar, components, Instant::now());
        taken.map_err(|Full| {
            Status::resource_exhausted("there are too many sidecars, or too many of this app")
        })?;
        let again_seconds = u32::try_from(AGAIN.as_secs()).unwrap_or(u32::MAX);
        Ok(Response::new(ReportResponse { again_seconds }))
    }
}

/// In room of its own: what is cut off would stay with what is left.
fn shortened(reason: &str) -> String {
    if reason.len() <= LONGEST_REASON {
        return reason.to_owned();
    }
    let kept = &reason[..reason.floor_char_boundary(LONGEST_REASON)];
    format!("{kept}…")
}
