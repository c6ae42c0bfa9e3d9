//! The workers of the app: who is connected, which work items they have, and who waits for an answer. Q-workflow-spread

mod in_process;
mod items;
mod pairing;
mod relay;
mod warm;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{Stream, stream::BoxStream};
use parking_lot::Mutex;
use proto::durabletask::{
    ActivityRequest, ActivityResponse, GetWorkItemsRequest, HistoryEvent, WorkItem,
    WorkerCapability, WorkflowRequest, WorkflowResponse, work_item::Request,
};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

pub use in_process::InProcess;
pub use relay::Completions;

use items::Item;
use pairing::{Id, Key, Late, Pairing, Ticket};
use warm::Past;

/// The workers of a sidecar. Clones share them.
#[derive(Clone)]
pub struct Workers(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    present: watch::Sender<bool>,
    /// Tokens of other sidecars, and of earlier lives of this one, begin otherwise.
    stamp: String,
    max_item: usize,
    /// Hears of each item that is waited for, by its kind.
    on_wait: OnceLock<Hear>,
    /// Does the sidecar's own work.
    in_process: OnceLock<Arc<dyn InProcess>>,
}

struct State {
    pairing: Pairing<Item>,
    waiters: HashMap<Ticket, Waiter>,
    wakers: HashMap<Id, Waker>,
    /// There is work that the sidecar does itself.
    in_process: bool,
    closed: bool,
}

type Hear = Box<dyn Fn(&str) + Send + Sync>;

/// Who waits for an answer; it is lost where the sender is dropped.
enum Waiter {
    Turn(oneshot::Sender<WorkflowResponse>),
    Activity(oneshot::Sender<ActivityResponse>),
}

/// What bounds the work of the workers; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many turns may be at workers at a time.
    pub workflows: Option<usize>,
    /// How many activities.
    pub activities: Option<usize>,
    /// Largest work item, in bytes.
    pub item: Option<usize>,
}

/// The worker left before it answered, or the item could not be given to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has left before it answered")]
pub struct Lost;

/// Nobody waits for the answer to a work item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no work item waits for this answer")]
pub struct Unknown;

impl Workers {
    /// No workers.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                pairing: Pairing::new(limits),
                waiters: HashMap::new(),
                wakers: HashMap::new(),
                in_process: false,
                closed: false,
            }),
            present: watch::Sender::new(false),
            stamp: uuid::Uuid::new_v4().simple().to_string(),
            max_item: limits.item.unwrap_or(usize::MAX),
            on_wait: OnceLock::new(),
            in_process: OnceLock::new(),
        }))
    }

    /// Whether any worker is there, or work that the sidecar does itself: the internal actor types are hosted exactly while so.
    pub fn present(&self) -> watch::Receiver<bool> {
        self.0.present.subscribe()
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.0.state.lock().pairing.count()
    }

    /// A worker comes; its work items. It has left when the stream is dropped. The stream ends with [`Workers::close`] only.
    pub fn connect(&self, request: GetWorkItemsRequest) -> BoxStream<'static, WorkItem> {
        self.connect_with_room(request, usize::MAX)
    }

    /// The same of a worker that has room for so many items at a time.
    pub fn connect_with_room(
        &self,
        request: GetWorkItemsRequest,
        most: usize,
    ) -> BoxStream<'static, WorkItem> {
        let keeps = request
            .capabilities()
            .any(|one| one == WorkerCapability::StatefulHistory);
        let id = self.0.change(|state| state.pairing.join(keeps, most));
        Box::pin(Connection {
            shared: Arc::clone(&self.0),
            id,
        })
    }

    /// Ends the streams of all workers, now and to come; what they have not answered is lost.
    pub fn close(&self) {
        let wakers = self.0.change(|state| {
            state.closed = true;
            state.waiters.clear();
            std::mem::take(&mut state.wakers)
        });
        wakers.into_values().for_each(Waker::wake);
    }

    /// Hands a turn of a workflow, with all of its history, to a worker with room, and waits for its answer. A worker that has
    /// some of the past is sent the rest. Dropped, it is withdrawn.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn workflow(&self, mut request: WorkflowRequest) -> Result<WorkflowResponse, Lost> {
        let past = Arc::new(std::mem::take(&mut request.past_events));
        self.turn(request, past).await
    }

    /// The same, with the past beside the request: what a worker has of it is not copied.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn turn(
        &self,
        mut request: WorkflowRequest,
        past: Arc<Vec<HistoryEvent>>,
    ) -> Result<WorkflowResponse, Lost> {
        if in_process::is_own_turn(&request, &past) {
            request.past_events = Arc::unwrap_or_clone(past);
            return in_process::worker(&self.0)?.workflow(request).await;
        }
        let known = items::past(&request, &past);
        let key = Key::Turn(request.instance_id.clone());
        let (answer, waiting) = oneshot::channel();
        let item = Item {
            request: Request::WorkflowRequest(request),
            past,
        };
        let offer = self.offer(key, item, known, Waiter::Turn(answer))?;
        offer.wait(waiting).await
    }

    /// The same of an activity.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn activity(&self, request: ActivityRequest) -> Result<ActivityResponse, Lost> {
        if in_process::is_own(&request.name) {
            return in_process::worker(&self.0)?.activity(request).await;
        }
        let size = items::size(&request);
        if size > self.0.max_item {
            // No worker can ever have it, and its workflow is to hear so.
            return Ok(items::too_large(&request, size, self.0.max_item));
        }
        let instance = request.workflow_instance.as_ref();
        let instance = instance.map(|it| it.instance_id.clone());
        let key = Key::Activity(instance.unwrap_or_default(), request.task_id);
        let (answer, waiting) = oneshot::channel();
        let item = Item {
            request: Request::ActivityRequest(request),
            past: Arc::default(),
        };
        let offer = self.offer(key, item, None, Waiter::Activity(answer))?;
        offer.wait(waiting).await
    }

    /// A worker's answer to a turn.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn complete_workflow(&self, response: WorkflowResponse) -> Result<(), Unknown> {
        let key = Key::Turn(response.instance_id.clone());
        let waiter = self.0.completed(&key, &response.completion_token)?;
        if items::is_over(&response) {
            let mut state = self.0.state.lock();
            state.pairing.over(&response.instance_id);
        }
        match waiter {
            Waiter::Turn(answer) => answer.send(response).map_err(|_| Unknown),
            Waiter::Activity(_) => Err(Unknown),
        }
    }

    /// A worker's answer to an activity.
    ///
    /// # Errors
    /// [`Unknown`].
    pub fn complete_activity(&self, response: ActivityResponse) -> Result<(), Unknown> {
        let key = Key::Activity(response.instance_id.clone(), response.task_id);
        match self.0.completed(&key, &response.completion_token)? {
            Waiter::Activity(answer) => answer.send(response).map_err(|_| Unknown),
            Waiter::Turn(_) => Err(Unknown),
        }
    }

    /// Whether a token is one that this sidecar has given out.
    fn is_own(&self, token: &str) -> bool {
        self.0.ticket(token).is_some()
    }

    fn on_wait(&self, hear: impl Fn(&str) + Send + Sync + 'static) {
        // There is one who wants to hear.
        let _ = self.0.on_wait.set(Box::new(hear));
    }

    fn offer(
        &self,
        key: Key,
        item: Item,
        past: Option<Past>,
        waiter: Waiter,
    ) -> Result<Offer<'_>, Lost> {
        if let Some(hear) = self.0.on_wait.get() {
            hear(match waiter {
                Waiter::Turn(_) => "workflow",
                Waiter::Activity(_) => "activity",
            });
        }
        let ticket = self.0.change(|state| {
            if state.closed {
                return Err(Lost);
            }
            let offered = state.pairing.offer(key, item, past);
            let (ticket, displaced) = offered.map_err(|_| Lost)?;
            if let Some(displaced) = displaced {
                state.waiters.remove(&displaced);
            }
            state.waiters.insert(ticket, waiter);
            Ok(ticket)
        })?;
        Ok(Offer {
            shared: &self.0,
            ticket,
        })
    }
}

