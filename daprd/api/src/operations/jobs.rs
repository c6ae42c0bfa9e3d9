//! Job operations: what is asked of the schedulers on behalf of the app.

use proto::{
    runtime::v1::{
        DeleteJobRequest, DeleteJobResponse, DeleteJobsByPrefixRequest,
        DeleteJobsByPrefixRequestAlpha1, DeleteJobsByPrefixResponse,
        DeleteJobsByPrefixResponseAlpha1, GetJobRequest, GetJobResponse, Job, ListJobsRequest,
        ListJobsRequestAlpha1, ListJobsResponse, ListJobsResponseAlpha1, ScheduleJobRequest,
        ScheduleJobResponse,
    },
    scheduler::v1::{
        self as wire, JobMetadata, JobTargetMetadata, TargetJob, job_target_metadata::Type,
    },
};
use tonic::Status;

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, Reason, http::jobs as codec, reason::jobs as reason};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "ScheduleJob",
        "jobs",
        &[
            rpc!("ScheduleJob", "v1", schedule_job),
            rpc!("ScheduleJobAlpha1", "v1alpha1", schedule_job),
        ],
        &[
            Route {
                methods: &["POST"],
                path: "/v1.0/jobs/{name}",
                codec: |api, call| Box::pin(codec::schedule(api, call)),
            },
            Route {
                methods: &["POST"],
                path: "/v1.0-alpha1/jobs/{name}",
                codec: |api, call| Box::pin(codec::schedule(api, call)),
            },
        ],
    ),
    Operation::new(
        "GetJob",
        "jobs",
        &[
            rpc!("GetJob", "v1", job),
            rpc!("GetJobAlpha1", "v1alpha1", job),
        ],
        &[
            Route {
                methods: &["GET"],
                path: "/v1.0/jobs/{name}",
                codec: |api, call| Box::pin(codec::get(api, call)),
            },
            Route {
                methods: &["GET"],
                path: "/v1.0-alpha1/jobs/{name}",
                codec: |api, call| Box::pin(codec::get(api, call)),
            },
        ],
    ),
    Operation::new(
        "DeleteJob",
        "jobs",
        &[
            rpc!("DeleteJob", "v1", delete_job),
            rpc!("DeleteJobAlpha1", "v1alpha1", delete_job),
        ],
        &[
            Route {
                methods: &["DELETE"],
                path: "/v1.0/jobs/{name}",
                codec: |api, call| Box::pin(codec::delete(api, call)),
            },
            Route {
                methods: &["DELETE"],
                path: "/v1.0-alpha1/jobs/{name}",
                codec: |api, call| Box::pin(codec::delete(api, call)),
            },
        ],
    ),
    Operation::new(
        "DeleteJobsByPrefix",
        "jobs",
        &[
            rpc!("DeleteJobsByPrefix", "v1", delete_jobs),
            rpc!("DeleteJobsByPrefixAlpha1", "v1alpha1", delete_jobs_alpha1),
        ],
        &[],
    ),
    Operation::new(
        "ListJobs",
        "jobs",
        &[
            rpc!("ListJobs", "v1", list_jobs),
            rpc!("ListJobsAlpha1", "v1alpha1", list_jobs_alpha1),
        ],
        &[],
    ),
];

impl Api {
    /// Keeps a job, which the app is called with when it is due.
    pub async fn schedule_job(
        &self,
        _call: &CallContext,
        request: ScheduleJobRequest,
    ) -> Result<ScheduleJobResponse, ApiError> {
        let ScheduleJobRequest { job, overwrite } = request;
        let job = job.ok_or_else(|| self.empty("Job", &reason::EMPTY))?;
        self.check_name(&job.name)?;
        if job.schedule.is_none() && job.due_time.is_none() {
            return Err(self.empty("Schedule", &reason::SCHEDULE_EMPTY));
        }
        let name = job.name.clone();
        let request = wire::ScheduleJobRequest {
            name: job.name,
            job: Some(wire::Job {
                schedule: job.schedule,
                repeats: job.repeats,
                due_time: job.due_time,
                ttl: job.ttl,
                data: job.data,
                failure_policy: job.failure_policy,
            }),
            metadata: self.app_job(),
            overwrite,
        };
        let scheduled = self.options.jobs.schedule(request).await;
        scheduled.map_err(|status| {
            tracing::error!("Error scheduling job {name} due to: {}", said(&status));
            let reason = reason::schedule_of(status.code());
            self.failed(reason, "failed to schedule job", &status)
        })?;
        Ok(ScheduleJobResponse {})
    }

    /// A job as it was scheduled.
    pub async fn job(
        &self,
        _call: &CallContext,
        request: GetJobRequest,
    ) -> Result<GetJobResponse, ApiError> {
        self.check_name(&request.name)?;
        let name = request.name.clone();
        let request = wire::GetJobRequest {
            name: request.name,
            metadata: self.app_job(),
        };
        let found = self.options.jobs.get(request).await;
        let found =
            found.map_err(|status| self.failed(&reason::GET, "failed to get job", &status))?;
        Ok(GetJobResponse {
            job: Some(public(name, found.job.unwrap_or_default())),
        })
    }

