//! Proxied calls as they are counted: once they have been sent, and once their status is there.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use component::{Body, BoxError, body};
use http::Response;
use http_body::{Frame, SizeHint};
use tonic::Code;

use super::grpc_status;
use crate::Invoker;

/// A call that has been sent. Dropped before its status is there, it was given up.
pub struct Sent {
    invoker: Invoker,
    app_id: String,
    streams: bool,
    began: Instant,
    counted: bool,
}

impl Sent {
    /// Counts a call to an app; of one that `streams`, only that it could not be begun is counted later.
    pub fn new(invoker: &Invoker, app_id: &str, streams: bool) -> Self {
        let began = invoker.0.metrics.passed_on(app_id, streams);
        Self {
            invoker: invoker.clone(),
            app_id: app_id.to_owned(),
            streams,
            began,
            counted: false,
        }
    }

    /// There is no answer.
    pub fn failed(mut self) {
        self.count(Code::Unavailable as i32);
    }

    /// There is an answer, which has its status in its head or at its end.
    pub fn answered(mut self, response: Response<Body>) -> Response<Body> {
        match grpc_status(response.headers()) {
            Some(code) => {
                self.count(code);
                response
            }
            None if self.streams => {
                self.counted = true;
                response
            }
            None => response.map(|body| body::streamed(Measured { body, sent: self })),
        }
    }

    fn count(&mut self, code: i32) {
        if std::mem::replace(&mut self.counted, true) {
            return;
        }
        let metrics = &self.invoker.0.metrics;
        metrics.came_back(&self.app_id, code, self.streams, self.began);
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.count(Code::Cancelled as i32);
    }
}

struct Measured {
    body: Body,
    sent: Sent,
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let code = match &frame {
            None => Some(Code::Unknown as i32),
            Some(Err(_)) => Some(Code::Unavailable as i32),
            Some(Ok(frame)) => frame
                .trailers_ref()
                .map(|trailers| grpc_status(trailers).unwrap_or(Code::Unknown as i32)),
        };
        if let Some(code) = code {
            self.sent.count(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
