//! Jobs, from the API of a sidecar over the scheduler to the app and back.

use e2e::app::Answer;
use e2e::scheduler::Scheduler;
use e2e::{App, Daprd, Sentry};
use proto::runtime::v1::{DeleteJobsByPrefixRequest, Job, ListJobsRequest, ScheduleJobRequest};
use serde_json::json;
use tokio::sync::watch;
use tonic::Code;

async fn sidecar(app: &App, scheduler: &Scheduler) -> Daprd {
    let daprd = Daprd::builder("shop").app(app);
    let daprd = daprd.flag("scheduler-host-address", &scheduler.address());
    daprd.start().await
}

#[tokio::test]
async fn a_job_reaches_the_app_once_and_again_until_it_is_taken() {
    let scheduler = Scheduler::builder().start().await;
    let app = App::builder()
        .route("/job/taken", Answer::status(200))
        .route("/job/refused", Answer::status(500))
        .start()
        .await;
    let daprd = sidecar(&app, &scheduler).await;
    let http = daprd.http();
    let job = json!({"dueTime": "0s", "data": {"a": [1, "x"]}});
    http.post("/v1.0/jobs/taken", &job).await.expect_status(204);
    let calls = app.called("/job/taken", 1).await;
    assert_eq!(calls[0].json(), json!({"a": [1, "x"]}));
    assert_eq!(calls[0].header("content-type"), "application/json");
    let constant = json!({"interval": "0s", "maxRetries": 2});
    let job = json!({"dueTime": "0s", "failurePolicy": {"constant": constant}});
    let path = "/v1.0-alpha1/jobs/refused";
    http.post(path, &job).await.expect_status(204);
    app.called("/job/refused", 3).await;
    assert_eq!(app.calls("/job/taken").len(), 1);
    let metadata = daprd.metadata().await;
    let addresses = &metadata["scheduler"]["connected_addresses"];
    assert_eq!(addresses.as_array().map(Vec::len), Some(1), "{metadata}");
}

#[tokio::test]
async fn jobs_are_found_listed_and_taken_away() {
    let scheduler = Scheduler::builder().start().await;
    let app = App::builder().start().await;
    let daprd = sidecar(&app, &scheduler).await;
    let (http, mut grpc) = (daprd.http(), daprd.grpc());
    for name in ["a-1", "a-2", "b"] {
        let request = ScheduleJobRequest {
            job: Some(Job {
                name: name.to_owned(),
                schedule: Some("@daily".to_owned()),
                ..Job::default()
            }),
            overwrite: false,
        };
        grpc.schedule_job(request.clone()).await.unwrap();
        let again = grpc.schedule_job(request).await.unwrap_err();
        assert_eq!(again.code(), Code::AlreadyExists);
    }
    let found = http.get("/v1.0/jobs/b").await.expect_status(200).json();
    assert_eq!(
        (&found["name"], &found["schedule"]),
        (&json!("b"), &json!("@daily"))
    );
    let prefix = Some("a-".to_owned());
    let prefix = DeleteJobsByPrefixRequest {
        name_prefix: prefix,
    };
    grpc.delete_jobs_by_prefix(prefix).await.unwrap();
    let listed = grpc.list_jobs(ListJobsRequest {}).await.unwrap();
    let names: Vec<_> = listed.get_ref().jobs.iter().map(|job| &*job.name).collect();
    assert_eq!(names, ["b"]);
    http.delete("/v1.0/jobs/b").await.expect_status(204);
    let gone = http.get("/v1.0/jobs/b").await;
    gone.expect_error(500, "DAPR_SCHEDULER_GET_JOB");
    let twice = http.post("/v1.0/jobs/b", &json!({"name": "c"})).await;
    twice.expect_error(400, "DAPR_SCHEDULER_JOB_NAME");
}

#[tokio::test]
async fn an_unhealthy_app_is_left_alone_and_gets_its_jobs_later() {
    let scheduler = Scheduler::builder().start().await;
    let (healthy, health) = watch::channel(true);
    let app = App::builder().health(health);
    let app = app.route("/job/late", Answer::status(200)).start().await;
    let daprd = Daprd::builder("shop").app(&app).app_health_checks();
    let daprd = daprd.flag("scheduler-host-address", &scheduler.address());
    let daprd = daprd.start().await;
    healthy.send_replace(false);
    daprd.logged("the app is not healthy").await;
    let job = json!({"dueTime": "0s"});
    let scheduled = daprd.http().post("/v1.0/jobs/late", &job).await;
    scheduled.expect_status(204);
    healthy.send_replace(true);
    app.called("/job/late", 1).await;
}

#[tokio::test]
async fn identities_are_shown_on_both_sides() {
    let sentry = Sentry::start().await;
    let scheduler = Scheduler::builder().sentry(&sentry).start().await;
    let app = App::builder();
    let app = app.route("/job/sealed", Answer::status(200)).start().await;
    let daprd = Daprd::builder("shop").app(&app).sentry(&sentry);
    let daprd = daprd.flag("scheduler-host-address", &scheduler.address());
    let daprd = daprd.start().await;
    let (http, job) = (daprd.http(), json!({"dueTime": "0s"}));
    let scheduled = http.post("/v1.0/jobs/sealed", &job).await;
    scheduled.expect_status(204);
    app.called("/job/sealed", 1).await;
}
