//! Calls of one internal actor by another, or by the API: wherever the instance lives, also in another app.

use std::time::Duration;

use actors::{ActorId, Request, host::Answers};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use proto::durabletask::HistoryEvent;
use tokio::time::timeout;

use crate::{Error, Names, engine::Inner};

/// Methods of workflow actors.
pub const CREATE: &str = "CreateWorkflowInstance";
pub const ADD_EVENT: &str = "AddWorkflowEvent";
pub const PURGE: &str = "PurgeWorkflowState";
pub const PURGE_ALL: &str = "RecursivePurgeWorkflowState";
pub const FOLLOW: &str = "WaitForRuntimeStatus";
pub const FORK: &str = "ForkWorkflowHistory";
pub const RERUN: &str = "RerunWorkflowInstance";
/// The method of activity actors.
pub const EXECUTE: &str = "Execute";

/// When the turn that asks for an activity began, in milliseconds.
pub const DUE_TIME: HeaderName = HeaderName::from_static("duetime");
/// The instance has a janitor that asks for the activity again, so it need not have a reminder of its own.
pub const LOCAL_DRIVE: HeaderName = HeaderName::from_static("localdrive");
/// The purge is one of retention.
pub const OF_RETENTION: HeaderName = HeaderName::from_static("purgeretentioncall");
/// The purge is forced.
pub const FORCE: HeaderName = HeaderName::from_static("purgeforce");
/// Whether all children have ended is asked, too.
pub const SUBTREE: HeaderName = HeaderName::from_static("checksubtreeterminal");
/// What is known is asked, once.
pub const ONCE: HeaderName = HeaderName::from_static("metadatafetchonly");
/// Which run of the parent a child's end is told to.
pub const PARENT_RUN: HeaderName = HeaderName::from_static("x-dapr-workflow-execution");

/// The instance that is kept by whoever asks, until he has an answer.
pub const ASKER: HeaderName = HeaderName::from_static("x-dapr-workflow-asker");
/// How many instances a question has gone through, from parent to child, before this one.
pub const DEPTH: HeaderName = HeaderName::from_static("x-dapr-workflow-depth");

/// A header that says yes.
pub fn flag(name: HeaderName) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_static("true"))])
}

/// Whether a header says yes.
pub fn is_set(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get(name).is_some_and(|value| value == "true")
}

impl Inner {
    /// Names of the types of an app, this one where none is given.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id that would stand for more than an app.
    pub fn names_of(&self, app_id: Option<&str>) -> Result<Names, Error> {
        let Some(app_id) = app_id.filter(|id| !id.is_empty() && *id != self.names.app_id) else {
            return Ok(self.names.clone());
        };
        let fits = |c: char| c.is_alphabetic() || c.is_numeric() || c == '_' || c == '-';
        if !app_id.chars().all(fits) {
            return Err(Error::Invalid(format!(
                "workflow app ID '{app_id}' is invalid: only alphanumeric, dash and underscore characters are allowed"
            )));
        }
        Ok(Names {
            namespace: self.names.namespace.clone(),
            app_id: app_id.to_owned(),
        })
    }

    /// The actor of an instance of this app.
    pub fn actor(&self, instance: &str) -> ActorId {
        ActorId {
            kind: self.names.workflow(),
            id: instance.to_owned(),
        }
    }

    /// The actor of an instance of any app.
    ///
    /// # Errors
    /// As [`Inner::names_of`].
    pub fn actor_of(&self, app_id: Option<&str>, instance: &str) -> Result<ActorId, Error> {
        Ok(ActorId {
            kind: self.names_of(app_id)?.workflow(),
            id: instance.to_owned(),
        })
    }

    /// Calls a method.
    ///
    /// # Errors
    /// What the actor says, or why it was not reached.
    pub async fn call(
        &self,
        actor: ActorId,
        method: &str,
        data: Bytes,
        headers: HeaderMap,
    ) -> Result<Bytes, Error> {
        let request = request(actor, method, data, headers);
        Ok(self.options.actors.invoke(request).await?.data)
    }

    /// Follows what is known of an instance.
    ///
    /// # Errors
    /// As [`Inner::call`].
    pub async fn follow(&self, actor: ActorId, headers: HeaderMap) -> Result<Answers, Error> {
        let request = request(actor, FOLLOW, Bytes::new(), headers);
        Ok(self.options.actors.follow(request).await?)
    }

    /// Hands an event to an instance.
    ///
    /// # Errors
    /// As [`Inner::call`].
    pub async fn add_event(
        &self,
        actor: ActorId,
        event: &HistoryEvent,
        headers: HeaderMap,
    ) -> Result<(), Error> {
        let data = event.encode_to_vec().into();
        self.call(actor, ADD_EVENT, data, headers).await.map(drop)
    }

    /// Waits for what others do for an instance, for so long at most: they may be waiting for that instance themselves, or never
    /// answer. Whatever somebody asks of another actor while he keeps an instance, or because of one, goes through here.
    ///
    /// # Errors
    /// [`Error::Unavailable`] says `what` has not come to an end in time.
    pub async fn within<T>(
        &self,
        limit: Duration,
        what: impl FnOnce() -> String,
        done: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        timeout(limit, done).await.unwrap_or_else(|_| {
            let what = what();
            Err(Error::Unavailable(format!(
                "{what} has not come to an end within {limit:?}"
            )))
        })
    }

    /// How long others may take for what an instance asks of them while nobody is kept from it: longer than they may hold a completion
    /// until a turn has stored it.
    pub fn patience(&self) -> Duration {
        self.options.fold_wait.saturating_add(UNHELD)
    }

    /// An id that nobody has.
    pub fn new_id(&self) -> String {
        uuid::Uuid::new_v4().to_string()
    }
}

fn request(actor: ActorId, method: &str, data: Bytes, headers: HeaderMap) -> Request {
    Request {
        actor,
        method: method.to_owned(),
        query: String::new(),
        content_type: "application/x-protobuf".to_owned(),
        headers,
        data,
    }
}

/// Headers of a question to a child of the instance that was asked with `headers`.
///
/// # Errors
/// [`Error::Unavailable`] where it has gone too deep: some instance is a child of its own child.
pub fn deeper(headers: &HeaderMap, mut next: HeaderMap) -> Result<HeaderMap, Error> {
    let depth = headers
        .get(DEPTH)
        .and_then(|it| it.to_str().ok()?.parse().ok());
    let depth: u16 = depth.unwrap_or_default();
    if depth >= DEEPEST {
        return Err(Error::Unavailable(format!(
            "children are more than {DEEPEST} deep"
        )));
    }
    next.insert(DEPTH, HeaderValue::from(depth + 1));
    Ok(next)
}

/// A message as another sidecar sent it, packed or not.
///
/// # Errors
/// [`Error::Unreadable`].
pub fn read<M: Message + Default>(what: &str, data: &Bytes) -> Result<M, Error> {
    M::decode(data.clone()).map_err(|_| Error::Unreadable(what.to_owned()))
}

/// How long others may take while nobody else can work on the instance that asks them.
pub const HELD: Duration = Duration::from_secs(10);

/// The same where others can, beyond what they may wait themselves.
const UNHELD: Duration = Duration::from_secs(30);

/// Most instances that a question goes through: a call is inside the one before.
const DEEPEST: u16 = 100;

/// Between two looks for an actor that cannot be found.
pub const PAUSE: Duration = Duration::from_millis(200);
