//! A worker of workflows, small, for tests, benches and the demo: it takes work items of a sidecar, runs workflows by replay and
//! activities as they are, and keeps count of both. It comes back when its sidecar does.

mod replay;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use proto::durabletask::{
    ActivityRequest, ActivityResponse, GetWorkItemsRequest, TaskFailureDetails, WorkItem,
    task_hub_sidecar_service_client::TaskHubSidecarServiceClient, work_item::Request,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

pub use proto::durabletask::HistoryPropagationScope;
pub use replay::{Function, Outcome, Place, Workflow};

/// The client of a sidecar's task hub.
pub type TaskHub = TaskHubSidecarServiceClient<Channel>;

type Activity = Arc<dyn Fn(String) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// What a worker can do, and what has been done by all that share it.
#[derive(Clone, Default)]
pub struct Skills {
    workflows: BTreeMap<&'static str, Function>,
    activities: BTreeMap<&'static str, Activity>,
    runs: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Skills {
    /// A workflow.
    #[must_use]
    pub fn workflow(mut self, name: &'static str, function: Function) -> Self {
        self.workflows.insert(name, function);
        self
    }

    /// An activity.
    #[must_use]
    pub fn activity<F, Fut>(mut self, name: &'static str, function: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let function = move |input| -> BoxFuture<'static, Outcome> { Box::pin(function(input)) };
        self.activities.insert(name, Arc::new(function));
        self
    }

    /// How often an activity has been begun with an input.
    pub fn runs(&self, name: &str, input: &str) -> usize {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(&key(name, input)).copied().unwrap_or_default()
    }

    async fn run(&self, request: ActivityRequest) -> Outcome {
        let (name, input) = (request.name, request.input.unwrap_or_default());
        {
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            *runs.entry(key(&name, &input)).or_default() += 1;
        }
        match self.activities.get(name.as_str()) {
            Some(activity) => activity(input).await,
            None => Err(format!("no activity is called {name}")),
        }
    }

    /// Does what an item asks for, and answers it.
    async fn serve(&self, mut hub: TaskHub, item: WorkItem) {
        let token = item.completion_token;
        // An answer that the sidecar does not take is one that nobody waits for.
        match item.request {
            Some(Request::WorkflowRequest(request)) => {
                let find = |name: &str| self.workflows.get(name).copied();
                let mut response = replay::turn(&request, find);
                response.completion_token = token;
                let _ = hub.complete_workflow_task(response).await;
            }
            Some(Request::ActivityRequest(request)) => {
                let instance = request.workflow_instance.clone().unwrap_or_default();
                let task_id = request.task_id;
                let outcome = self.run(request).await;
                let failed = outcome.clone().err().map(|problem| TaskFailureDetails {
                    error_type: "Failed".to_owned(),
                    error_message: problem,
                    ..TaskFailureDetails::default()
                });
                let response = ActivityResponse {
                    instance_id: instance.instance_id,
                    task_id,
                    result: outcome.ok(),
                    failure_details: failed,
                    completion_token: token,
                };
                let _ = hub.complete_activity_task(response).await;
            }
            None => {}
        }
    }
}

fn key(name: &str, input: &str) -> String {
    format!("{name}({input})")
}

/// Works beside a sidecar; never ends.
pub async fn work(hub: TaskHub, skills: Skills) {
    loop {
        let mut items = JoinSet::new();
        let stream = hub
            .clone()
            .get_work_items(GetWorkItemsRequest::default())
            .await;
        if let Ok(stream) = stream {
            let mut stream = stream.into_inner();
            while let Ok(Some(item)) = stream.message().await {
                let (skills, hub) = (skills.clone(), hub.clone());
                items.spawn(async move { skills.serve(hub, item).await });
                while items.try_join_next().is_some() {}
            }
        }
        // What is under way is done all the same, as SDKs do it.
        tokio::time::sleep(PAUSE).await;
        items.detach_all();
    }
}

/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(50);
