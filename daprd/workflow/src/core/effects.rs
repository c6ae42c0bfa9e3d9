//! What is to be done because of a committed turn. It follows from the history alone, so that whoever takes an instance over can
//! find out what is still to be done; and all of it may be done twice.

use prost::Message;
use prost_types::Timestamp;
use proto::durabletask::{
    ChildWorkflowInstanceCompletedEvent, ChildWorkflowInstanceFailedEvent, EventRaisedEvent,
    ExecutionCompletedEvent, ExecutionStartedEvent, HistoryEvent, HistoryPropagationScope as Scope,
    OrchestrationStatus as Status, ParentInstanceInfo, PropagatedHistory, PropagatedHistoryChunk,
    TaskRouter, WorkflowInstance, backend::v1::CreateWorkflowInstanceRequest,
    history_event::EventType,
};

use super::{event, fold::Fold, resolution, turn::Place};

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// An activity is to run; the event is its `TaskScheduled`.
    Activity {
        event: Box<HistoryEvent>,
        propagated: Option<PropagatedHistory>,
    },
    /// A timer is to fire.
    Timer { id: i32, fire_at: Option<Timestamp> },
    /// A timer need not fire any more.
    Cancel { id: i32 },
    /// A child is to begin.
    Child {
        task: i32,
        instance: String,
        request: Box<CreateWorkflowInstanceRequest>,
    },
    /// Whoever began the workflow is to hear how it ended.
    Report {
        parent: Box<ParentInstanceInfo>,
        event: Box<HistoryEvent>,
    },
    /// Another workflow is to get an event.
    Event {
        instance: String,
        event: Box<HistoryEvent>,
    },
}

/// What an instance is, as far as effects go.
#[derive(Clone, Copy)]
pub struct Committed<'c> {
    pub instance: &'c str,
    pub history: &'c [HistoryEvent],
    pub fold: &'c Fold,
    pub incoming: Option<&'c PropagatedHistory>,
}

impl Committed<'_> {
    /// Where the events of the last turn begin. Turns before it have been seen to: no turn begins before the last one has been.
    pub fn last_turn(&self) -> usize {
        let begins = |event: &HistoryEvent| event::workflow_started(event).is_some();
        self.history.iter().rposition(begins).unwrap_or_default()
    }

    /// What is to be done because of the events from `from` on.
    pub fn effects(&self, from: usize, place: &mut Place<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        for (at, event) in self.history.iter().enumerate().skip(from) {
            if resolution::awaited(event).is_some_and(|it| self.fold.is_resolved(it)) {
                continue;
            }
            effects.extend(self.effect(at, event, place));
        }
        effects
    }

    fn effect(&self, at: usize, event: &HistoryEvent, place: &mut Place<'_>) -> Option<Effect> {
        let id = event.event_id;
        let ended = self.fold.is_completed();
        Some(match event.event_type.as_ref()? {
            EventType::TaskScheduled(task) => Effect::Activity {
                event: Box::new(event.clone()),
                propagated: self.propagated(at, task.history_propagation_scope(), place),
            },
            EventType::TimerCreated(timer) if !ended => Effect::Timer {
                id,
                fire_at: timer.fire_at,
            },
            EventType::ChildWorkflowInstanceCreated(child) => {
                let started = EventType::ExecutionStarted(ExecutionStartedEvent {
                    name: child.name.clone(),
                    version: None,
                    input: child.input.clone(),
                    parent_instance: Some(self.as_parent(id, place)),
                    workflow_instance: Some(WorkflowInstance {
                        instance_id: child.instance_id.clone(),
                        execution_id: Some((place.new_id)()),
                    }),
                    parent_trace_context: child.parent_trace_context.clone(),
                    ..ExecutionStartedEvent::default()
                });
                let start =
                    event::of_action(event::NO_ID, place.now, started, event.router.clone());
                Effect::Child {
                    task: id,
                    instance: child.instance_id.clone(),
                    request: Box::new(CreateWorkflowInstanceRequest {
                        start_event: Some(start),
                        propagated_history: self.propagated(
                            at,
                            child.history_propagation_scope(),
                            place,
                        ),
                        enforce_unique_instance_id: false,
                    }),
                }
            }
            EventType::ExecutionCompleted(completed) => {
                let parent = self.fold.start.as_ref()?.parent_instance.clone()?;
                Effect::Report {
                    event: Box::new(report(&parent, completed, event.router.as_ref(), place)),
                    parent: Box::new(parent),
                }
            }
            EventType::EventSent(sent) => {
                let raised = EventType::EventRaised(EventRaisedEvent {
                    name: sent.name.clone(),
                    input: sent.input.clone(),
                });
                let time = event.timestamp.unwrap_or(place.now);
                let raised = event::of_action(event::NO_ID, time, raised, event.router.clone());
                Effect::Event {
                    instance: sent.instance_id.clone(),
                    event: Box::new(raised),
                }
            }
            _ => return None,
        })
    }

    /// What a child knows of the workflow that began it: also which run that was, so that its end is not told to another.
    fn as_parent(&self, task: i32, place: &Place<'_>) -> ParentInstanceInfo {
        let start = self.fold.start.as_ref();
        let namespace = Some(place.namespace.to_owned()).filter(|it| !it.is_empty());
        ParentInstanceInfo {
            task_scheduled_id: task,
            name: Some(start.map(|start| start.name.clone()).unwrap_or_default()),
            version: None,
            workflow_instance: Some(WorkflowInstance {
                instance_id: self.instance.to_owned(),
                execution_id: start.and_then(event::execution_id).map(str::to_owned),
            }),
            app_id: Some(place.app_id.to_owned()),
            app_namespace: namespace,
        }
    }

    fn propagated(&self, at: usize, scope: Scope, place: &Place<'_>) -> Option<PropagatedHistory> {
        let events = &self.history[..=at];
        propagated(events, scope, self.incoming, place.app_id, self.instance)
    }
}

