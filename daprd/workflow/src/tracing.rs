//! Spans of workflows: one for who asks for a workflow, one for each of its runs from the first turn to the end, whatever sidecars it
//! lives on meanwhile, and below that one for each timer and activity (contract 10.7). The id of a run's span is made with its first
//! turn and kept with its start, so that all turns agree on it; the span itself is said when the run ends. What is decided here follows
//! from events. Q-workflow-spans

use std::time::SystemTime;

use prost_types::Timestamp;
use proto::durabletask::{
    ExecutionStartedEvent, HistoryEvent, OrchestrationStatus as Status, TaskScheduledEvent,
    TraceContext as Kept, history_event::EventType,
};
use telemetry::trace::{Attribute, Event, Kind, Record, Span, TraceContext, Tracer, Value};

use crate::{core::event, time::from_wire};

/// New ids.
type NewId<'i> = &'i mut (dyn FnMut() -> String + Send);

/// The context that an event or a request carries. Older writers keep the ids of the trace and of the span in fields of their own.
pub fn context(kept: &Kept) -> Option<TraceContext> {
    let parent = &kept.trace_parent;
    let parsed = match parent.contains('-') {
        true => TraceContext::parse(parent),
        false => TraceContext::parse(&format!("00-{parent}-{}-01", kept.span_id)),
    };
    Some(match &kept.trace_state {
        Some(state) => parsed?.with_state(state),
        None => parsed?,
    })
}

/// What is kept of a context: only what is sampled, since nothing below anything else is.
pub fn kept(context: &TraceContext) -> Option<Kept> {
    context.is_sampled().then(|| Kept {
        trace_parent: context.traceparent(),
        trace_state: context.tracestate().map(str::to_owned),
        ..Kept::default()
    })
}

/// A trace that begins here, of the digits of new ids.
pub fn root(new_id: NewId<'_>) -> Option<Kept> {
    let (trace, span) = (digits(new_id, 32)?, digits(new_id, 16)?);
    Some(Kept {
        trace_parent: format!("00-{trace}-{span}-01"),
        ..Kept::default()
    })
}

fn digits(new_id: NewId<'_>, count: usize) -> Option<String> {
    let id = new_id();
    let digits = id.chars().filter(char::is_ascii_hexdigit);
    let digits: String = digits.take(count).collect();
    (digits.len() == count).then_some(digits)
}

/// Gives the span of a run that begins its id, where its trace is recorded.
pub fn identify(start: &mut ExecutionStartedEvent, new_id: NewId<'_>) {
    let parent = start.parent_trace_context.as_ref().and_then(context);
    if start.workflow_span_id.is_none() && parent.is_some_and(|it| it.is_sampled()) {
        start.workflow_span_id = digits(new_id, 16);
    }
}

/// Where a run stands in its trace: what it begins is below that.
pub fn of_run(start: &ExecutionStartedEvent) -> Option<TraceContext> {
    let parent = context(start.parent_trace_context.as_ref()?)?;
    let own = start.workflow_span_id.as_deref();
    let own = own.and_then(|span| TraceContext::parse(&below(&parent, span)));
    Some(match (own, parent.tracestate()) {
        (None, _) => parent,
        (Some(own), Some(state)) => own.with_state(state),
        (Some(own), None) => own,
    })
}

fn below(parent: &TraceContext, span: &str) -> String {
    format!("00-{}-{span}-01", parent.trace_id())
}

/// Says of a span that somebody asks for a workflow.
pub fn describe_creation(span: &mut Span, name: &str, version: Option<&str>, instance: &str) {
    if span.is_sampled() {
        span.set_name(named("create_orchestration", name, version));
        describe(span, workflow(name, version, instance));
    }
}

/// The span of an activity, where its workflow is in a trace.
pub fn activity_span(
    tracer: &Tracer,
    task: &TaskScheduledEvent,
    id: i32,
    instance: &str,
) -> Option<Span> {
    let parent = context(task.parent_trace_context.as_ref()?)?;
    let mut span = tracer.start("activity", Kind::Server, Some(&parent));
    if span.is_sampled() {
        let version = task.version.as_deref();
        span.set_name(named("activity", &task.name, version));
        let mut attributes = vec![
            (TYPE.into(), "activity".into()),
            (NAME.into(), task.name.as_str().into()),
            (TASK_ID.into(), i64::from(id).into()),
            (INSTANCE_ID.into(), instance.into()),
        ];
        attributes.extend(version_of(version));
        describe(&mut span, attributes);
    }
    Some(span)
}

fn describe(span: &mut Span, attributes: Vec<Attribute>) {
    for (key, value) in attributes {
        span.set_attribute(key, value);
    }
}

/// A run of a workflow, as its spans see it.
pub struct Run<'r> {
    pub instance: &'r str,
    pub start: &'r ExecutionStartedEvent,
    /// Events of earlier turns.
    pub past: &'r [HistoryEvent],
    /// Events of this turn.
    pub fresh: &'r [HistoryEvent],
}

