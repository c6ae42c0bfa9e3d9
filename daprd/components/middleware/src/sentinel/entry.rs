//! A request that is under way, from when it is let in until its answer has been read, and what became of it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use component::{
    Body,
    body::{self, BoxError},
};
use http::{Method, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;

use super::{
    Resource,
    breaker::{Outcome, Ticket},
    rules::{Concurrency, System},
};

/// What a request has of the rules. Dropped before anything else is known, it was given up.
pub struct Entry {
    taken: Vec<Taken>,
    system: Arc<System>,
    /// When it went on to what comes next, if it has.
    began: Option<Instant>,
    outcome: Outcome,
}

/// What a request has of one resource: the places and tickets of the first of its rules, or of all.
struct Taken {
    resource: Arc<Resource>,
    places: usize,
    tickets: Vec<Ticket>,
}

impl Entry {
    /// Of a request that has nothing yet.
    pub fn new(system: &Arc<System>) -> Self {
        system.enter();
        Self {
            taken: Vec::new(),
            system: Arc::clone(system),
            began: None,
            outcome: Outcome::Abandoned,
        }
    }

    /// Takes a place of each rule of a resource, if there is one.
    pub fn take(&mut self, resource: Arc<Resource>, now: Instant) -> Option<()> {
        let limits = &resource.concurrencies;
        let places = limits.iter().take_while(|limit| limit.enter()).count();
        let admitted = resource
            .breakers
            .iter()
            .filter(|_| places == limits.len())
            .map_while(|breaker| breaker.admits(now));
        let tickets: Vec<Ticket> = admitted.collect();
        let all = places == limits.len() && tickets.len() == resource.breakers.len();
        self.taken.push(Taken {
            resource,
            places,
            tickets,
        });
        all.then_some(())
    }

    /// It goes on to what comes next.
    pub fn begins(&mut self, at: Instant) {
        self.began = Some(at);
    }

    /// It is under way until its answer has been read.
    pub fn follow(mut self, method: &Method, response: Response<Body>) -> Response<Body> {
        let status = response.status();
        let failed = status.is_server_error();
        // What is answered with an error has failed, however much of the answer is read.
        if failed {
            self.outcome = Outcome::Failed;
        }
        let length = response.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let bodiless = *method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        response.map(|body| {
            let mut followed = Followed {
                left: if bodiless { Some(0) } else { length },
                body,
                entry: self,
            };
            followed.look();
            body::streamed(followed)
        })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = self
            .began
            .map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        for taken in &mut self.taken {
            let resource = &taken.resource;
            let places = &resource.concurrencies[..taken.places];
            places.iter().for_each(Concurrency::leave);
            for (breaker, ticket) in resource.breakers.iter().zip(taken.tickets.drain(..)) {
                breaker.record(ticket, now, took, self.outcome);
            }
        }
        self.system
            .leave(now, took, self.outcome == Outcome::Abandoned);
    }
}

/// The body of an answer, which tells how it ends.
struct Followed {
    body: Body,
    entry: Entry,
    /// How much is still to come, where that is known: who sends it does not ask for more.
    left: Option<u64>,
}

impl Followed {
    /// Whether it has ended.
    fn look(&mut self) {
        let ended = self.left == Some(0) || http_body::Body::is_end_stream(&self.body);
        if ended && self.entry.outcome == Outcome::Abandoned {
            self.entry.outcome = Outcome::Good;
        }
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.left = Some(0),
            Some(Err(_)) => self.entry.outcome = Outcome::Failed,
            Some(Ok(frame)) => {
                let came = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(came));
            }
        }
        self.look();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
