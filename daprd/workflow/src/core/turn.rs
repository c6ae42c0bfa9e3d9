//! One turn of a workflow: new events come in, a worker says what follows from them, and the history grows by both. Nothing of it
//! counts before it is committed; what is to be done follows from the committed history alone (see [`super::effects`]).

use std::{collections::BTreeSet, sync::Arc};

use prost_types::Timestamp;
use proto::durabletask::{
    ExecutionTerminatedEvent, HistoryEvent, OrchestrationStatus as Status, PropagatedHistory,
    TraceContext, WorkflowRequest, WorkflowResponse, WorkflowStartedEvent,
    backend::v1::CreateWorkflowInstanceRequest, history_event::EventType,
    workflow_action::WorkflowActionType,
};
use telemetry::trace::Record;

use super::{
    actions::{self, Applied},
    early, event,
    fold::Fold,
    resolution::{self, Resolution},
    stall::{self, Stall},
};
use crate::tracing;

/// Where a turn is taken: its app, the time, and new ids.
pub struct Place<'p> {
    pub app_id: &'p str,
    pub namespace: &'p str,
    pub now: Timestamp,
    /// Whether spans are made here.
    pub traced: bool,
    pub new_id: &'p mut (dyn FnMut() -> String + Send),
}

/// A turn that goes on.
#[derive(Debug)]
pub struct Turn {
    pub(super) instance: String,
    /// What was committed before, also of runs that end with this turn.
    past: Arc<Vec<HistoryEvent>>,
    pub(super) fresh: Vec<HistoryEvent>,
    /// What of it nothing in the history asks for.
    pub(super) early: BTreeSet<Resolution>,
    pub(super) fold: Fold,
    pub(super) custom_status: Option<String>,
    pub(super) incoming: Option<PropagatedHistory>,
    pub(super) letters: Vec<Letter>,
    pub(super) stalled: Option<Stall>,
    /// Spans of what has ended so far.
    spans: Vec<Record>,
    terminated: Option<ExecutionTerminatedEvent>,
    rounds: usize,
}

/// What a turn sends that no event of the history says all of: detached workflows before it is committed, events once it is. Whoever gets
/// it twice takes it once.
#[derive(Clone, Debug, PartialEq)]
pub enum Letter {
    /// Begins a workflow that nobody waits for.
    Detached {
        request: Box<CreateWorkflowInstanceRequest>,
        instance: String,
    },
    /// Hands an event to another workflow.
    Event {
        event: Box<HistoryEvent>,
        instance: String,
    },
}

/// How a turn begins.
#[derive(Debug)]
pub enum Begun {
    /// A worker is to be asked.
    Ask(Box<Turn>),
    /// The workflow has ended, or never began: its new events mean nothing.
    Moot(Vec<HistoryEvent>, Box<Fold>),
}

/// What becomes of a turn once a worker has answered.
#[derive(Debug)]
pub enum Next {
    /// The workflow begins anew: a worker is asked again.
    Again(Box<Turn>),
    /// It can be committed.
    Commit(Box<Commit>),
    /// It cannot go on until somebody does something about it. The history before the turn stays.
    Stall(Vec<HistoryEvent>, Stall),
}

/// A turn that can be committed.
#[derive(Debug)]
pub struct Commit {
    /// The whole history.
    pub history: Vec<HistoryEvent>,
    /// So many events at its beginning are stored already.
    pub kept: usize,
    pub fold: Fold,
    /// The workflow has begun anew: its history before is gone.
    pub continued: bool,
    pub custom_status: Option<String>,
    pub incoming: Option<PropagatedHistory>,
    pub letters: Vec<Letter>,
    /// What is to be said of the turn in traces, once it is committed.
    pub spans: Vec<Record>,
    /// Events that the workflow has not looked at yet.
    pub inbox: Vec<HistoryEvent>,
}

/// Why an answer cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It asks again for what has been asked for: it answers an earlier turn.
    #[error("the answer asks again for {0:?}, so it is one to an earlier turn")]
    Stale(Resolution),
    /// It makes no sense.
    #[error("the answer has {0}")]
    Malformed(&'static str),
}

/// What an instance is before a turn.
#[derive(Debug, Default)]
pub struct Before {
    pub instance: String,
    pub history: Vec<HistoryEvent>,
    pub fold: Fold,
    pub custom_status: Option<String>,
    pub incoming: Option<PropagatedHistory>,
}

impl Turn {
    /// Begins a turn with the events that have come in.
    pub fn begin(before: Before, inbox: Vec<HistoryEvent>, now: Timestamp) -> Begun {
        let Before {
            instance,
            history,
            mut fold,
            custom_status,
            incoming,
        } = before;
        let begins = fold.start.is_some() || event::start(&inbox).is_some();
        if fold.is_completed() || !begins {
            return Begun::Moot(history, Box::new(fold));
        }
        let terminated = inbox.iter().find_map(event::terminated).cloned();
        let begun = EventType::WorkflowStarted(WorkflowStartedEvent::default());
        let mut fresh = vec![event::plain(now, begun)];
        fresh.extend(inbox);
        let early = early::sift(&history, &mut fresh);
        fresh.retain(|event| fold.add(event));
        if fresh.len() == 1 {
            // All of it has come before.
            let fold = Fold::of(&history);
            return Begun::Moot(history, Box::new(fold));
        }
        Begun::Ask(Box::new(Self {
            instance,
            past: Arc::new(history),
            fresh,
            early,
            fold,
            custom_status,
            incoming,
            letters: Vec::new(),
            stalled: None,
            spans: Vec::new(),
            terminated,
            rounds: 0,
        }))
    }

