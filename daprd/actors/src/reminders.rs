//! Reminders of actors (contract 11.4): jobs of the scheduler whose target is an actor.

use std::sync::Arc;

use jobs::{DISABLED, Scheduling};
use prost_types::Any;
use proto::{
    common::v1::JobFailurePolicy,
    scheduler::v1::{
        self as wire, JobMetadata, JobTargetMetadata, TargetActorReminder,
        job_target_metadata::Type,
    },
};
use tonic::{Code, Status};
use values::{Period, period::rfc3339};

use crate::ActorId;

#[cfg(test)]
mod tests;

/// What reminders are made of.
pub struct Options {
    pub app_id: String,
    /// Of the identity, by which schedulers know the app.
    pub namespace: String,
    pub scheduling: Arc<dyn Scheduling>,
}

/// The reminders of actors. Whether a type is hosted here is the caller's business. Clones share it.
#[derive(Clone)]
pub struct Reminders {
    app_id: String,
    namespace: String,
    scheduling: Arc<dyn Scheduling>,
}

/// A reminder that is asked for.
#[derive(Clone, Debug)]
pub struct Registration {
    pub actor: ActorId,
    pub name: String,
    /// When it fires first, as the caller wrote it; empty for now, or one period from now.
    pub due_time: String,
    /// How often it fires, as the caller wrote it; empty for once.
    pub period: String,
    /// How long it fires, as the caller wrote it; empty for ever.
    pub ttl: String,
    pub data: Option<Any>,
    /// Whether it may take the place of another of its name; it may if nothing is said.
    pub overwrite: Option<bool>,
    pub failure_policy: Option<JobFailurePolicy>,
    /// By which its triggers are limited, besides the type.
    pub concurrency_key: Option<String>,
}

/// A reminder, as the scheduler has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reminder {
    pub actor: ActorId,
    pub name: String,
    pub due_time: Option<String>,
    /// As the scheduler spells it.
    pub period: Option<String>,
    /// When it ends, in RFC 3339.
    pub ttl: Option<String>,
    pub data: Option<Any>,
}

/// Why a reminder is not kept, found or taken away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is one of that name, which is not to be overwritten.
    #[error("actor reminder already exists: {0}")]
    Exists(String),
    /// A period that the scheduler has no schedule for.
    #[error("unsupported period format: {0}")]
    Period(String),
    /// No scheduler is configured.
    #[error("{DISABLED}")]
    Disabled,
    /// What the scheduler said.
    #[error("rpc error: code = {} desc = {}", component::error::code_name(.0.code() as i32), .0.message())]
    Scheduler(Box<Status>),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if status.message() == DISABLED {
            return Self::Disabled;
        }
        Self::Scheduler(Box::new(status))
    }
}

impl Reminders {
    pub fn new(options: Options) -> Self {
        Self {
            app_id: options.app_id,
            namespace: options.namespace,
            scheduling: options.scheduling,
        }
    }