/// What a parent hears of its child's end.
fn report(
    parent: &ParentInstanceInfo,
    completed: &ExecutionCompletedEvent,
    own: Option<&TaskRouter>,
    place: &Place<'_>,
) -> HistoryEvent {
    let task_scheduled_id = parent.task_scheduled_id;
    let kind = match completed.workflow_status() {
        Status::Completed => {
            EventType::ChildWorkflowInstanceCompleted(ChildWorkflowInstanceCompletedEvent {
                task_scheduled_id,
                result: completed.result.clone(),
                ..ChildWorkflowInstanceCompletedEvent::default()
            })
        }
        _ => EventType::ChildWorkflowInstanceFailed(ChildWorkflowInstanceFailedEvent {
            task_scheduled_id,
            failure_details: completed.failure_details.clone(),
            ..ChildWorkflowInstanceFailedEvent::default()
        }),
    };
    let router = match &parent.app_id {
        Some(app_id) => TaskRouter {
            source_app_id: place.app_id.to_owned(),
            target_app_id: Some(app_id.clone()),
            target_app_namespace: parent.app_namespace.clone(),
        },
        None => own.cloned().unwrap_or_default(),
    };
    event::of_action(event::NO_ID, place.now, kind, Some(router))
}

/// What a workflow shows of its history, and of what it was shown itself, to whom it asks for something.
pub fn propagated<'e>(
    events: impl IntoIterator<Item = &'e HistoryEvent>,
    scope: Scope,
    incoming: Option<&PropagatedHistory>,
    app_id: &str,
    instance: &str,
) -> Option<PropagatedHistory> {
    if scope == Scope::None {
        return None;
    }
    let mut chunks = match (scope, incoming) {
        (Scope::Lineage, Some(incoming)) => incoming.chunks.clone(),
        _ => Vec::new(),
    };
    let mut name = None;
    let mut raw_events = Vec::new();
    for event in events {
        if name.is_none() {
            name = event::execution_started(event).map(|start| start.name.clone());
        }
        raw_events.push(event.encode_to_vec().into());
    }
    if !raw_events.is_empty() {
        chunks.push(PropagatedHistoryChunk {
            raw_events,
            app_id: app_id.to_owned(),
            instance_id: instance.to_owned(),
            workflow_name: name.unwrap_or_default(),
            ..PropagatedHistoryChunk::default()
        });
    }
    Some(PropagatedHistory {
        scope: scope.into(),
        chunks,
    })
}

/// A workflow that this one has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub instance: String,
    /// Its app, where that is another.
    pub app_id: Option<String>,
}

/// The children of a workflow, each once, in order. `own`: its app. One that asked for its own id has got no child by that.
pub fn children(history: &[HistoryEvent], own: &str, instance: &str) -> Vec<Child> {
    let mut children: Vec<Child> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for event in history {
        let Some(created) = event::child_created(event) else {
            continue;
        };
        if !seen.insert(created.instance_id.as_str()) {
            continue;
        }
        let app_id = event::target(event.router.as_ref()).filter(|app_id| *app_id != own);
        if app_id.is_none() && created.instance_id == instance {
            continue;
        }
        children.push(Child {
            instance: created.instance_id.clone(),
            app_id: app_id.map(str::to_owned),
        });
    }
    children
}
