//! Calls with a stream of answers: made here, or by the sidecar that hosts the actor. Whoever follows an actor that goes away,
//! or whose sidecar is lost, hears that the stream is over, and asks again if it wants to.

use futures::{StreamExt, stream};
use proto::internals::v1::{InternalInvokeRequest, InternalInvokeResponse};
use tonic::Status;

use crate::{Engine, Error, Request, calls::from_remote, directory::Owner, host::Answers, wire};

/// Answers as other sidecars get them.
pub type Replies = stream::BoxStream<'static, Result<InternalInvokeResponse, Status>>;

impl Engine {
    /// Calls a method of an actor that goes on answering, wherever its host is.
    ///
    /// # Errors
    /// Any [`Error`], [`Error::NoAnswers`] where the type has no such methods.
    pub async fn follow(&self, request: Request) -> Result<Answers, Error> {
        self.check()?;
        self.until_found(|| self.follow_once(request.clone(), false))
            .await
    }

    /// The same for another sidecar.
    ///
    /// # Errors
    /// The status that it gets.
    pub async fn followed(
        &self,
        request: InternalInvokeRequest,
        caller: Option<&str>,
    ) -> Result<Replies, Status> {
        self.check().map_err(Error::into_status)?;
        let request = wire::from_remote(request, caller)?;
        let answers = self.until_found(|| self.follow_once(request.clone(), true));
        let answers = answers.await.map_err(Error::into_status)?;
        let replies = answers.map(|answer| match answer {
            Ok(response) => Ok(wire::into_response(response)),
            Err(error) => Err(error.into_status()),
        });
        Ok(replies.boxed())
    }

    async fn follow_once(&self, request: Request, remote: bool) -> Result<Answers, Error> {
        match self.0.directory.owner(&request.actor).await? {
            Owner::Here => self.follow_here(request).await,
            Owner::Nobody => Err(Error::NoAddress(request.actor)),
            Owner::There(_) if remote => Err(Error::Moved),
            Owner::There(host) => {
                let address = host.address.clone();
                let mut client = self.client(&host)?;
                let replies = client.call_actor_stream(wire::into_request(request)).await;
                let replies = replies.map_err(|status| from_remote(&address, status))?;
                let answers = replies.into_inner().map(move |reply| match reply {
                    Ok(reply) => Ok(wire::from_response(reply)),
                    Err(status) => Err(from_remote(&address, status)),
                });
                Ok(answers.boxed())
            }
        }
    }

    async fn follow_here(&self, request: Request) -> Result<Answers, Error> {
        let kind = self.kind(&request.actor)?;
        let method = request.method.clone();
        let turn = self.turn(&request.actor, &kind, None, &method).await?;
        let answers = turn.kind().host.follow(request);
        let answers = turn.hold(&method, answers).await?;
        let gone = turn.closing();
        let answers = stream::unfold(Some((answers, gone, method)), |open| async {
            let (mut answers, gone, method) = open?;
            let answer = tokio::select! {
                biased;
                () = gone.cancelled() => Err(Error::Deactivated(method.clone())),
                answer = answers.next() => answer?,
            };
            let rest = answer.is_ok().then_some((answers, gone, method));
            Some((answer, rest))
        });
        Ok(answers.boxed())
    }
}