impl State {
    fn has_workers(&self) -> bool {
        self.in_process || self.pairing.count() > 0
    }
}

impl Shared {
    /// Changes the pairing, and wakes the streams that have something to take since.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, wakers, turned) = {
            let mut state = self.state.lock();
            let before = state.has_workers();
            let result = change(&mut state);
            let ready = state.pairing.ready();
            let wakers: Vec<Waker> = ready
                .iter()
                .filter_map(|id| state.wakers.remove(id))
                .collect();
            (result, wakers, before != state.has_workers())
        };
        wakers.into_iter().for_each(Waker::wake);
        // Never while the state is locked: who looks at the presence may want that lock. What holds is what the state says by
        // then, whoever comes first.
        if turned {
            self.present.send_if_modified(|now| {
                let present = self.state.lock().has_workers();
                std::mem::replace(now, present) != present
            });
        }
        result
    }

    fn completed(&self, key: &Key, token: &str) -> Result<Waiter, Unknown> {
        let ticket = match token {
            "" => None,
            token => Some(self.ticket(token).ok_or(Unknown)?),
        };
        self.change(|state| {
            let ticket = state.pairing.complete(key, ticket).ok_or(Unknown)?;
            state.waiters.remove(&ticket).ok_or(Unknown)
        })
    }

    fn token(&self, ticket: Ticket) -> String {
        format!("{}.{ticket}", self.stamp)
    }

    fn ticket(&self, token: &str) -> Option<Ticket> {
        let number = token.strip_prefix(&self.stamp)?.strip_prefix('.')?;
        number.parse().ok()
    }
}

/// An item that somebody waits for the answer to.
struct Offer<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Offer<'_> {
    /// Waits for the answer, and sees to it meanwhile that no worker keeps the item in its outbox.
    async fn wait<R>(self, mut waiting: oneshot::Receiver<R>) -> Result<R, Lost> {
        loop {
            match timeout(PATIENCE, &mut waiting).await {
                Ok(answer) => return answer.map_err(|_| Lost),
                Err(_) => {
                    let late = self.shared.change(|state| state.pairing.late(self.ticket));
                    if late == Late::Held {
                        break;
                    }
                }
            }
        }
        waiting.await.map_err(|_| Lost)
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.waiters.remove(&self.ticket);
            state.pairing.withdraw(self.ticket);
        });
    }
}

/// The stream of one worker.
struct Connection {
    shared: Arc<Shared>,
    id: Id,
}

impl Stream for Connection {
    type Item = WorkItem;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WorkItem>> {
        let handed = self.shared.change(|state| {
            if state.closed {
                return Err(());
            }
            let handed = state.pairing.take(self.id);
            if handed.is_none() {
                state.wakers.insert(self.id, context.waker().clone());
            }
            Ok(handed)
        });
        match handed {
            Err(()) => Poll::Ready(None),
            Ok(None) => Poll::Pending,
            Ok(Some(handed)) => Poll::Ready(Some(WorkItem {
                completion_token: self.shared.token(handed.ticket),
                request: Some(items::without(handed.item, handed.cached)),
            })),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.wakers.remove(&self.id);
            for lost in state.pairing.leave(self.id) {
                state.waiters.remove(&lost);
            }
        });
    }
}

/// How long an item may lie in the outbox of a worker.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
