//! Actor operations (contract 1.2, 11): invocation. State, reminders and timers stand in modules of their own.

mod reminders;
mod state;
mod stream;
mod timers;

pub(crate) use state::not_saved;

use ::actors::{ActorId, Error, Request, Response, check_name};
use ::invoke::MethodPath;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use proto::runtime::v1::{InvokeActorRequest, InvokeActorResponse};
use tonic::{Code, Status};

use super::{Api, Operation, Route, rpc};
use crate::{
    ApiError, CallContext,
    http::actors as codec,
    reason::{actors as reason, general},
};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "InvokeActor",
        "actors",
        &[rpc!("InvokeActor", "v1", invoke_actor)],
        &[Route {
            methods: &["GET", "POST", "PUT", "DELETE"],
            path: "/v1.0/actors/{type}/{id}/method/{method}",
            codec: |api, call| Box::pin(codec::invoke(api, call)),
        }],
    ),
    Operation::new(
        "GetActorState",
        "actors",
        &[rpc!("GetActorState", "v1", actor_state)],
        &[Route {
            methods: &["GET"],
            path: "/v1.0/actors/{type}/{id}/state/{key}",
            codec: |api, call| Box::pin(codec::get_state(api, call)),
        }],
    ),
    Operation::new(
        "ExecuteActorStateTransaction",
        "actors",
        &[rpc!(
            "ExecuteActorStateTransaction",
            "v1",
            actor_transaction
        )],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0/actors/{type}/{id}/state",
            codec: |api, call| Box::pin(codec::transact(api, call)),
        }],
    ),
    Operation::new(
        "RegisterActorReminder",
        "actors",
        &[rpc!("RegisterActorReminder", "v1", register_actor_reminder)],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0/actors/{type}/{id}/reminders/{name}",
            codec: |api, call| Box::pin(codec::register_reminder(api, call)),
        }],
    ),
    Operation::new(
        "GetActorReminder",
        "actors",
        &[rpc!("GetActorReminder", "v1", actor_reminder)],
        &[Route {
            methods: &["GET"],
            path: "/v1.0/actors/{type}/{id}/reminders/{name}",
            codec: |api, call| Box::pin(codec::get_reminder(api, call)),
        }],
    ),
    Operation::new(
        "UnregisterActorReminder",
        "actors",
        &[rpc!(
            "UnregisterActorReminder",
            "v1",
            unregister_actor_reminder
        )],
        &[Route {
            methods: &["DELETE"],
            path: "/v1.0/actors/{type}/{id}/reminders/{name}",
            codec: |api, call| Box::pin(codec::unregister_reminder(api, call)),
        }],
    ),
    Operation::new(
        "UnregisterActorRemindersByType",
        "actors",
        &[rpc!(
            "UnregisterActorRemindersByType",
            "v1",
            unregister_actor_reminders
        )],
        &[],
    ),
    Operation::new(
        "ListActorReminders",
        "actors",
        &[rpc!("ListActorReminders", "v1", actor_reminders)],
        &[],
    ),
    Operation::new(
        "RegisterActorTimer",
        "actors",
        &[rpc!("RegisterActorTimer", "v1", register_actor_timer)],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0/actors/{type}/{id}/timers/{name}",
            codec: |api, call| Box::pin(codec::register_timer(api, call)),
        }],
    ),
    Operation::new(
        "UnregisterActorTimer",
        "actors",
        &[rpc!("UnregisterActorTimer", "v1", unregister_actor_timer)],
        &[Route {
            methods: &["DELETE"],
            path: "/v1.0/actors/{type}/{id}/timers/{name}",
            codec: |api, call| Box::pin(codec::unregister_timer(api, call)),
        }],
    ),
    Operation::new(
        "SubscribeActorEventsAlpha1",
        "actors",
        &[rpc!(
            bidirectional "SubscribeActorEventsAlpha1",
            "v1alpha1",
            subscribe_actor_events
        )],
        &[],
    ),
];

/// Actor types of the runtime itself, which no caller may touch (contract 1.2).
const RESERVED: &str = "dapr.internal.";

/// What became of a call: an answer of the app's, which may be an error that it has said itself.
pub(crate) struct Invoked {
    pub answer: Response,
}