    /// Takes a job away; one that is not there is fine.
    pub async fn delete_job(
        &self,
        _call: &CallContext,
        request: DeleteJobRequest,
    ) -> Result<DeleteJobResponse, ApiError> {
        self.check_name(&request.name)?;
        let request = wire::DeleteJobRequest {
            name: request.name,
            metadata: self.app_job(),
        };
        let deleted = self.options.jobs.delete(request).await;
        deleted.map_err(|status| self.failed(&reason::DELETE, "failed to delete job", &status))?;
        Ok(DeleteJobResponse {})
    }

    /// Takes away all jobs whose names begin as given; with nothing given, all.
    pub async fn delete_jobs(
        &self,
        _call: &CallContext,
        request: DeleteJobsByPrefixRequest,
    ) -> Result<DeleteJobsByPrefixResponse, ApiError> {
        let request = wire::DeleteByNamePrefixRequest {
            name_prefix: request.name_prefix.unwrap_or_default(),
            metadata: self.app_job(),
        };
        let deleted = self.options.jobs.delete_by_name_prefix(request).await;
        deleted.map_err(|status| self.failed(&reason::DELETE, "failed to delete job", &status))?;
        Ok(DeleteJobsByPrefixResponse {})
    }

    /// The same by its older name.
    pub async fn delete_jobs_alpha1(
        &self,
        call: &CallContext,
        request: DeleteJobsByPrefixRequestAlpha1,
    ) -> Result<DeleteJobsByPrefixResponseAlpha1, ApiError> {
        let request = DeleteJobsByPrefixRequest {
            name_prefix: request.name_prefix,
        };
        self.delete_jobs(call, request).await?;
        Ok(DeleteJobsByPrefixResponseAlpha1 {})
    }

    /// All jobs of the app.
    pub async fn list_jobs(
        &self,
        _call: &CallContext,
        _request: ListJobsRequest,
    ) -> Result<ListJobsResponse, ApiError> {
        let request = wire::ListJobsRequest {
            metadata: self.app_job(),
        };
        let listed = self.options.jobs.list(request).await;
        let listed =
            listed.map_err(|status| self.failed(&reason::LIST, "failed to list jobs", &status))?;
        let jobs = listed.jobs.into_iter();
        let jobs = jobs.map(|named| public(named.name, named.job.unwrap_or_default()));
        Ok(ListJobsResponse {
            jobs: jobs.collect(),
        })
    }

    /// The same by its older name.
    pub async fn list_jobs_alpha1(
        &self,
        call: &CallContext,
        _request: ListJobsRequestAlpha1,
    ) -> Result<ListJobsResponseAlpha1, ApiError> {
        let listed = self.list_jobs(call, ListJobsRequest {}).await?;
        Ok(ListJobsResponseAlpha1 { jobs: listed.jobs })
    }

    pub(crate) fn app_id(&self) -> &str {
        &self.options.app_id
    }

    /// Whose jobs they are: the scheduler checks it against the identity of this sidecar.
    fn app_job(&self) -> Option<JobMetadata> {
        Some(JobMetadata {
            app_id: self.options.app_id.clone(),
            namespace: self.options.namespace.clone(),
            target: Some(JobTargetMetadata {
                r#type: Some(Type::Job(TargetJob {})),
            }),
            ..JobMetadata::default()
        })
    }

    fn check_name(&self, name: &str) -> Result<(), ApiError> {
        match name {
            "" => Err(self.empty("Name", &reason::NAME_EMPTY)),
            _ => Ok(()),
        }
    }

    fn empty(&self, what: &str, reason: &'static Reason) -> ApiError {
        self.about_app(ApiError::new(reason, format!("{what} is empty")))
    }

    fn failed(&self, reason: &'static Reason, what: &str, status: &Status) -> ApiError {
        let text = format!("{what} due to: {}", said(status));
        self.about_app(ApiError::new(reason, text))
    }

    fn about_app(&self, error: ApiError) -> ApiError {
        let namespace = self.options.namespace.as_str();
        error.metadata([("appID", self.app_id()), ("namespace", namespace)])
    }
}

/// A status as callers have always seen it.
fn said(status: &Status) -> String {
    let code = component::error::code_name(status.code() as i32);
    format!("rpc error: code = {code} desc = {}", status.message())
}

fn public(name: String, job: wire::Job) -> Job {
    Job {
        name,
        schedule: job.schedule,
        repeats: job.repeats,
        due_time: job.due_time,
        ttl: job.ttl,
        data: job.data,
        failure_policy: job.failure_policy,
    }
}
