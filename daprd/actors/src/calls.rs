//! Calls of actors: found by the directory, made here under a turn, or by the sidecar that hosts the actor (contract 11.1).

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use proto::internals::v1::{
    InternalInvokeRequest, InternalInvokeResponse, Reminder,
    service_invocation_client::ServiceInvocationClient,
};
use resiliency::{Outcome, repeatable};
use telemetry::trace::TraceContext;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    ActorId, Engine, Error, Kind, Request, Response,
    active::{Cell, Turn},
    app_host::ERROR_RESPONSE,
    directory::Owner,
    host::Firing,
    identity::check_method,
    wire,
};

type Client = ServiceInvocationClient<peers::PeerClient>;

impl Engine {
    /// Calls a method of an actor, wherever its host is, under the policies of its type. Type and id are checked by the caller
    /// against path characters, and the method is normalised.
    ///
    /// # Errors
    /// Any [`Error`]; of those of the app, [`Error::Actor`] carries an answer that is passed on.
    pub async fn invoke(&self, request: Request) -> Result<Response, Error> {
        self.check()?;
        let policies = self.0.options.policies.load_full();
        let ActorId { kind, id } = &request.actor;
        let policy = policies.actor(kind, id);
        if policies.names_actor(kind) {
            let call = repeatable(|_| self.call(request.clone(), false));
            let answer = policy.run(call, outcome).await;
            return answer.map_err(Error::from_policy);
        }
        let call = repeatable(|_| self.until_found(|| self.call(request.clone(), false)));
        let answer = policy.run(call, outcome).await;
        answer.map_err(Error::from_policy)
    }

    /// A call that another sidecar has sent here; `caller` is its app, where the connection proved it to be of this namespace.
    ///
    /// # Errors
    /// The status that it gets.
    pub async fn called(
        &self,
        request: InternalInvokeRequest,
        caller: Option<&str>,
    ) -> Result<InternalInvokeResponse, Status> {
        self.check().map_err(Error::into_status)?;
        let request = wire::from_remote(request, caller)?;
        let answer = self.until_found(|| self.call(request.clone(), true)).await;
        match answer {
            Ok(response) => Ok(wire::into_response(response)),
            // The caller sees by the header that it is an error.
            Err(Error::Actor(response)) => Ok(wire::into_response(*response)),
            Err(error) => Err(error.into_status()),
        }
    }

    /// A reminder or timer that another sidecar has sent here. Those of the sidecar's own types are sent by this app alone.
    ///
    /// # Errors
    /// The status that it gets.
    pub async fn reminded(&self, reminder: Reminder, caller: Option<&str>) -> Result<(), Status> {
        self.check().map_err(Error::into_status)?;
        let other = caller.is_some_and(|caller| caller != self.0.options.app_id);
        if other && reminder.actor_type.starts_with(INTERNAL) {
            return Err(Status::permission_denied(format!(
                "reminders of {} are those of its own app",
                reminder.actor_type
            )));
        }
        let firing = Firing {
            actor: ActorId {
                kind: reminder.actor_type,
                id: reminder.actor_id,
            },
            name: reminder.name,
            due_time: reminder.due_time,
            period: reminder.period,
            callback: String::new(),
            data: reminder.data,
            is_timer: reminder.is_timer,
        };
        let checked = firing
            .actor
            .check()
            .and_then(|()| check_method(&firing.name));
        checked.map_err(Status::invalid_argument)?;
        let fired = self.until_found(|| self.fire_once(firing.clone(), true));
        fired.await.map_err(|error| match error {
            Error::Canceled => Status::unknown(error.to_string()),
            other => other.into_status(),
        })
    }

    /// Fires a reminder or a timer at its actor, wherever that is.
    ///
    /// # Errors
    /// What the actor says, or why it was not reached.
    pub async fn fire(&self, firing: Firing) -> Result<(), Error> {
        self.check()?;
        let kind = &firing.actor.kind;
        // What came for a type that is hosted here no more is to come again elsewhere, or later.
        let fire = || async {
            match self.fire_once(firing.clone(), false).await {
                Err(error) if error.is_passing() && !self.0.hosting.is_kept(kind) => {
                    Err(Error::NotRegistered(kind.clone()))
                }
                fired => fired,
            }
        };
        self.until_found(fire).await
    }