    /// Keeps a reminder.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn create(&self, asked: Registration) -> Result<(), Error> {
        let (schedule, repeats) = schedule(&asked.period)?;
        let mut metadata = self.metadata(&asked.actor.kind, &asked.actor.id);
        metadata.concurrency_key = asked.concurrency_key;
        let request = wire::ScheduleJobRequest {
            name: asked.name.clone(),
            job: Some(wire::Job {
                schedule,
                repeats,
                due_time: given(asked.due_time),
                ttl: given(asked.ttl),
                data: asked.data,
                failure_policy: asked.failure_policy,
            }),
            metadata: Some(metadata),
            overwrite: asked.overwrite.unwrap_or(true),
        };
        match self.scheduling.schedule(request).await {
            Err(status) if status.code() == Code::AlreadyExists => Err(Error::Exists(asked.name)),
            other => Ok(other?),
        }
    }

    /// A reminder, if it is there.
    ///
    /// # Errors
    /// [`Error::Scheduler`]; so are those of all that follow.
    pub async fn get(&self, actor: &ActorId, name: &str) -> Result<Option<Reminder>, Error> {
        let request = wire::GetJobRequest {
            name: name.to_owned(),
            metadata: Some(self.metadata(&actor.kind, &actor.id)),
        };
        let found = match self.scheduling.get(request).await {
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            other => other?,
        };
        let job = found.job.unwrap_or_default();
        Ok(Some(reminder(actor.clone(), name.to_owned(), job)))
    }

    /// Takes a reminder away; one that is not there is fine.
    pub async fn delete(&self, actor: &ActorId, name: &str) -> Result<(), Error> {
        let request = wire::DeleteJobRequest {
            name: name.to_owned(),
            metadata: Some(self.metadata(&actor.kind, &actor.id)),
        };
        Ok(self.scheduling.delete(request).await?)
    }

    /// Takes all reminders of an actor away, or of all actors of a type.
    pub async fn delete_all(&self, kind: &str, id: Option<&str>) -> Result<(), Error> {
        let request = wire::DeleteByMetadataRequest {
            metadata: Some(self.metadata(kind, id.unwrap_or_default())),
            id_prefix_match: Some(id.is_none()),
        };
        Ok(self.scheduling.delete_by_metadata(request).await?)
    }

    /// Takes all reminders of those actors of a type away whose ids begin so.
    pub async fn delete_prefix(&self, kind: &str, prefix: &str) -> Result<(), Error> {
        let request = wire::DeleteByMetadataRequest {
            metadata: Some(self.metadata(kind, prefix)),
            id_prefix_match: Some(true),
        };
        Ok(self.scheduling.delete_by_metadata(request).await?)
    }

    /// All reminders of an actor, or of all actors of a type.
    pub async fn list(&self, kind: &str, id: Option<&str>) -> Result<Vec<Reminder>, Error> {
        let request = wire::ListJobsRequest {
            metadata: Some(self.metadata(kind, id.unwrap_or_default())),
        };
        let listed = self.scheduling.list(request).await?;
        let jobs = listed.jobs.into_iter();
        Ok(jobs
            .filter_map(|named| match named.metadata?.target?.r#type? {
                Type::Actor(actor) => {
                    let actor = ActorId {
                        kind: actor.r#type,
                        id: actor.id,
                    };
                    Some(reminder(actor, named.name, named.job.unwrap_or_default()))
                }
                Type::Job(_) => None,
            })
            .collect())
    }

    fn metadata(&self, kind: &str, id: &str) -> JobMetadata {
        JobMetadata {
            app_id: self.app_id.clone(),
            namespace: self.namespace.clone(),
            target: Some(JobTargetMetadata {
                r#type: Some(Type::Actor(TargetActorReminder {
                    id: id.to_owned(),
                    r#type: kind.to_owned(),
                })),
            }),
            concurrency_key: None,
        }
    }
}

fn reminder(actor: ActorId, name: String, job: wire::Job) -> Reminder {
    Reminder {
        actor,
        name,
        due_time: job.due_time.and_then(given),
        period: job.schedule.and_then(given),
        ttl: job.ttl.filter(|ttl| rfc3339(ttl).is_some()),
        data: job.data,
    }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// The schedule of a period, and how often it fires. The scheduler counts in hours and less: what has no fixed length is
/// refused (contract 11.4).
fn schedule(period: &str) -> Result<(Option<String>, Option<u32>), Error> {
    if period.is_empty() {
        return Ok((None, None));
    }
    let unsupported = || Error::Period(period.to_owned());
    let parsed: Period = period.parse().map_err(|_| unsupported())?;
    if parsed.years > 0 || parsed.months > 0 || parsed.days > 0 {
        return Err(unsupported());
    }
    let repeats = parsed.repetitions.and_then(|it| u32::try_from(it).ok());
    let repeats = repeats.filter(|repeats| *repeats > 0);
    Ok((Some(format!("@every {}", parsed.time)), repeats))
}
