//! A scheduler that fails before or after it has kept a job, fires jobs again whose results it has not heard, and now and then loses
//! a result.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jobs::Scheduling;
use parking_lot::Mutex;
use prost_types::Any;
use proto::scheduler::v1::{
    self as wire, JobMetadata, TargetActorReminder, job_target_metadata::Type,
};
use tokio::{sync::Notify, time::timeout};
use tonic::Status;
use values::Clock;

use super::chance::Chance;

/// Type, id, name.
pub type Key = (String, String, String);

pub struct Scheduler {
    chance: Arc<Chance>,
    clock: Arc<dyn Clock>,
    jobs: Mutex<BTreeMap<Key, Job>>,
    fired: Mutex<BTreeSet<Key>>,
    /// Jobs have come or gone, or may fire again.
    changed: Notify,
    /// Looks for jobs fail.
    pub refuses: AtomicBool,
    /// How long each look for a job takes, in milliseconds.
    pub slow: AtomicU64,
    /// Names of all jobs that were made, in order.
    made: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Job {
    due: jiff::Timestamp,
    repeats: bool,
    data: Option<Any>,
    /// Another with each writing.
    version: u64,
}

/// A job that comes due.
pub struct Due {
    pub key: Key,
    pub data: Option<Any>,
    version: u64,
}

impl Scheduler {
    pub fn new(chance: Arc<Chance>, clock: Arc<dyn Clock>) -> Self {
        Self {
            chance,
            clock,
            jobs: Mutex::default(),
            fired: Mutex::default(),
            changed: Notify::new(),
            refuses: AtomicBool::default(),
            slow: AtomicU64::default(),
            made: Mutex::default(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        let jobs = self.jobs.lock();
        let names = jobs.keys().map(|(_, id, name)| format!("{id}/{name}"));
        names.collect()
    }

    /// How many jobs of a name were made for an actor.
    pub fn made(&self, id: &str, name: &str) -> usize {
        let name = format!("{id}/{name}");
        self.made.lock().iter().filter(|it| **it == name).count()
    }

    /// Waits for jobs to be due.
    pub async fn wait(&self) {
        let next = {
            let (jobs, fired) = (self.jobs.lock(), self.fired.lock());
            let idle = jobs.iter().filter(|(key, _)| !fired.contains(*key));
            idle.map(|(_, job)| job.due).min()
        };
        let changed = self.changed.notified();
        let Some(next) = next else {
            return changed.await;
        };
        let left = next.duration_since(self.clock.now());
        let left = Duration::try_from(left).unwrap_or_default();
        // Timers count in milliseconds.
        let _ = timeout(left + Duration::from_millis(1), changed).await;
    }

    /// Takes the jobs that are due and not under way.
    pub fn due(&self) -> Vec<Due> {
        let now = self.clock.now();
        let jobs = self.jobs.lock();
        let mut fired = self.fired.lock();
        let due = jobs.iter().filter(|(_, job)| job.due <= now);
        due.filter(|(key, _)| fired.insert((*key).clone()))
            .map(|(key, job)| Due {
                key: key.clone(),
                data: job.data.clone(),
                version: job.version,
            })
            .collect()
    }

    /// Hears what has come of a job.
    pub fn settle(&self, due: &Due, done: bool) {
        let mut jobs = self.jobs.lock();
        self.fired.lock().remove(&due.key);
        self.changed.notify_one();
        let Some(job) = jobs
            .get_mut(&due.key)
            .filter(|job| job.version == due.version)
        else {
            return;
        };
        if job.repeats {
            job.due = self.clock.now() + Duration::from_secs(2);
        } else if done && !self.chance.strikes(5) {
            jobs.remove(&due.key);
        } else {
            job.due = self.clock.now() + Duration::from_millis(200);
        }
    }

    async fn goes_wrong(&self) -> Result<(), Status> {
        self.chance.pause().await;
        match self.chance.strikes(2) {
            true => Err(Status::internal("the scheduler is confused")),
            false => Ok(()),
        }
    }
}

fn target(metadata: Option<JobMetadata>) -> TargetActorReminder {
    match metadata.and_then(|it| it.target?.r#type) {
        Some(Type::Actor(actor)) => actor,
        _ => TargetActorReminder::default(),
    }
}

#[async_trait]
impl Scheduling for Scheduler {
    async fn schedule(&self, request: wire::ScheduleJobRequest) -> Result<(), Status> {
        self.goes_wrong().await?;
        let actor = target(request.metadata);
        let job = request.job.unwrap_or_default();
        let due = job.due_time.unwrap_or_default().parse();
        let job = Job {
            due: due.expect("a time"),
            repeats: job.schedule.is_some(),
            data: job.data,
            version: fastrand::u64(..),
        };
        self.made
            .lock()
            .push(format!("{}/{}", actor.id, request.name));
        let key = (actor.r#type, actor.id, request.name);
        self.jobs.lock().insert(key, job);
        self.changed.notify_one();
        self.chance.effect().await;
        self.goes_wrong().await
    }

    async fn get(&self, request: wire::GetJobRequest) -> Result<wire::GetJobResponse, Status> {
        self.goes_wrong().await?;
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Status::internal("the scheduler looks for nothing"));
        }
        let slow = Duration::from_millis(self.slow.load(Ordering::Relaxed));
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let actor = target(request.metadata);
        let key = (actor.r#type, actor.id, request.name);
        match self.jobs.lock().get(&key) {
            Some(job) => Ok(wire::GetJobResponse {
                job: Some(wire::Job {
                    data: job.data.clone(),
                    ..wire::Job::default()
                }),
            }),
            None => Err(Status::not_found("no such job")),
        }
    }

    async fn delete(&self, request: wire::DeleteJobRequest) -> Result<(), Status> {
        self.goes_wrong().await?;
        let actor = target(request.metadata);
        let key = (actor.r#type, actor.id, request.name);
        self.jobs.lock().remove(&key);
        self.chance.effect().await;
        self.goes_wrong().await
    }

    async fn delete_by_metadata(
        &self,
        request: wire::DeleteByMetadataRequest,
    ) -> Result<(), Status> {
        self.goes_wrong().await?;
        let prefix = request.id_prefix_match.unwrap_or_default();
        let actor = target(request.metadata);
        self.jobs.lock().retain(|(kind, id, _), _| {
            let of_it = match prefix {
                true => id.starts_with(&actor.id),
                false => *id == actor.id,
            };
            *kind != actor.r#type || !of_it
        });
        self.chance.effect().await;
        self.goes_wrong().await
    }

    async fn delete_by_name_prefix(
        &self,
        _: wire::DeleteByNamePrefixRequest,
    ) -> Result<(), Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn list(&self, request: wire::ListJobsRequest) -> Result<wire::ListJobsResponse, Status> {
        self.goes_wrong().await?;
        let actor = target(request.metadata.clone());
        let jobs = self.jobs.lock();
        let jobs = jobs
            .iter()
            .filter(|((kind, id, _), _)| (kind, id) == (&actor.r#type, &actor.id));
        let jobs = jobs.map(|((_, _, name), job)| wire::NamedJob {
            name: name.clone(),
            metadata: request.metadata.clone(),
            job: Some(wire::Job {
                data: job.data.clone(),
                ..wire::Job::default()
            }),
        });
        Ok(wire::ListJobsResponse {
            jobs: jobs.collect(),
        })
    }
}
