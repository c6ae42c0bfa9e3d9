//! A stored job, read anew each time it is looked at: memory is for what cannot be read from its bytes.

use prost::Message as _;
use proto::cron::StoredJob;
use proto::scheduler::v1::{JobMetadata, job_target_metadata::Type};

use crate::names;

/// A stored job with what says where it goes.
pub(super) struct Read {
    pub stored: StoredJob,
    pub metadata: JobMetadata,
    pub route: String,
    /// What the full name has before the app's name of the job; `Engine::put` has compared it.
    pub prefix: String,
}

impl Read {
    pub fn actor_type(&self) -> Option<&str> {
        match self.metadata.target.as_ref()?.r#type.as_ref()? {
            Type::Actor(actor) => Some(&actor.r#type),
            Type::Job(_) => None,
        }
    }
}

/// `None` for bytes that are no job.
pub(super) fn read(value: &[u8]) -> Option<Read> {
    let stored = StoredJob::decode(value).ok()?;
    let metadata = stored.job.as_ref()?.metadata.as_ref()?;
    let metadata = JobMetadata::decode(&metadata.value[..]).ok()?;
    Some(Read {
        route: names::route(&metadata).ok()?,
        prefix: names::prefix(&metadata).ok()?,
        stored,
        metadata,
    })
}
