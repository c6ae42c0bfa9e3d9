//! What actors and jobs are to each other: reminders are jobs of the scheduler whose triggers go to the actors.

use std::collections::BTreeSet;

use async_trait::async_trait;
use proto::scheduler::v1 as wire;
use tokio::sync::watch;

/// Asks the schedulers, any one of them. Requests carry the target: a job of this app, or a reminder (contract 8.4).
#[async_trait]
pub trait Scheduling: Send + Sync {
    /// Keeps a job.
    ///
    /// # Errors
    /// The scheduler's status, or `Unavailable` where none is reached within the time of an RPC; so are those of all calls.
    async fn schedule(&self, request: wire::ScheduleJobRequest) -> Result<(), tonic::Status>;

    /// The job of a name.
    async fn get(
        &self,
        request: wire::GetJobRequest,
    ) -> Result<wire::GetJobResponse, tonic::Status>;

    /// Takes a job away; one that is not there is fine.
    async fn delete(&self, request: wire::DeleteJobRequest) -> Result<(), tonic::Status>;

    /// Takes all jobs of a target away.
    async fn delete_by_metadata(
        &self,
        request: wire::DeleteByMetadataRequest,
    ) -> Result<(), tonic::Status>;

    /// Takes those jobs of a target away whose names begin as given.
    async fn delete_by_name_prefix(
        &self,
        request: wire::DeleteByNamePrefixRequest,
    ) -> Result<(), tonic::Status>;

    /// All jobs of a target.
    async fn list(
        &self,
        request: wire::ListJobsRequest,
    ) -> Result<wire::ListJobsResponse, tonic::Status>;
}

/// Takes the reminders that come due.
#[async_trait]
pub trait Reminders: Send + Sync {
    /// Runs a reminder on its actor, wherever that lives; comes back once it has run.
    async fn remind(&self, trigger: Trigger) -> Outcome;
}

/// A reminder that is due.
#[derive(Clone, Debug)]
pub struct Trigger {
    pub actor_type: String,
    pub actor_id: String,
    /// Name of the reminder.
    pub name: String,
    /// What it was registered with.
    pub data: Option<prost_types::Any>,
}

/// What the scheduler hears of a trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran, or nobody wants it any more.
    Done,
    /// It did not run; the failure policy of the job decides.
    Failed,
}

/// The actor types whose reminders this sidecar takes at the moment; streams to the schedulers follow it.
pub type ActorTypes = watch::Receiver<BTreeSet<String>>;