    /// Repeats a call while the actor cannot be found, or is on its way to another host: as soon as placement knows more, else
    /// once a second.
    pub(crate) async fn until_found<T, Call>(&self, call: impl Fn() -> Call) -> Result<T, Error>
    where
        Call: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + PAUSE * RETRIES;
        let mut changes = self.0.directory.changes();
        loop {
            changes.mark_unchanged();
            let error = match Box::pin(call()).await {
                Err(error) if error.is_passing() && Instant::now() < end => error,
                answer => return answer,
            };
            tracing::debug!("an actor is looked for again: {error}");
            if !matches!(error, Error::Deactivated(_)) {
                let _ = timeout(PAUSE, changes.changed()).await;
            }
            sleep(SHORTEST_PAUSE).await;
        }
    }

    /// One attempt. `remote`: another sidecar believes that the actor is here.
    async fn call(&self, request: Request, remote: bool) -> Result<Response, Error> {
        let actor = &request.actor;
        let chain = request.headers.get(&wire::REENTRANCY);
        let chain = chain.and_then(|value| value.to_str().ok());
        // Who is at the actor already does not wait for placement, which waits for it.
        if chain.is_some_and(|chain| self.0.active.is_at(actor, chain)) {
            return self.call_here(request).await;
        }
        match self.0.directory.owner(actor).await? {
            Owner::Here => self.call_here(request).await,
            Owner::Nobody => Err(Error::NoAddress(actor.clone())),
            Owner::There(_) if remote => Err(Error::Moved),
            Owner::There(host) => {
                let mut client = self.client(&host)?;
                let mut message = tonic::Request::new(());
                if let Some(trace) = TraceContext::from_headers(&request.headers) {
                    let mut metadata = http::HeaderMap::new();
                    trace.inject_grpc(&mut metadata);
                    *message.metadata_mut() = MetadataMap::from_headers(metadata);
                }
                let message = message.map(|()| wire::into_request(request));
                let answer = client.call_actor(message).await;
                let answer = answer.map_err(|status| from_remote(&host.address, status))?;
                let response = wire::from_response(answer.into_inner());
                if response.headers.contains_key(&ERROR_RESPONSE) {
                    return Err(Error::Actor(Box::new(response)));
                }
                Ok(response)
            }
        }
    }

    async fn call_here(&self, mut request: Request) -> Result<Response, Error> {
        let kind = self.kind(&request.actor)?;
        wire::remove_connection(&mut request.headers);
        let mut chain = None;
        if kind.depth.is_some() {
            let made = || HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok();
            let given = request.headers.get(&wire::REENTRANCY).cloned();
            if let Some(value) = given.or_else(made) {
                chain = value.to_str().ok().map(str::to_owned);
                request.headers.insert(wire::REENTRANCY, value);
            }
        }
        let method = request.method.clone();
        let turn = self
            .turn(&request.actor, &kind, chain.as_deref(), &method)
            .await?;
        let call = turn.kind().host.call(request);
        turn.hold(&method, call).await
    }

    async fn fire_once(&self, firing: Firing, remote: bool) -> Result<(), Error> {
        match self.0.directory.owner(&firing.actor).await? {
            Owner::Here => self.fire_here(firing).await,
            Owner::Nobody => Err(Error::NoAddress(firing.actor)),
            Owner::There(_) if remote => Err(Error::Moved),
            Owner::There(host) => {
                let reminder = Reminder {
                    actor_id: firing.actor.id,
                    actor_type: firing.actor.kind,
                    name: firing.name,
                    data: firing.data,
                    period: firing.period,
                    due_time: firing.due_time,
                    is_timer: firing.is_timer,
                    ..Reminder::default()
                };
                let mut client = self.client(&host)?;
                let answer = client.call_actor_reminder(reminder).await;
                match answer {
                    Ok(_) => Ok(()),
                    Err(status) if status.message() == Error::Canceled.to_string() => {
                        Err(Error::Canceled)
                    }
                    Err(status) => Err(from_remote(&host.address, status)),
                }
            }
        }
    }

    async fn fire_here(&self, firing: Firing) -> Result<(), Error> {
        let kind = self.kind(&firing.actor)?;
        let what = if firing.is_timer { "timer" } else { "remind" };
        let method = format!("{what}/{}", firing.name);
        // A chain of its own: what the app calls meanwhile does not come back to it.
        let turn = self.turn(&firing.actor, &kind, None, &method).await?;
        let host = &turn.kind().host;
        let call = if firing.is_timer {
            host.timer(firing)
        } else {
            host.remind(firing)
        };
        turn.hold(&method, call).await
    }

    /// A turn at an actor that is known to be this sidecar's at that moment.
    pub(crate) async fn turn(
        &self,
        actor: &ActorId,
        kind: &Arc<Kind>,
        chain: Option<&str>,
        method: &str,
    ) -> Result<Turn, Error> {
        let inner = &self.0;
        let (turn, is_new) = inner.active.turn(actor, kind, chain, method).await?;
        // It may have been given away since it was looked for, and this call have made a cell that nobody drains. One that was
        // there before is drained, if it is another's.
        let ours = !is_new || inner.directory.is_here(actor);
        match ours && inner.pulse.is_steady() {
            true => Ok(turn),
            false => {
                // Closed before others that wait there get a turn.
                let stray = |cell: &Cell| cell.actor() == actor;
                let gone = self.drain(stray, Duration::MAX);
                drop(turn);
                gone.await;
                Err(Error::Deactivated(method.to_owned()))
            }
        }
    }

    pub(crate) fn kind(&self, actor: &ActorId) -> Result<Arc<Kind>, Error> {
        let hosting = &self.0.hosting;
        if hosting.is_suspended() {
            return Err(Error::Suspended);
        }
        let kind = hosting.kind(&actor.kind);
        kind.ok_or_else(|| Error::NotRegistered(actor.kind.clone()))
    }

    pub(crate) fn client(&self, host: &placement_table::Host) -> Result<Client, Error> {
        let options = &self.0.options;
        let peer = options
            .peers
            .peer(&host.address, &host.app_id, &options.namespace)
            .map_err(|error| Error::Remote(Box::new(Status::internal(error.to_string()))))?;
        let (service, origin) = peer.grpc();
        Ok(Client::with_origin(service, origin)
            .max_decoding_message_size(options.max_message)
            .max_encoding_message_size(options.max_message))
    }
}

/// What an error of another sidecar means.
pub(crate) fn from_remote(address: &str, status: Status) -> Error {
    let message = status.message();
    let moved = status.code() == Code::Internal
        && (message.ends_with(&Error::Moved.to_string())
            || message.ends_with(&format!(": {}", Error::Disseminating)));
    if moved || status.code() == Code::Unavailable {
        return Error::Unreachable {
            address: address.to_owned(),
            retries: 0,
            status: Box::new(status),
        };
    }
    Error::Remote(Box::new(status))
}

/// What a failure means to a policy.
fn outcome(error: &Error) -> Outcome {
    match error {
        Error::NoMethod(_) | Error::NoPlacement | Error::Closed => Outcome::Permanent,
        Error::Remote(status) => Outcome::Grpc(status.code() as i32),
        Error::Unreachable { .. } => Outcome::Unreached,
        _ => Outcome::Retryable,
    }
}

/// Types of the sidecar's own begin so.
const INTERNAL: &str = "dapr.internal.";

/// How long and how often an actor is looked for that no host has (contract 11.1).
const PAUSE: Duration = Duration::from_secs(1);
const RETRIES: u32 = 5;

/// Between two attempts, also where placement changes all the time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
