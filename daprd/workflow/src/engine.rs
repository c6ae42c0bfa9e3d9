//! The engine, as the API sees it: instances are started, looked at, waited for, told things and deleted.

use std::{sync::Arc, time::Duration};

use actors::{reminders::Reminders, state::State};
use arc_swap::ArcSwapOption;
use blocks::Tasks;
use bytes::Bytes;
use component::Spawn;
use crds::WorkflowAccessPolicy;
use http::HeaderMap;
use parking_lot::Mutex;
use prost::Message;
use prost_types::Timestamp;
use proto::durabletask::{
    CreateInstanceRequest, EventRaisedEvent, ExecutionResumedEvent, ExecutionStartedEvent,
    ExecutionSuspendedEvent, ExecutionTerminatedEvent, HistoryEvent, ListInstanceIDsRequest,
    ListInstanceIDsResponse, PurgeInstancesRequest, RaiseEventRequest,
    RerunWorkflowFromEventRequest, ResumeRequest, SuspendRequest, TaskRouter, TerminateRequest,
    WorkflowInstance, backend::v1::CreateWorkflowInstanceRequest, history_event::EventType,
};
use telemetry::{
    Meter,
    trace::{Kind, Status, Tracer},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use values::Clock;

use crate::{
    Error, Names, Workers,
    access::Access,
    calls::{CREATE, FORK, PAUSE},
    core::event,
    instances::Instances,
    metrics::{ADD_EVENT, CREATE as CREATED, FAILED, Metrics, SUCCESS},
    seam::Actors,
    signing::{Signer, Signing},
    tracing::{context, describe_creation, kept},
};

/// What the engine is made of.
pub struct Options {
    pub app_id: String,
    pub namespace: String,
    pub actors: Arc<dyn Actors>,
    pub state: State,
    /// The store behind the state, for lists of instances.
    pub stores: blocks::state::Stores,
    pub reminders: Reminders,
    pub workers: Workers,
    pub retention: Retention,
    /// What histories are signed with, where they are.
    pub signer: Option<Arc<dyn Signer>>,
    /// Largest body, in bytes: a turn that comes near it stalls (contract 11.5).
    pub max_body: usize,
    /// Wakes instances from here, and has a janitor for each instead of a reminder for each event and activity.
    pub fast_path: bool,
    /// Between two looks of the janitor.
    pub janitor_period: Duration,
    /// How long whoever sends a completion waits on the fast path until a turn has stored it.
    pub fold_wait: Duration,
    /// How long an instance that nobody asks stays in memory.
    pub idle: Duration,
    pub meter: Meter,
    pub tracer: Tracer,
    /// The namespace as metrics show it, which may be empty.
    pub label: String,
    /// Upper bounds of what workflows take, in milliseconds; empty means those of other metrics.
    pub latency_buckets: Vec<f64>,
    pub clock: Arc<dyn Clock>,
    pub spawn: Arc<dyn Spawn>,
}

/// How long the state of ended instances is kept; `None` is for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    pub any_terminal: Option<Duration>,
    pub completed: Option<Duration>,
    pub failed: Option<Duration>,
    pub terminated: Option<Duration>,
}

/// What a purge has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub instances: usize,
    /// Whether everything that was to go is gone.
    pub complete: bool,
}

/// The workflows of a sidecar. Clones share them.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub options: Options,
    pub names: Names,
    pub instances: Instances,
    pub tasks: Tasks,
    pub closed: CancellationToken,
    /// Moves on when stalled instances are to be tried again.
    pub stalled: watch::Sender<u64>,
    pub metrics: Metrics,
    pub signing: Signing,
    /// Who may do what, where there are policies.
    pub access: ArcSwapOption<Access>,
    /// When the last event of a user came, in nanoseconds.
    last_event: Mutex<i128>,
}

