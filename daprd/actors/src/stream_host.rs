//! Actors that an app hosts over a stream that it has opened (contract 11.1): what is asked has a number, and so has the answer.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use app_channel::{ActorConfig, EntityConfig, Reentrancy};
use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use parking_lot::Mutex;
use proto::runtime::v1::{
    self as runtime, SubscribeActorEventsRequestAlpha1 as FromApp,
    SubscribeActorEventsRequestInitialAlpha1 as Initial,
    SubscribeActorEventsResponseAlpha1 as ToApp,
    subscribe_actor_events_request_alpha1::RequestType as Answer,
    subscribe_actor_events_response_alpha1::ResponseType as Question,
};
use resiliency::{Call, Outcome, Policies};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use values::GoDuration;

use crate::{
    ActorId, Engine, Error, Request, Response,
    app_host::ERROR_RESPONSE,
    host::{Firing, Host},
    hosting,
};

/// An open stream: its types are hosted until it is dropped.
pub struct Streaming {
    engine: Engine,
    host: Arc<StreamHost>,
    questions: mpsc::Receiver<ToApp>,
}

/// The app behind a stream.
struct StreamHost {
    questions: mpsc::Sender<ToApp>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    next: AtomicU64,
    gone: CancellationToken,
    policies: Arc<ArcSwap<Policies>>,
}

impl Engine {
    /// Hosts what an app says at the beginning of a stream.
    ///
    /// # Errors
    /// Those of [`Engine::check`], and [`Error::NoStream`] where the app speaks HTTP.
    pub fn open_stream(&self, initial: Initial) -> Result<Streaming, Error> {
        self.check_stream()?;
        let options = &self.0.options;
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let host = Arc::new(StreamHost {
            questions: sender,
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            gone: CancellationToken::new(),
            policies: Arc::clone(&options.policies),
        });
        let shared: Arc<dyn Host> = host.clone();
        let kinds = hosting::kinds(&config(initial), &shared, options.disseminate_timeout);
        let names: BTreeSet<String> = kinds.keys().cloned().collect();
        tracing::info!("Registering hosted actors: {names:?}");
        self.host(kinds);
        Ok(Streaming {
            engine: self.clone(),
            host,
            questions,
        })
    }

    /// Whether actors may be hosted over a stream.
    ///
    /// # Errors
    /// Those of [`Engine::check`], and [`Error::NoStream`] where the app speaks HTTP.
    pub fn check_stream(&self) -> Result<(), Error> {
        self.check()?;
        let app = &self.0.options.app;
        match app.is_configured() && !app.protocol().is_grpc() {
            true => Err(Error::NoStream),
            false => Ok(()),
        }
    }

    /// Whoever opened a stream ends it when the sidecar does.
    pub async fn closing(&self) {
        self.0.closed().await;
    }
}

impl Streaming {
    /// What the app is asked next.
    pub async fn next(&mut self) -> Option<ToApp> {
        self.questions.recv().await
    }

    /// The app has answered. One that nobody waits for any more is passed over.
    pub fn answered(&self, message: FromApp) {
        let Some(answer) = message.request_type else {
            return;
        };
        let id = match &answer {
            Answer::InitialRequest(_) => return,
            Answer::InvokeResponse(it) => &it.id,
            Answer::ReminderResponse(it) | Answer::TimerResponse(it) => &it.id,
            Answer::DeactivateResponse(it) => &it.id,
            Answer::RequestFailed(it) => &it.id,
        };
        let waiting = self.host.waiting.lock().remove(id);
        match waiting {
            Some(waiting) => drop(waiting.send(answer)),
            None => tracing::debug!("an answer of an actor host that nobody waits for: {id:?}"),
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.host.gone.cancel();
        let host: Arc<dyn Host> = self.host.clone();
        let engine = self.engine.clone();
        let withdrawn = async move { engine.withdraw(&host).await };
        self.engine.0.tasks.spawn("end of an actor host", withdrawn);
    }
}

impl StreamHost {
    async fn ask(
        &self,
        kind: &str,
        question: impl Fn(String) -> Question,
    ) -> Result<Answer, Error> {
        let policy = self.policies.load().actor_turn(kind);
        let attempt = Call::once(self.ask_once(question));
        let answer = policy.run(attempt, |_| Outcome::Permanent).await;
        match answer.map_err(Error::from_policy)? {
            Answer::RequestFailed(failed) => Err(Error::Refused {
                code: i32::try_from(failed.code).map_or(Code::Unknown, Code::from_i32),
                message: failed.message,
            }),
            answer => Ok(answer),
        }
    }

    async fn ask_once(&self, question: impl Fn(String) -> Question) -> Result<Answer, Error> {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().insert(id.clone(), sender);
        let _forget = Forget {
            host: self,
            id: id.clone(),
        };
        let message = ToApp {
            response_type: Some(question(id)),
        };
        let asked = async {
            self.questions.send(message).await.ok()?;
            answer.await.ok()
        };
        let answer = self.gone.run_until_cancelled(asked).await.flatten();
        answer.ok_or(Error::Disconnected)
    }
}

/// Whoever gives up waits for no answer.
struct Forget<'a> {
    host: &'a StreamHost,
    id: String,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.host.waiting.lock().remove(&self.id);
    }
}

