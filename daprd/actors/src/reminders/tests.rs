//! Reminders over a scheduler that keeps what it was asked.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;

/// Keeps what it was asked, and answers as it was told.
#[derive(Default)]
struct Scheduler {
    scheduled: Mutex<Vec<wire::ScheduleJobRequest>>,
    deleted: Mutex<Vec<wire::DeleteByMetadataRequest>>,
    listed: wire::ListJobsResponse,
    refusal: Option<Status>,
}

#[async_trait]
impl Scheduling for Scheduler {
    async fn schedule(&self, request: wire::ScheduleJobRequest) -> Result<(), Status> {
        self.scheduled.lock().push(request);
        self.refusal.clone().map_or(Ok(()), Err)
    }

    async fn get(&self, request: wire::GetJobRequest) -> Result<wire::GetJobResponse, Status> {
        let scheduled = self.scheduled.lock();
        let found = scheduled.iter().find(|job| job.name == request.name);
        let found = found.ok_or_else(|| Status::not_found("job not found"))?;
        Ok(wire::GetJobResponse {
            job: found.job.clone(),
        })
    }

    async fn delete(&self, _: wire::DeleteJobRequest) -> Result<(), Status> {
        Err(Status::unavailable("away"))
    }

    async fn delete_by_metadata(
        &self,
        request: wire::DeleteByMetadataRequest,
    ) -> Result<(), Status> {
        self.deleted.lock().push(request);
        Ok(())
    }

    async fn delete_by_name_prefix(
        &self,
        _: wire::DeleteByNamePrefixRequest,
    ) -> Result<(), Status> {
        Ok(())
    }

    async fn list(&self, _: wire::ListJobsRequest) -> Result<wire::ListJobsResponse, Status> {
        Ok(self.listed.clone())
    }
}

fn reminders(scheduler: Scheduler) -> (Reminders, Arc<Scheduler>) {
    let scheduler = Arc::new(scheduler);
    let options = Options {
        app_id: "shop".into(),
        namespace: "default".into(),
        scheduling: Arc::clone(&scheduler) as Arc<dyn Scheduling>,
    };
    (Reminders::new(options), scheduler)
}

fn actor() -> ActorId {
    ActorId {
        kind: "cart".into(),
        id: "1".into(),
    }
}

fn asked(period: &str) -> Registration {
    Registration {
        actor: actor(),
        name: "r".into(),
        due_time: "5s".into(),
        period: period.into(),
        ttl: String::new(),
        data: None,
        overwrite: None,
        failure_policy: None,
        concurrency_key: None,
    }
}

#[test]
fn periods_are_schedules() {
    let of = |period| schedule(period).ok();
    let every = |text: &str, repeats| Some((Some(text.to_owned()), repeats));
    assert_eq!(of(""), Some((None, None)));
    assert_eq!(of("10s"), every("@every 10s", None));
    assert_eq!(of("R5/PT30M"), every("@every 30m0s", Some(5)));
    assert_eq!(of("PT1H30S"), every("@every 1h0m30s", None));
    for refused in ["P1Y", "P1M", "R3/P2D", "P1W", "every day", "@every 1s"] {
        assert_eq!(of(refused), None, "{refused}");
    }
}

#[tokio::test]
async fn a_reminder_is_a_job_for_its_actor() {
    let (reminders, scheduler) = reminders(Scheduler::default());
    reminders.create(asked("R2/PT1S")).await.unwrap();
    let request = scheduler.scheduled.lock()[0].clone();
    assert!(request.overwrite, "if nothing is said");
    let metadata = request.metadata.unwrap();
    assert_eq!(
        (&*metadata.app_id, &*metadata.namespace),
        ("shop", "default")
    );
    let Some(Type::Actor(target)) = metadata.target.unwrap().r#type else {
        panic!("no actor");
    };
    assert_eq!((&*target.r#type, &*target.id), ("cart", "1"));
    let job = request.job.unwrap();
    assert_eq!((job.due_time.as_deref(), job.ttl), (Some("5s"), None));
    let found = reminders.get(&actor(), "r").await.unwrap().unwrap();
    assert_eq!(found.period.as_deref(), Some("@every 1s"));
    assert_eq!(reminders.get(&actor(), "other").await.unwrap(), None);
    let failed = reminders.delete(&actor(), "r").await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        "rpc error: code = Unavailable desc = away"
    );
}

#[tokio::test]
async fn one_that_is_there_is_told_from_other_refusals() {
    let (reminders, _) = reminders(Scheduler {
        refusal: Some(Status::already_exists("there is one")),
        ..Scheduler::default()
    });
    let refused = reminders.create(asked("1s")).await;
    assert!(matches!(refused, Err(Error::Exists(name)) if name == "r"));
    let refused = reminders.create(asked("P1D")).await;
    assert!(matches!(refused, Err(Error::Period(_))), "{refused:?}");
}

#[tokio::test]
async fn all_reminders_of_a_type_or_of_one_actor() {
    let metadata = reminders(Scheduler::default()).0.metadata("cart", "1");
    let named = |metadata| wire::NamedJob {
        name: "r".into(),
        metadata,
        job: None,
    };
    let (reminders, scheduler) = reminders(Scheduler {
        listed: wire::ListJobsResponse {
            jobs: vec![named(Some(metadata)), named(None)],
        },
        ..Scheduler::default()
    });
    let listed = reminders.list("cart", None).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].actor, actor());
    reminders.delete_all("cart", None).await.unwrap();
    reminders.delete_all("cart", Some("1")).await.unwrap();
    let deleted = scheduler.deleted.lock();
    let prefixes: Vec<_> = deleted.iter().map(|it| it.id_prefix_match).collect();
    assert_eq!(prefixes, [Some(true), Some(false)]);
}
