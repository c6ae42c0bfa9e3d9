//! Instances are looked at and waited for: here where they are of this app, else at the sidecars of theirs.

use futures::StreamExt;
use http::HeaderMap;
use proto::durabletask::{
    GetInstanceRequest, OrchestrationStatus as Status, WorkflowState, backend::v1::WorkflowMetadata,
};
use tokio::time::sleep;

use crate::{
    Engine, Error,
    calls::{self, PAUSE, read},
    core::{event, fold::has_ended},
};

impl Engine {
    /// What is known of an instance; input, output, custom status and failure only where they are asked for.
    pub async fn state(&self, request: GetInstanceRequest) -> Result<Option<WorkflowState>, Error> {
        let inner = &self.0;
        let app_id = event::target(request.router.as_ref());
        let actor = inner.actor_of(app_id, &request.instance_id)?;
        let known = if actor.kind == inner.names.workflow() {
            let record = inner.sound(&actor).await?;
            record.map(|record| record.summary(&actor.id))
        } else {
            let mut answers = inner.follow(actor, calls::flag(calls::ONCE)).await?;
            match answers.next().await.transpose()? {
                Some(answer) if answer.status != 404 => Some(read("metadata", &answer.data)?),
                _ => None,
            }
        };
        Ok(known.map(|known| shown(known, request.get_inputs_and_outputs)))
    }

    /// Waits until an instance has begun, however long that takes, and be it that it is not there yet.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub async fn wait_for_start(
        &self,
        request: GetInstanceRequest,
    ) -> Result<WorkflowState, Error> {
        let begun = |known: &WorkflowMetadata| known.runtime_status() != Status::Pending;
        self.wait_for(request, begun).await
    }

    /// Waits until an instance has ended.
    ///
    /// # Errors
    /// As [`Engine::wait_for_start`].
    pub async fn wait_for_completion(
        &self,
        request: GetInstanceRequest,
    ) -> Result<WorkflowState, Error> {
        self.wait_for(request, has_ended).await
    }

    /// The caller's patience is the bound.
    async fn wait_for(
        &self,
        request: GetInstanceRequest,
        wanted: impl Fn(&WorkflowMetadata) -> bool,
    ) -> Result<WorkflowState, Error> {
        let inner = &self.0;
        inner.options.state.check()?;
        let app_id = event::target(request.router.as_ref());
        let actor = inner.actor_of(app_id, &request.instance_id)?;
        loop {
            let mut answers = match inner.follow(actor.clone(), HeaderMap::new()).await {
                Ok(answers) => answers,
                Err(error) if error.is_passing() => {
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            while let Some(Ok(answer)) = answers.next().await {
                let known: WorkflowMetadata = read("metadata", &answer.data)?;
                if wanted(&known) {
                    return Ok(shown(known, request.get_inputs_and_outputs));
                }
            }
            if inner.closed.is_cancelled() {
                return Err(Error::Closed);
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until an instance has a status, or has ended.
    ///
    /// # Errors
    /// As [`Engine::wait_for_start`].
    pub async fn wait_for_status(
        &self,
        request: GetInstanceRequest,
        status: Status,
    ) -> Result<(), Error> {
        let wanted =
            |known: &WorkflowMetadata| known.runtime_status() == status || has_ended(known);
        self.wait_for(request, wanted).await.map(drop)
    }
}

/// What the API shows.
fn shown(known: WorkflowMetadata, payloads: bool) -> WorkflowState {
    let parent = Some(known.parent_instance_id).filter(|id| !id.is_empty());
    let mut state = WorkflowState {
        instance_id: known.instance_id,
        name: known.name,
        version: known.version,
        workflow_status: known.runtime_status,
        created_timestamp: known.created_at,
        last_updated_timestamp: known.last_updated_at,
        parent_app_id: known.parent_app_id.filter(|_| parent.is_some()),
        parent_instance_id: parent,
        started_at: known.started_at,
        ..WorkflowState::default()
    };
    if payloads {
        state.input = known.input;
        state.output = known.output;
        state.custom_status = known.custom_status;
        state.failure_details = known.failure_details;
    }
    state
}