#[async_trait]
impl Host for StreamHost {
    async fn call(&self, request: Request) -> Result<Response, Error> {
        let Request {
            actor,
            method,
            content_type,
            mut headers,
            data,
            ..
        } = request;
        let own = headers.remove(header::CONTENT_TYPE);
        let own = own.and_then(|value| value.to_str().ok().map(str::to_owned));
        let mut metadata: HashMap<String, String> = headers
            .iter()
            .filter_map(|(name, value)| {
                Some((
                    peers::metadata::as_go(name),
                    value.to_str().ok()?.to_owned(),
                ))
            })
            .collect();
        // Callers over gRPC have it among their metadata.
        let content_type = Some(content_type).filter(|it| !it.is_empty()).or(own);
        metadata.extend(content_type.map(|it| (header::CONTENT_TYPE.to_string(), it)));
        let question = |id| {
            Question::InvokeRequest(runtime::SubscribeActorEventsResponseInvokeRequestAlpha1 {
                id,
                actor_type: actor.kind.clone(),
                actor_id: actor.id.clone(),
                method: method.clone(),
                data: data.clone(),
                metadata: metadata.clone().into_iter().collect(),
            })
        };
        let answer = match self.ask(&actor.kind, question).await {
            Ok(Answer::InvokeResponse(answer)) => answer,
            Ok(_) => return Err(unexpected("invoke")),
            Err(Error::Refused {
                code: Code::NotFound,
                ..
            }) => return Err(Error::NoMethod(method)),
            Err(error) => return Err(error),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &answer.metadata {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.insert(name, value);
            }
        }
        if answer.error {
            headers.insert(ERROR_RESPONSE, HeaderValue::from_static("true"));
        }
        let content_type = headers.get(header::CONTENT_TYPE);
        let response = Response {
            status: 200,
            content_type: content_type
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            headers,
            data: answer.data,
        };
        match answer.error {
            true => Err(Error::Actor(Box::new(response))),
            false => Ok(response),
        }
    }

    async fn remind(&self, firing: Firing) -> Result<(), Error> {
        let question = |id| {
            Question::ReminderRequest(runtime::SubscribeActorEventsResponseReminderRequestAlpha1 {
                id,
                actor_type: firing.actor.kind.clone(),
                actor_id: firing.actor.id.clone(),
                name: firing.name.clone(),
                due_time: firing.due_time.clone(),
                period: firing.period.clone(),
                data: firing.data.clone(),
            })
        };
        match self.ask(&firing.actor.kind, question).await? {
            Answer::ReminderResponse(answer) => done(answer.cancel),
            _ => Err(unexpected("reminder")),
        }
    }

    async fn timer(&self, firing: Firing) -> Result<(), Error> {
        let question = |id| {
            Question::TimerRequest(runtime::SubscribeActorEventsResponseTimerRequestAlpha1 {
                id,
                actor_type: firing.actor.kind.clone(),
                actor_id: firing.actor.id.clone(),
                name: firing.name.clone(),
                due_time: firing.due_time.clone(),
                period: firing.period.clone(),
                callback: firing.callback.clone(),
                data: firing.data.clone(),
            })
        };
        match self.ask(&firing.actor.kind, question).await? {
            Answer::TimerResponse(answer) => done(answer.cancel),
            _ => Err(unexpected("timer")),
        }
    }

    async fn deactivate(&self, actor: &ActorId) -> Result<(), Error> {
        let question = |id| {
            Question::DeactivateRequest(
                runtime::SubscribeActorEventsResponseDeactivateRequestAlpha1 {
                    id,
                    actor_type: actor.kind.clone(),
                    actor_id: actor.id.clone(),
                },
            )
        };
        self.ask_once(question).await.map(drop)
    }
}

fn done(cancel: bool) -> Result<(), Error> {
    match cancel {
        true => Err(Error::Canceled),
        false => Ok(()),
    }
}

fn unexpected(what: &str) -> Error {
    Error::Refused {
        code: Code::Internal,
        message: format!("actor host returned an unexpected response type for {what}"),
    }
}

/// The configuration as an HTTP app says it, whose durations are text.
fn config(initial: Initial) -> ActorConfig {
    ActorConfig {
        entities: initial.entities,
        actor_idle_timeout: text(initial.actor_idle_timeout),
        drain_ongoing_call_timeout: text(initial.drain_ongoing_call_timeout),
        drain_rebalanced_actors: initial.drain_rebalanced_actors,
        reentrancy: reentrancy(initial.reentrancy),
        entities_config: initial
            .entities_config
            .into_iter()
            .map(|own| EntityConfig {
                entities: own.entities,
                actor_idle_timeout: text(own.actor_idle_timeout),
                drain_ongoing_call_timeout: text(own.drain_ongoing_call_timeout),
                drain_rebalanced_actors: own.drain_rebalanced_actors,
                reentrancy: reentrancy(own.reentrancy),
            })
            .collect(),
    }
}

fn text(duration: Option<prost_types::Duration>) -> String {
    let duration = duration.and_then(|it| Duration::try_from(it).ok());
    duration.map_or_else(String::new, |it| GoDuration::from(it).to_string())
}

fn reentrancy(config: Option<runtime::ActorReentrancyConfig>) -> Reentrancy {
    config.map_or_else(Reentrancy::default, |config| Reentrancy {
        enabled: config.enabled,
        max_stack_depth: config.max_stack_depth,
    })
}

/// Questions that wait for the app to read them.
const QUESTIONS: usize = 128;
