//! A sidecar's connections, watched: whoever gave its address out hears when nobody is there.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use hyper_util::client::legacy;
use telemetry::grpc_metrics::CountedBody;
use tower::Service;
use transport::{Answer, Answering};

use crate::Lanes;

/// Hears of the address, as it was dialled. It is called in the middle of a call and must not wait.
pub type Unreachable = Arc<dyn Fn(&str) + Send + Sync>;

/// The service below the metrics.
#[derive(Clone)]
pub struct Dialled {
    lanes: Lanes,
    address: Arc<str>,
    unreachable: Unreachable,
}

impl Dialled {
    pub(crate) fn new(lanes: Lanes, address: Arc<str>, unreachable: Unreachable) -> Self {
        Self {
            lanes,
            address,
            unreachable,
        }
    }
}

impl Service<Request<CountedBody<tonic::body::Body>>> for Dialled {
    type Response = Response<Answer>;
    type Error = legacy::Error;
    type Future = Dialling;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        self.lanes.poll_ready(context)
    }

    fn call(&mut self, request: Request<CountedBody<tonic::body::Body>>) -> Dialling {
        Dialling {
            answering: self.lanes.request(request),
            address: Arc::clone(&self.address),
            unreachable: Arc::clone(&self.unreachable),
        }
    }
}

/// A call that waits for its answer.
pub struct Dialling {
    answering: Answering,
    address: Arc<str>,
    unreachable: Unreachable,
}

impl Future for Dialling {
    type Output = Result<Response<Answer>, legacy::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answering).poll(context));
        if answer.as_ref().is_err_and(legacy::Error::is_connect) {
            (self.unreachable)(&self.address);
        }
        Poll::Ready(answer)
    }
}
