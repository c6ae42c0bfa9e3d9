//! One invocation under the policy of its target: what an attempt is, what of its outcome is a failure, and which of them are
//! worth another attempt.

use component::{Body, body};
use http::{Request, Response, request::Parts};
use resiliency::{Call, Outcome, Policy, policy};
use tonic::Code;

use crate::{
    Error, Invoker,
    answer::{self, GrpcAnswer},
    method::MethodPath,
    replay::Replay,
    target::Target,
};

/// Up to this many bytes of a body are kept, so that a call that did not get through can be tried again.
const MAX_REPLAY: u64 = 64 << 10;

/// The same where a policy may retry an answer.
pub const MAX_POLICY_REPLAY: u64 = 4 << 20;

/// One invocation, as all of its attempts see it.
pub struct Invocation<'a> {
    pub invoker: &'a Invoker,
    pub target: &'a Target,
    pub method: &'a MethodPath,
    /// Escaped as the caller wrote it, for what is no app.
    pub escaped: &'a str,
    pub parts: &'a Parts,
    pub asked: Asked,
}

impl Invocation<'_> {
    /// Makes the call under the policy of its target, as often as that says and the body allows.
    pub async fn run(self, policy: &Policy, body: Body) -> Result<Response<Body>, Error> {
        let limit = replay_limit(policy, &body);
        let (replay, first) = Replay::new(body, limit);
        // Boxed: what a call to another sidecar needs would be room in all that is around it.
        let call = Call::new(Box::pin(self.attempt(first)), |_| {
            replay.again().map(|body| Box::pin(self.attempt(body)))
        });
        let classify = |failure: &Failure| failure.outcome(self.target, &replay);
        settle(policy.run(call, classify).await, &replay)
    }

    async fn attempt(&self, body: Body) -> Result<Response<Body>, Failure> {
        let answer = self.once(body).await.map_err(Failure::Error)?;
        match self.asked.failure(&answer) {
            Some(outcome) => Err(Failure::Answer(Box::new(answer), outcome)),
            None => Ok(answer),
        }
    }

    async fn once(&self, body: Body) -> Result<Response<Body>, Error> {
        let invoker = self.invoker;
        let answer = match self.target {
            Target::Url { url, endpoint } => {
                let endpoints = invoker.0.endpoints.load_full();
                let request = self.request(body);
                endpoints
                    .call(url, endpoint.as_deref(), self.escaped, request)
                    .await?
            }
            target if invoker.is_own(target) => {
                invoker.local(self.method, self.request(body)).await?
            }
            target => {
                invoker
                    .remote(target, self.method, self.parts, body)
                    .await?
            }
        };
        if self.asked == Asked::ByHttp {
            return Ok(answer);
        }
        let (parts, body) = answer.into_parts();
        let whole = body::read(body, invoker.0.options.max_message).await?;
        Ok(Response::from_parts(parts, body::full(whole)))
    }

    fn request(&self, body: Body) -> Request<Body> {
        Request::from_parts(self.parts.clone(), body)
    }
}

/// How many bytes of a body are kept for other attempts: none where there are no others, and none of a body of unknown length,
/// which upstream does not try again either (Q-invoke-replay).
fn replay_limit(policy: &Policy, body: &Body) -> u64 {
    if !policy.has_retries() || http_body::Body::size_hint(body).exact().is_none() {
        0
    } else if policy.judges_answers() {
        MAX_POLICY_REPLAY
    } else {
        MAX_REPLAY
    }
}

/// How the caller asked, which decides what of an answer is a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    ByHttp,
    /// The answer fits into a message, and so is read whole.
    ByMessage,
}

impl Asked {
    /// What a policy has against an answer, by the status that the caller would see.
    fn failure(self, response: &Response<Body>) -> Option<Outcome> {
        let status = response.status();
        let code = match (self, response.extensions().get::<GrpcAnswer>()) {
            (Self::ByHttp, _) => {
                let good = status.is_success() || status.is_redirection();
                return (!good).then_some(Outcome::Http(status.as_u16()));
            }
            (Self::ByMessage, Some(answer)) => answer.status.code(),
            (Self::ByMessage, None) if status.is_success() => Code::Ok,
            (Self::ByMessage, None) => answer::code(status),
        };
        (code != Code::Ok).then_some(Outcome::Grpc(code as i32))
    }
}

/// What one attempt came to: an answer that a policy may count as a failure, or no answer.
pub enum Failure {
    Answer(Box<Response<Body>>, Outcome),
    Error(Error),
}

impl Failure {
    /// What it means to a policy. A body that the caller broke off is the caller's doing, whatever came of it.
    pub fn outcome(&self, target: &Target, replay: &Replay) -> Outcome {
        match self {
            _ if replay.broke().is_some() => Outcome::Abandoned,
            Self::Answer(_, outcome) => *outcome,
            Self::Error(error) => error.outcome(target),
        }
    }
}

/// The outcome of all attempts: a failed answer is an answer all the same.
pub fn settle(
    outcome: Result<Response<Body>, policy::Error<Failure>>,
    replay: &Replay,
) -> Result<Response<Body>, Error> {
    let error = match outcome {
        Ok(answer) => return Ok(answer),
        Err(policy::Error::Inner(Failure::Answer(answer, _))) => return Ok(*answer),
        Err(policy::Error::Inner(Failure::Error(error))) => error,
        Err(policy::Error::Timeout(after)) => Error::Timeout(after),
        Err(policy::Error::CircuitOpen) => Error::Policy("circuit breaker is open"),
        Err(policy::Error::TooManyRequests) => Error::Policy("too many requests"),
    };
    Err(replay.broke().unwrap_or(error))
}