impl Api {
    /// Calls a method of an actor, wherever its host is. What the app calls an error is data like others.
    pub async fn invoke_actor(
        &self,
        _call: &CallContext,
        request: InvokeActorRequest,
    ) -> Result<InvokeActorResponse, ApiError> {
        self.check_actors()?;
        let invalid = |problem: String| ApiError::of_status(Status::invalid_argument(problem));
        let actor = ActorId {
            kind: request.actor_type,
            id: request.actor_id,
        };
        actor.check().map_err(invalid)?;
        let method = normalized(&request.method);
        let method = method.map_err(|it| invalid(format!("invalid actor method: {it}")))?;
        let headers = request.metadata.iter().filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        });
        let request = Request {
            actor,
            method,
            query: String::new(),
            content_type: String::new(),
            headers: headers.collect(),
            data: request.data,
        };
        let invoked = self.invoke_actor_method(request).await?;
        Ok(InvokeActorResponse {
            data: invoked.answer.data,
        })
    }

    /// The same over HTTP, where the whole answer is passed on.
    pub(crate) async fn invoke_actor_http(
        &self,
        actor: ActorId,
        method: &str,
        query: String,
        headers: HeaderMap,
        data: bytes::Bytes,
    ) -> Result<Invoked, ApiError> {
        check_actor(&actor)?;
        let content_type = headers.get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let request = Request {
            actor,
            method: normalized(method).map_err(|problem| bad_request(&problem))?,
            query,
            content_type: content_type.unwrap_or_default().to_owned(),
            headers,
            data,
        };
        self.invoke_actor_method(request).await
    }

    async fn invoke_actor_method(&self, request: Request) -> Result<Invoked, ApiError> {
        match self.options.actors.invoke(request).await {
            Ok(answer) => Ok(Invoked { answer }),
            Err(Error::Actor(answer)) => Ok(Invoked { answer: *answer }),
            Err(error) => Err(actor_error(error, |text| {
                let text = format!("error invoke actor method: {text}");
                ApiError::new(&reason::INVOKE, text)
            })),
        }
    }

    /// Fails for types of the runtime, whatever else is wrong.
    pub(crate) fn check_actor_type(&self, kind: &str) -> Result<(), ApiError> {
        check_type(kind)
    }

    /// Fails where there is no actor runtime.
    pub(crate) fn check_actors(&self) -> Result<(), ApiError> {
        let checked = self.options.actors.check();
        checked.map_err(|error| actor_error(error, |text| ApiError::new(&general::INTERNAL, text)))
    }
}

/// What has a reason of its own, whatever was asked; `other` makes the error of the rest.
fn actor_error(error: Error, other: impl FnOnce(&str) -> ApiError) -> ApiError {
    let text = error.to_string();
    let row = match error {
        Error::NoPlacement => &reason::NO_PLACEMENT,
        Error::Closed => &reason::CLOSED,
        Error::NoAddress(_) => &reason::NO_ADDRESS,
        Error::InstanceMissing => &reason::INSTANCE_MISSING,
        Error::StackDepth => &reason::STACK_DEPTH,
        Error::App(app_channel::Error::NoChannel) => &reason::NO_APP_CHANNEL,
        // What another sidecar said is for gRPC callers as it is.
        Error::Remote(status) => return other(&text).passing(*status),
        Error::Unreachable { status, .. } => {
            return other(&text).passing(Status::new(code(&status), text));
        }
        _ => return other(&text),
    };
    ApiError::new(row, text)
}

fn code(status: &Status) -> Code {
    match status.code() {
        Code::Ok => Code::Unknown,
        code => code,
    }
}

fn check_type(actor_type: &str) -> Result<(), ApiError> {
    if !actor_type.starts_with(RESERVED) {
        return Ok(());
    }
    Err(ApiError::new(
        &reason::TYPE_RESERVED,
        format!(
            "actor type {actor_type:?} is reserved for the Dapr workflow runtime; direct actor API access is not permitted"
        ),
    ))
}

/// An actor whose names stand in a path of the app.
fn check_actor(actor: &ActorId) -> Result<(), ApiError> {
    actor.check().map_err(|problem| bad_request(&problem))
}

fn bad_request(problem: &str) -> ApiError {
    ApiError::new(&general::BAD_REQUEST, format!("invalid request: {problem}"))
}

/// The method as a path below the actor.
fn normalized(method: &str) -> Result<String, String> {
    let prefix = "rpc error: code = InvalidArgument desc = invalid method: ";
    let path = MethodPath::from_message(method).map_err(|error| {
        let text = error.to_string();
        text.strip_prefix(prefix).unwrap_or(&text).to_owned()
    })?;
    Ok(path.as_str().trim_start_matches('/').to_owned())
}

/// Data of a gRPC caller as the app's SDK gets them: JSON, a text in base64. None is none.
fn quoted(data: &[u8]) -> Option<bytes::Bytes> {
    (!data.is_empty()).then(|| format!("\"{}\"", STANDARD.encode(data)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_runtime_are_reserved() {
        assert!(check_type("Account").is_ok());
        let error = check_type("dapr.internal.default.app.workflow").unwrap_err();
        assert_eq!(error.reason(), &reason::TYPE_RESERVED);
    }

    #[test]
    fn methods_are_paths_below_their_actor() {
        assert_eq!(normalized("/a/../../b").as_deref(), Ok("b"));
        let refused = normalized("a?b").unwrap_err();
        assert!(refused.starts_with("method contains"), "{refused}");
    }

    #[test]
    fn errors_keep_their_reasons() {
        let invoke = |text: &str| ApiError::new(&reason::INVOKE, text);
        assert_eq!(actor_error(Error::Closed, invoke).reason().http, 503);
        let moved = actor_error(Error::Moved, invoke);
        assert_eq!(moved.reason(), &reason::INVOKE);
        let status = Box::new(Status::not_found("gone"));
        let remote = actor_error(Error::Remote(status), invoke);
        assert_eq!(remote.into_status().code(), Code::NotFound);
    }

    #[test]
    fn bytes_of_grpc_callers_are_texts() {
        assert_eq!(quoted(b"{}").as_deref(), Some(&b"\"e30=\""[..]));
        assert_eq!(quoted(b""), None);
    }
}