/// Requests carry a router where another app is meant (contract 11.5).
impl Engine {
    /// An engine; it does nothing until it is run.
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Inner {
            names: Names {
                namespace: options.namespace.clone(),
                app_id: options.app_id.clone(),
            },
            instances: Instances::default(),
            tasks: Tasks::new(Arc::clone(&options.spawn)),
            closed: CancellationToken::new(),
            stalled: watch::Sender::default(),
            access: ArcSwapOption::empty(),
            metrics: Metrics::new(&options.meter, &options.label, &options.latency_buckets),
            last_event: Mutex::default(),
            signing: Signing::new(options.signer.clone(), &options.app_id, &options.namespace),
            options,
        }))
    }

    /// Hosts the internal actor types while there are workers, until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        tracing::info!("Workflow engine started");
        self.0.host(shutdown).await;
    }

    /// Other apps may do from now on what these policies allow; without any, everything.
    pub fn set_access(&self, policies: &[WorkflowAccessPolicy]) {
        self.0.access.store(Access::of(policies).map(Arc::new));
    }

    /// Names of the policies.
    pub fn access_policies(&self) -> Vec<String> {
        let access = self.0.access.load_full();
        access
            .map(|access| access.names().to_vec())
            .unwrap_or_default()
    }

    /// The workers, for the task hub service.
    pub fn workers(&self) -> &Workers {
        &self.0.options.workers
    }

    /// Starts an instance: its id, which is made where none is given. It need not have begun to run.
    ///
    /// It belongs to the trace that the request names, or to a new one.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`], and what may go wrong with any call.
    pub async fn start(&self, request: CreateInstanceRequest) -> Result<String, Error> {
        let inner = &self.0;
        inner.options.state.check()?;
        let id = match request.instance_id.is_empty() {
            true => inner.new_id(),
            false => request.instance_id,
        };
        let mut router = request.router;
        if let Some(router) = router.as_mut().filter(|it| it.source_app_id.is_empty()) {
            router.source_app_id.clone_from(&inner.names.app_id);
        }
        let actor = inner.actor_of(event::target(router.as_ref()), &id)?;
        let parent = match &request.parent_trace_context {
            Some(given) => Some(context(given).ok_or_else(|| {
                let text = format!("malformed trace context {:?}", given.trace_parent);
                Error::Invalid(text)
            })?),
            None => None,
        };
        let tracer = &inner.options.tracer;
        let mut span = tracer.start("create_orchestration", Kind::Client, parent.as_ref());
        describe_creation(&mut span, &request.name, request.version.as_deref(), &id);
        let mut headers = HeaderMap::new();
        if let Some(context) = span.context() {
            context.inject(&mut headers);
        }
        let started = EventType::ExecutionStarted(ExecutionStartedEvent {
            name: request.name,
            version: request.version,
            input: request.input,
            workflow_instance: Some(WorkflowInstance {
                instance_id: id.clone(),
                execution_id: Some(inner.new_id()),
            }),
            scheduled_start_timestamp: request.scheduled_start_timestamp,
            parent_trace_context: span.context().and_then(kept),
            tags: request.tags,
            ..ExecutionStartedEvent::default()
        });
        let start = event::of_action(event::NO_ID, inner.now(), started, router);
        let request = CreateWorkflowInstanceRequest {
            start_event: Some(start),
            propagated_history: None,
            enforce_unique_instance_id: request.enforce_unique_instance_id,
        };
        let data = Bytes::from(request.encode_to_vec());
        let create = || inner.call(actor.clone(), CREATE, data.clone(), headers.clone());
        let created = inner.measured(CREATED, inner.until_reached(create)).await;
        if let Err(error) = &created {
            span.set_status(Status::Error(error.to_string()));
        }
        created.map(|()| id)
    }

    /// Hands an event to an instance.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Stalled`].
    pub async fn raise_event(&self, request: RaiseEventRequest) -> Result<(), Error> {
        let kind = EventType::EventRaised(EventRaisedEvent {
            name: request.name,
            input: request.input,
        });
        let time = self.0.time_of_event();
        self.tell(&request.instance_id, request.router, kind, time)
            .await
    }

    /// Asks an instance to end. Whoever wants to know that it has waits for its completion.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn terminate(&self, request: TerminateRequest) -> Result<(), Error> {
        let kind = EventType::ExecutionTerminated(ExecutionTerminatedEvent {
            input: request.output,
            recurse: request.recursive,
        });
        let now = self.0.now();
        self.tell(&request.instance_id, request.router, kind, now)
            .await
    }

    /// Asks an instance to be suspended. Whoever wants to know that it is waits for that status.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn suspend(&self, request: SuspendRequest) -> Result<(), Error> {
        let SuspendRequest {
            instance_id,
            reason,
            router,
        } = request;
        let kind = EventType::ExecutionSuspended(ExecutionSuspendedEvent {
            input: reason.filter(|reason| !reason.is_empty()),
        });
        let now = self.0.now();
        self.tell(&instance_id, router, kind, now).await
    }

    /// Asks an instance to go on. Whoever wants to know that it does waits for that status.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn resume(&self, request: ResumeRequest) -> Result<(), Error> {
        let ResumeRequest {
            instance_id,
            reason,
            router,
        } = request;
        let kind = EventType::ExecutionResumed(ExecutionResumedEvent {
            input: reason.filter(|reason| !reason.is_empty()),
        });
        let now = self.0.now();
        self.tell(&instance_id, router, kind, now).await
    }

    async fn tell(
        &self,
        instance: &str,
        router: Option<TaskRouter>,
        kind: EventType,
        time: Timestamp,
    ) -> Result<(), Error> {
        let inner = &self.0;
        inner.options.state.check()?;
        let actor = inner.actor_of(event::target(router.as_ref()), instance)?;
        let event = event::of_action(event::NO_ID, time, kind, router);
        let added = inner.add_event(actor, &event, HeaderMap::new());
        inner.measured(ADD_EVENT, added).await
    }

    /// Deletes the state of one instance, with its children where asked, or of those that a filter finds.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotCompleted`], [`Error::Stalled`].
    pub async fn purge(&self, request: PurgeInstancesRequest) -> Result<Purged, Error> {
        self.0.options.state.check()?;
        Box::pin(self.0.purge(request)).await
    }

    /// A page of the ids of this app's instances.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the store cannot list keys.
    pub async fn list(
        &self,
        request: ListInstanceIDsRequest,
    ) -> Result<ListInstanceIDsResponse, Error> {
        self.0.list(request).await
    }

    /// All events of an instance.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn history(&self, instance: &str) -> Result<Vec<HistoryEvent>, Error> {
        let inner = &self.0;
        let record = inner.sound(&inner.actor(instance)).await?;
        let missing = || Error::Missing(format!("workflow instance '{instance}' not found"));
        Ok(record.ok_or_else(missing)?.history)
    }

    /// Runs an instance again, from an event on, under another id: that id.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Exists`], [`Error::Invalid`].
    pub async fn rerun(&self, mut request: RerunWorkflowFromEventRequest) -> Result<String, Error> {
        let inner = &self.0;
        inner.options.state.check()?;
        if request.source_instance_id.is_empty() {
            let text = "rerun workflow source instance ID is required";
            return Err(Error::Invalid(text.to_owned()));
        }
        let new = request.new_instance_id.clone();
        let new = new.unwrap_or_else(|| inner.new_id());
        if new == request.source_instance_id {
            let text = "rerun workflow instance ID must be different from the original instance ID";
            return Err(Error::Invalid(text.to_owned()));
        }
        request.new_instance_id = Some(new.clone());
        let app_id = event::target(request.router.as_ref());
        let actor = inner.actor_of(app_id, &request.source_instance_id)?;
        let data = request.encode_to_vec().into();
        inner.call(actor, FORK, data, HeaderMap::new()).await?;
        Ok(new)
    }
}

impl Inner {
    /// Counts an operation, and how long it took.
    pub async fn measured<T>(
        &self,
        operation: &str,
        done: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let done = done.await;
        let status = if done.is_ok() { SUCCESS } else { FAILED };
        self.metrics.operated(operation, status, began.elapsed());
        done
    }

    /// Repeats a call while the actor cannot be reached, for a while.
    async fn until_reached<Call>(&self, call: impl Fn() -> Call) -> Result<(), Error>
    where
        Call: Future<Output = Result<Bytes, Error>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            match Box::pin(call()).await {
                Err(error) if error.is_passing() && Instant::now() < end => sleep(PAUSE).await,
                answer => return answer.map(drop),
            }
        }
    }

    /// When an event of a user came: at no time twice, because events of one name and time are one.
    fn time_of_event(&self) -> Timestamp {
        let now = event::nanos(Some(&self.now()));
        let mut last = self.last_event.lock();
        *last = now.max(*last + 1);
        let time = jiff::Timestamp::from_nanosecond(*last);
        crate::time::to_wire(time.unwrap_or(jiff::Timestamp::MAX))
    }
}

/// How long whoever starts an instance waits for a sidecar that hosts it.
const PATIENCE: Duration = Duration::from_secs(300);