impl Run<'_> {
    /// What ends with this turn: timers, and the run itself where `ended` says how.
    pub fn spans(&self, ended: Option<Status>, now: Timestamp, new_id: NewId<'_>) -> Vec<Record> {
        let parent = self.start.parent_trace_context.as_ref().and_then(context);
        let (Some(parent), Some(own), Some(_)) =
            (parent, of_run(self.start), &self.start.workflow_span_id)
        else {
            return Vec::new();
        };
        let fired = self.fresh.iter().filter_map(|event| {
            let span = digits(new_id, 16)?;
            self.timer(event, &own, &span)
        });
        let mut spans: Vec<_> = fired.collect();
        spans.extend(ended.map(|status| self.run(status, now, &parent, own)));
        spans
    }

    fn timer(&self, event: &HistoryEvent, own: &TraceContext, span: &str) -> Option<Record> {
        let Some(EventType::TimerFired(fired)) = &event.event_type else {
            return None;
        };
        let id = fired.timer_id;
        let mut all = self.past.iter().chain(self.fresh);
        let created = all.find(|it| it.event_id == id && event::timer_created(it).is_some());
        let began = created.and_then(|created| created.timestamp);
        let fire_at = from_wire(fired.fire_at.unwrap_or_default());
        let fire_at = jiff::Timestamp::from_second(fire_at.as_second()).unwrap_or_default();
        Some(Record {
            name: "timer".into(),
            kind: Kind::Internal,
            context: TraceContext::parse(&below(own, span))?,
            parent: Some(own.span_id_bytes()),
            start: at(began.or(event.timestamp)),
            end: at(event.timestamp),
            attributes: vec![
                (TYPE.into(), "timer".into()),
                ("durabletask.fire_at".into(), fire_at.to_string().into()),
                (TASK_ID.into(), i64::from(id).into()),
                (INSTANCE_ID.into(), self.instance.into()),
            ],
            events: Vec::new(),
            status: Default::default(),
        })
    }

    fn run(
        &self,
        status: Status,
        now: Timestamp,
        parent: &TraceContext,
        own: TraceContext,
    ) -> Record {
        let (name, version) = (self.start.name.as_str(), self.start.version.as_deref());
        let all = || self.past.iter().chain(self.fresh);
        let mut attributes = workflow(name, version, self.instance);
        let text = status.as_str_name();
        let text = text.strip_prefix(STATUS_PREFIX).unwrap_or(text);
        attributes.push(("durabletask.runtime_status".into(), text.into()));
        let patches = all().filter_map(|event| event::workflow_started(event)?.version.as_ref());
        let patches: Vec<_> = patches.flat_map(|it| it.patches.clone()).collect();
        if !patches.is_empty() {
            attributes.push(("applied_patches".into(), Value::List(patches)));
        }
        Record {
            name: named("orchestration", name, version).into(),
            kind: Kind::Server,
            parent: Some(parent.span_id_bytes()),
            context: own,
            start: at(all().next().and_then(|first| first.timestamp)),
            end: at(Some(now)),
            attributes,
            events: all().filter_map(notable).collect(),
            status: all().find_map(failure).map_or_else(Default::default, error),
        }
    }
}

/// What users want to see of a run among its span's events.
fn notable(event: &HistoryEvent) -> Option<Event> {
    let reason = |text: &Option<String>| {
        let text = text.clone().unwrap_or_default();
        vec![("reason".into(), text.into())]
    };
    let (name, attributes): (_, Vec<Attribute>) = match event.event_type.as_ref()? {
        EventType::EventRaised(raised) => {
            let size = raised.input.as_ref().map_or(0, String::len);
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            let name = raised.name.as_str();
            let attributes = vec![("name".into(), name.into()), ("size".into(), size.into())];
            ("Received external event", attributes)
        }
        EventType::ExecutionSuspended(it) => ("Execution suspended", reason(&it.input)),
        EventType::ExecutionResumed(it) => ("Execution resumed", reason(&it.input)),
        EventType::ExecutionStalled(stalled) => {
            let description = stalled.description.clone().unwrap_or_default();
            let mut attributes = reason(&Some(stalled.reason().as_str_name().to_owned()));
            attributes.push(("description".into(), description.into()));
            ("Execution stalled", attributes)
        }
        _ => return None,
    };
    Some(Event {
        name: name.into(),
        at: at(event.timestamp),
        attributes,
    })
}

fn failure(event: &HistoryEvent) -> Option<&str> {
    match event.event_type.as_ref()? {
        EventType::ExecutionCompleted(completed) => {
            let details = completed.failure_details.as_ref()?;
            Some(details.error_message.as_str())
        }
        _ => None,
    }
}

fn error(text: &str) -> telemetry::trace::Status {
    telemetry::trace::Status::Error(text.to_owned())
}

fn workflow(name: &str, version: Option<&str>, instance: &str) -> Vec<Attribute> {
    let mut attributes = vec![
        (TYPE.into(), "orchestration".into()),
        (NAME.into(), name.into()),
        (INSTANCE_ID.into(), instance.into()),
    ];
    attributes.extend(version_of(version));
    attributes
}

fn version_of(version: Option<&str>) -> Option<Attribute> {
    let version = version.filter(|version| !version.is_empty())?;
    Some(("durabletask.task.version".into(), version.into()))
}

fn named(what: &str, name: &str, version: Option<&str>) -> String {
    match version.filter(|version| !version.is_empty()) {
        Some(version) => format!("{what}||{name}||{version}"),
        None => format!("{what}||{name}"),
    }
}

fn at(time: Option<Timestamp>) -> SystemTime {
    let time = SystemTime::try_from(time.unwrap_or_default());
    time.unwrap_or(SystemTime::UNIX_EPOCH)
}

const TYPE: &str = "durabletask.type";
const NAME: &str = "durabletask.task.name";
const TASK_ID: &str = "durabletask.task.task_id";
const INSTANCE_ID: &str = "durabletask.task.instance_id";
const STATUS_PREFIX: &str = "ORCHESTRATION_STATUS_";

#[cfg(test)]
mod tests;
