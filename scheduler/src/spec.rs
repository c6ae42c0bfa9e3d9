//! What a job asks for: checked when it comes in, stored as upstream stores it, and read again as a [`Plan`] of when it
//! is due (contract 8.3).

use jiff::Timestamp;
use prost_types::Any;
use proto::common::v1 as common;
use proto::cron::{Job, StoredJob, stored_job::Begin};
use proto::scheduler::v1::{self as wire, failure_policy::Policy};
use proto::time::{from_wire, to_wire};
use values::{Schedule, TimeZone};

/// Why a job is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("job must have either a due time or a schedule")]
    Never,
    #[error("job must have a schedule to repeat")]
    RepeatsOnce,
    #[error("defined repeats must be greater than 0")]
    NoRepeats,
    #[error("job must have a schedule to have a ttl")]
    TtlOnce,
    #[error("ttl must be greater than due time")]
    TtlBeforeDue,
    #[error(
        "schedule {0:?} has not the six fields of second, minute, hour, day, month and weekday"
    )]
    Fields(String),
    #[error("schedule {0:?} has a time zone, which means nothing for a delay")]
    Zone(String),
    #[error("schedule {0:?}")]
    Schedule(String, #[source] values::cron::Error),
    #[error("due time format not recognized")]
    DueTime(#[source] values::period::Error),
    #[error("ttl format not recognized")]
    Ttl(#[source] values::period::Error),
    /// A stored job without its parts, or with times that are none.
    #[error("stored job is incomplete")]
    Incomplete,
}

/// Checks a job and makes of it what is stored. `partition` tells it from others of its name.
pub(crate) fn stored(
    job: wire::Job,
    metadata: Any,
    now: Timestamp,
    partition: u64,
) -> Result<StoredJob, Error> {
    if job.due_time.is_none() && job.schedule.is_none() {
        return Err(Error::Never);
    }
    if job.schedule.is_none() && job.repeats.is_some_and(|repeats| repeats > 1) {
        return Err(Error::RepeatsOnce);
    }
    if job.repeats == Some(0) {
        return Err(Error::NoRepeats);
    }
    if job.schedule.is_none() && job.ttl.is_some() {
        return Err(Error::TtlOnce);
    }
    if let Some(text) = &job.schedule {
        schedule(text)?;
    }
    let (begins, begin) = match &job.due_time {
        Some(text) => {
            let due = values::period::moment(text, now).map_err(Error::DueTime)?;
            (due, Begin::DueTime(to_wire(due)))
        }
        None => (now, Begin::Start(to_wire(now))),
    };
    let expiration = job.ttl.as_deref();
    let expiration = expiration
        .map(|text| values::period::moment(text, begins).map_err(Error::Ttl))
        .transpose()?;
    if job.due_time.is_some() && expiration.is_some_and(|expiration| begins > expiration) {
        return Err(Error::TtlBeforeDue);
    }
    Ok(StoredJob {
        partition_id: partition,
        begin: Some(begin),
        expiration: expiration.map(to_wire),
        job: Some(Job {
            schedule: job.schedule,
            due_time: job.due_time,
            ttl: job.ttl,
            repeats: job.repeats,
            metadata: Some(metadata),
            payload: job.data,
            failure_policy: Some(
                job.failure_policy
                    .and_then(policy)
                    .unwrap_or_else(default_policy),
            ),
        }),
    })
}

/// A stored job as it was asked for.
pub(crate) fn shown(job: Job) -> wire::Job {
    wire::Job {
        schedule: job.schedule,
        repeats: job.repeats,
        due_time: job.due_time,
        ttl: job.ttl,
        data: job.payload,
        failure_policy: job.failure_policy.and_then(shown_policy),
    }
}

/// When a stored job begins; `None` for what is none.
pub(crate) fn begins(value: &[u8]) -> Option<Timestamp> {
    use prost::Message as _;
    match StoredJob::decode(value).ok()?.begin? {
        Begin::Start(begin) | Begin::DueTime(begin) => from_wire(&begin),
    }
}

/// When a job is due, and what follows a failure.
pub(crate) struct Plan {
    schedule: Option<Schedule>,
    /// Where the schedule begins to count.
    begin: Timestamp,
    /// The job fires at its beginning, too.
    at_begin: bool,
    pub repeats: Option<u32>,
    pub expiration: Option<Timestamp>,
    pub policy: Option<Policy>,
}

impl Plan {
    /// The plan of a stored job.
    pub fn of(stored: &StoredJob) -> Result<Self, Error> {
        let job = stored.job.as_ref().ok_or(Error::Incomplete)?;
        let (begin, at_begin) = match stored.begin.as_ref().ok_or(Error::Incomplete)? {
            Begin::Start(start) => (start, false),
            Begin::DueTime(due) => (due, true),
        };
        let expiration = stored.expiration.as_ref();
        Ok(Self {
            schedule: job.schedule.as_deref().map(schedule).transpose()?,
            begin: from_wire(begin).ok_or(Error::Incomplete)?,
            at_begin,
            repeats: job.repeats,
            expiration: expiration
                .map(|at| from_wire(at).ok_or(Error::Incomplete))
                .transpose()?,
            policy: job.failure_policy.as_ref().and_then(|policy| policy.policy),
        })
    }

    /// The time behind `last`, of a job that has come due `count` times.
    pub fn next(&self, count: u32, last: Option<Timestamp>) -> Option<Timestamp> {
        let Some(schedule) = &self.schedule else {
            return (count == 0).then_some(self.begin);
        };
        if self.repeats.is_some_and(|repeats| count >= repeats) {
            return None;
        }
        match last {
            None if self.at_begin => Some(self.begin),
            // Schedules are read in UTC unless they name a zone.
            None => schedule.next(self.begin, &TimeZone::UTC),
            Some(last) => schedule
                .next(last, &TimeZone::UTC)
                .filter(|next| self.expiration.is_none_or(|expiration| *next <= expiration)),
        }
    }
}

fn schedule(text: &str) -> Result<Schedule, Error> {
    let shown = || text.chars().take(SHOWN).collect::<String>();
    let schedule = text
        .parse()
        .map_err(|error| Error::Schedule(shown(), error))?;
    let zone = text.starts_with("TZ=") || text.starts_with("CRON_TZ=");
    match &schedule {
        Schedule::Every(_) if zone => return Err(Error::Zone(shown())),
        Schedule::Calendar(_) => {
            // Five fields are a schedule elsewhere, but not of a job.
            let fields: Vec<_> = text.split_whitespace().skip(usize::from(zone)).collect();
            let named = fields.first().is_some_and(|field| field.starts_with('@'));
            if !named && fields.len() != FIELDS {
                return Err(Error::Fields(shown()));
            }
        }
        Schedule::Every(_) => {}
    }
    Ok(schedule)
}

fn policy(policy: common::JobFailurePolicy) -> Option<wire::FailurePolicy> {
    use common::job_failure_policy::Policy as Asked;
    let policy = match policy.policy? {
        Asked::Drop(_) => Policy::Drop(wire::FailurePolicyDrop {}),
        Asked::Constant(constant) => Policy::Constant(wire::FailurePolicyConstant {
            interval: constant.interval,
            max_retries: constant.max_retries,
        }),
    };
    Some(wire::FailurePolicy {
        policy: Some(policy),
    })
}

fn shown_policy(policy: wire::FailurePolicy) -> Option<common::JobFailurePolicy> {
    use common::job_failure_policy::Policy as Shown;
    let policy = match policy.policy? {
        Policy::Drop(_) => Shown::Drop(common::JobFailurePolicyDrop {}),
        Policy::Constant(constant) => Shown::Constant(common::JobFailurePolicyConstant {
            interval: constant.interval,
            max_retries: constant.max_retries,
        }),
    };
    Some(common::JobFailurePolicy {
        policy: Some(policy),
    })
}

fn default_policy() -> wire::FailurePolicy {
    wire::FailurePolicy {
        policy: Some(Policy::Constant(wire::FailurePolicyConstant {
            interval: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            max_retries: Some(3),
        })),
    }
}

/// A message as it stands in another, by the name that Go looks for.
pub(crate) fn any<M: prost::Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}

/// Fields of a schedule: seconds come first.
const FIELDS: usize = 6;

/// Characters of a refused schedule that the message shows.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests;