    /// What the worker is asked, but for the past.
    pub fn request(&self) -> WorkflowRequest {
        let start = self.fold.start.as_ref();
        WorkflowRequest {
            instance_id: self.instance.clone(),
            execution_id: start.and_then(event::execution_id).map(str::to_owned),
            new_events: self.fresh.clone(),
            propagated_history: self.incoming.clone(),
            ..WorkflowRequest::default()
        }
    }

    /// The past that it is asked with. Whoever goes on with the turn has it alone again by then, or copies it.
    pub fn shared_past(&self) -> Arc<Vec<HistoryEvent>> {
        match self.rounds {
            0 => Arc::clone(&self.past),
            _ => Arc::default(),
        }
    }

    /// Committed events of this run.
    pub(super) fn past(&self) -> &[HistoryEvent] {
        match self.rounds {
            0 => &self.past,
            _ => &[],
        }
    }

    /// Takes the worker's answer.
    ///
    /// # Errors
    /// [`Refused`]; the turn is then as if it had not been.
    pub fn answered(
        mut self: Box<Self>,
        response: WorkflowResponse,
        place: &mut Place<'_>,
    ) -> Result<Next, Refused> {
        let WorkflowResponse {
            mut actions,
            custom_status,
            version,
            ..
        } = response;
        if let Some(version) = version.filter(|it| !it.patches.is_empty() || it.name.is_some()) {
            let started = self
                .fresh
                .iter_mut()
                .find_map(|event| match &mut event.event_type {
                    Some(EventType::WorkflowStarted(started)) => Some(started),
                    _ => None,
                });
            if let Some(started) = started {
                started.version = Some(version);
            }
        }
        if self.terminated.is_some() {
            // It would be lost with the history that it is in.
            actions.retain(|action| !begins_anew(action.workflow_action_type.as_ref()));
        }
        self.custom_status = custom_status;
        for action in actions {
            if let Applied::Anew = actions::apply(&mut self, action, place)? {
                return Ok(self.anew());
            }
        }
        if let Some(terminated) = self.terminated.clone()
            && !self.fold.is_completed()
        {
            self.letters.clear();
            actions::force_end(&mut self, terminated.input, place);
        }
        let stalled = self.stalled.take();
        let mismatch = || stall::patch_mismatch(self.past(), &self.fresh);
        if let Some(stall) = stalled.or_else(mismatch) {
            return Ok(Next::Stall(Arc::unwrap_or_clone(self.past), stall));
        }
        if let Some(again) = self.asked_again() {
            return Err(Refused::Stale(again));
        }
        let past = match self.rounds {
            0 => self.past.as_slice(),
            _ => &[],
        };
        stall::compact_patches(past, &mut self.fresh);
        early::leave(&self.early, &mut self.fresh, &mut self.fold);
        let ended = self.fold.is_completed().then(|| self.fold.status());
        self.say_spans(ended, place);
        Ok(Next::Commit(Box::new(self.commit(Vec::new()))))
    }

    /// Where the workflow stands in its trace, for what it asks for.
    pub(super) fn trace(&self) -> Option<TraceContext> {
        let context = tracing::of_run(self.fold.start.as_ref()?)?;
        tracing::kept(&context)
    }

    /// Keeps what traces say of this turn of a run; `ended`: how the run has.
    pub(super) fn say_spans(&mut self, ended: Option<Status>, place: &mut Place<'_>) {
        let Some(start) = &self.fold.start else {
            return;
        };
        let run = tracing::Run {
            instance: &self.instance,
            start,
            past: self.past(),
            fresh: &self.fresh,
        };
        let spans = run.spans(ended, place.now, place.new_id);
        self.spans.extend(spans);
    }

    /// The workflow has begun anew. As often as it may it goes on at once; then it is stored as one that waits for its first turn,
    /// with what it has not looked at yet. Q-workflow-anew
    fn anew(mut self: Box<Self>) -> Next {
        self.rounds += 1;
        if self.rounds <= MOST_ROUNDS {
            return Next::Again(self);
        }
        let mut inbox = std::mem::take(&mut self.fresh);
        inbox.retain(|event| event::workflow_started(event).is_none());
        self.fold = Fold::default();
        Next::Commit(Box::new(self.commit(inbox)))
    }

    fn commit(self, inbox: Vec<HistoryEvent>) -> Commit {
        let continued = self.rounds > 0;
        let (mut history, kept) = match continued {
            true => (Vec::new(), 0),
            false => {
                let kept = self.past.len();
                (Arc::unwrap_or_clone(self.past), kept)
            }
        };
        history.extend(self.fresh);
        Commit {
            history,
            kept,
            fold: self.fold,
            continued,
            custom_status: self.custom_status,
            incoming: self.incoming,
            letters: self.letters,
            spans: self.spans,
            inbox,
        }
    }

    /// What the answer asks for that was asked for in an earlier turn.
    fn asked_again(&self) -> Option<Resolution> {
        let asked: BTreeSet<_> = self.fresh.iter().filter_map(resolution::awaited).collect();
        if asked.is_empty() {
            return None;
        }
        let past = self.past().iter().filter_map(resolution::awaited);
        past.into_iter().find(|earlier| asked.contains(earlier))
    }
}

fn begins_anew(action: Option<&WorkflowActionType>) -> bool {
    matches!(action, Some(WorkflowActionType::CompleteWorkflow(it)) if it.workflow_status() == Status::ContinuedAsNew)
}

/// How often a workflow may begin anew within one turn.
const MOST_ROUNDS: usize = 20;
