//! What is known of an instance, for those who follow it: as it is, and each time that it changes, until it has ended.

use actors::{ActorId, Request, Response, host::Answers};
use futures::{StreamExt, future, stream};
use http::HeaderMap;
use prost::Message;
use proto::durabletask::{HistoryEvent, backend::v1::WorkflowMetadata};
use tokio_stream::wrappers::WatchStream;

use crds::workflow_access_policy::Operation;

use super::AT_A_TIME;
use crate::{
    Error,
    access::What,
    calls::{self, FOLLOW},
    core::{effects, fold::has_ended},
    engine::Inner,
    hosts::workflow::ok,
    metrics::STREAM,
};

impl Inner {
    /// Answers whoever follows an instance, which need not be there yet.
    ///
    /// # Errors
    /// [`Error::State`].
    pub async fn watch(&self, request: Request) -> Result<Answers, Error> {
        let Request {
            actor,
            method,
            headers,
            ..
        } = request;
        if method != FOLLOW {
            return Err(Error::Actors(actors::Error::NoMethod(method)));
        }
        let instance = self.instances.get(&actor.id);
        let news = instance.news();
        if news.borrow().is_none() {
            let mut slot = self.lock(&instance, STREAM).await;
            let record = self.current(&mut slot, &instance, &actor).await?;
            slot.record = record;
        }
        let known = news.borrow().clone();
        let name = known.as_ref().map(|known| known.name.as_str());
        self.allow(&headers, What::Workflow, Some(Operation::Get), || {
            name.unwrap_or_default().to_owned()
        })?;
        if calls::is_set(&headers, &calls::ONCE) {
            return Ok(once(known.map_or_else(not_found, |known| answer(&known))));
        }
        if calls::is_set(&headers, &calls::SUBTREE) {
            match known {
                None => return Ok(once(not_found())),
                Some(known) if has_ended(&known) => {
                    let history = self.history_of(&actor).await?;
                    let checked = self.check_children(&actor, &headers, &history).await;
                    if let Err(error) = checked {
                        return Ok(once(conflict(&error)));
                    }
                }
                Some(_) => {}
            }
        }
        let mut over = false;
        let answers = WatchStream::new(news)
            .filter_map(future::ready)
            .take_while(move |known| {
                let goes_on = !std::mem::replace(&mut over, has_ended(known));
                future::ready(goes_on)
            })
            .map(|known| Ok(answer(&known)));
        Ok(answers.boxed())
    }

    async fn history_of(&self, actor: &ActorId) -> Result<Vec<HistoryEvent>, Error> {
        let record = self.sound(actor).await?;
        Ok(record.map(|record| record.history).unwrap_or_default())
    }

    /// Whether all children of a history have ended, and theirs.
    ///
    /// # Errors
    /// [`Error::NotCompleted`] names one that has not; else why it cannot be told.
    pub async fn check_children(
        &self,
        actor: &ActorId,
        headers: &HeaderMap,
        history: &[HistoryEvent],
    ) -> Result<(), Error> {
        let headers = calls::deeper(headers, calls::flag(calls::SUBTREE))?;
        let children = effects::children(history, &self.names.app_id, &actor.id);
        let checked = children.into_iter().map(|child| {
            let headers = headers.clone();
            async move {
                let id = &child.instance;
                let actor = self.actor_of(child.app_id.as_deref(), id)?;
                let asked = Box::pin(self.check_child(actor, headers));
                let asked = self.within(CHECK, || "the question".to_owned(), asked);
                match asked.await {
                    Ok(()) | Err(Error::NotFound) => Ok(()),
                    Err(Error::NotCompleted(path)) => Err(Error::NotCompleted(format!(
                        "child workflow '{id}': {path}"
                    ))),
                    Err(error) => Err(Error::Unavailable(format!(
                        "failed to verify child workflow '{id}' is in a terminal state: {error}"
                    ))),
                }
            }
        });
        let mut checked = stream::iter(checked).buffered(AT_A_TIME);
        while let Some(checked) = checked.next().await {
            checked?;
        }
        Ok(())
    }

    async fn check_child(&self, actor: ActorId, headers: HeaderMap) -> Result<(), Error> {
        let mut answers = self.follow(actor, headers).await?;
        let Some(answer) = answers.next().await else {
            return Err(Error::NotCompleted(String::new()));
        };
        let Response { status, data, .. } = answer?;
        match status {
            404 => Err(Error::NotFound),
            409 => {
                let text: String = calls::read("report", &data)?;
                let end = Error::NotCompleted(String::new()).to_string();
                let path = text.strip_suffix(&end);
                Err(match path {
                    Some(path) => Error::NotCompleted(path.to_owned()),
                    None => Error::Unavailable(text),
                })
            }
            _ => {
                let known: WorkflowMetadata = calls::read("metadata", &data)?;
                match has_ended(&known) {
                    true => Ok(()),
                    false => Err(Error::NotCompleted(String::new())),
                }
            }
        }
    }
}

fn once(response: Response) -> Answers {
    stream::once(future::ready(Ok(response))).boxed()
}

fn answer(known: &WorkflowMetadata) -> Response {
    ok(known.encode_to_vec().into())
}

fn not_found() -> Response {
    Response {
        status: 404,
        headers: HeaderMap::new(),
        ..Response::default()
    }
}

fn conflict(error: &Error) -> Response {
    Response {
        status: 409,
        data: error.to_string().encode_to_vec().into(),
        ..Response::default()
    }
}

/// How long a child may take to say whether it has ended.
const CHECK: std::time::Duration = std::time::Duration::from_secs(5);
