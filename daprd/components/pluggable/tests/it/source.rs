//! The bindings of the tests, both directions on one socket: what is put in comes out, and answers are kept.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use proto::components::v1::{
    input_binding_server::{InputBinding, InputBindingServer},
    output_binding_server::{OutputBinding, OutputBindingServer},
    *,
};
use tokio::sync::watch;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use crate::server::{Answer, Served};

/// What the process was told, and what it is about to send.
#[derive(Default)]
pub struct Told {
    pub inits: usize,
    pub waiting: VecDeque<ReadResponse>,
    pub pushed: usize,
    /// Sent and not answered.
    pub sent: Vec<ReadResponse>,
    pub answers: Vec<ReadRequest>,
    /// Calls that read.
    pub open: usize,
}

/// The process.
pub struct Source(pub watch::Sender<Told>);

/// Serves `bindings.memory`.
pub fn serve() -> Served<Source> {
    let source = Arc::new(Source(watch::Sender::default()));
    let routes = Routes::new(InputBindingServer::new(Service(Arc::clone(&source))))
        .add_service(OutputBindingServer::new(Service(Arc::clone(&source))));
    Served::start(source, routes, &["InputBinding", "OutputBinding"])
}

impl Source {
    pub fn push(&self, id: &str, data: impl Into<Bytes>) {
        let event = ReadResponse {
            data: data.into(),
            message_id: id.to_owned(),
            ..ReadResponse::default()
        };
        self.0.send_modify(|told| {
            told.pushed += 1;
            told.waiting.push_back(event);
        });
    }

    /// Waits until it was told something.
    pub async fn wait(&self, what: &str, look: impl FnMut(&Told) -> bool) {
        let mut told = self.0.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(20), told.wait_for(look)).await;
        let told = waited.unwrap_or_else(|_| panic!("{what}: not within 20 s"));
        drop(told.expect("the source is there"));
    }
}

/// Serves it.
struct Service(Arc<Source>);

/// One call that reads. What was not answered is sent again by the next.
struct Reading {
    source: Arc<Source>,
    requests: Streaming<ReadRequest>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.source.0.send_modify(|told| {
            told.open -= 1;
            let again = told.sent.drain(..).rev().collect::<Vec<_>>();
            again
                .into_iter()
                .for_each(|event| told.waiting.push_front(event));
        });
    }
}

impl Reading {
    async fn step(mut self) -> Option<(Result<ReadResponse, Status>, Self)> {
        let mut told = self.source.0.subscribe();
        loop {
            let mut next = None;
            self.source.0.send_if_modified(|told| {
                next = told.waiting.pop_front();
                told.sent.extend(next.clone());
                next.is_some()
            });
            if let Some(event) = next {
                return Some((Ok(event), self));
            }
            tokio::select! {
                _ = told.changed() => {}
                answer = self.requests.message() => match answer {
                    Ok(Some(answer)) => self.source.0.send_modify(|told| {
                        told.sent.retain(|one| one.message_id != answer.message_id);
                        told.answers.push(answer);
                    }),
                    Ok(None) | Err(_) => return None,
                },
            }
        }
    }
}

#[tonic::async_trait]
impl InputBinding for Service {
    async fn init(
        &self,
        request: Request<InputBindingInitRequest>,
    ) -> Answer<InputBindingInitResponse> {
        assert!(request.metadata().contains_key("x-component-instance"));
        self.0.0.send_modify(|told| told.inits += 1);
        Ok(Response::new(InputBindingInitResponse {}))
    }

    type ReadStream = Pin<Box<dyn Stream<Item = Result<ReadResponse, Status>> + Send>>;

    async fn read(&self, request: Request<Streaming<ReadRequest>>) -> Answer<Self::ReadStream> {
        self.0.0.send_modify(|told| told.open += 1);
        let reading = Reading {
            source: Arc::clone(&self.0),
            requests: request.into_inner(),
        };
        Ok(Response::new(
            stream::unfold(reading, Reading::step).boxed(),
        ))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Answer<PingResponse> {
        Ok(Response::new(PingResponse {}))
    }
}

#[tonic::async_trait]
impl OutputBinding for Service {
    async fn init(
        &self,
        request: Request<OutputBindingInitRequest>,
    ) -> Answer<OutputBindingInitResponse> {
        assert!(request.metadata().contains_key("x-component-instance"));
        Ok(Response::new(OutputBindingInitResponse {}))
    }

    async fn invoke(&self, request: Request<InvokeRequest>) -> Answer<InvokeResponse> {
        let request = request.into_inner();
        match request.operation.as_str() {
            "echo" => Ok(Response::new(InvokeResponse {
                data: request.data,
                metadata: request.metadata,
                ..InvokeResponse::default()
            })),
            other => Err(Status::invalid_argument(format!("there is no {other}"))),
        }
    }

    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Answer<ListOperationsResponse> {
        let operations = vec!["echo".to_owned()];
        Ok(Response::new(ListOperationsResponse { operations }))
    }

    async fn ping(&self, _: Request<PingRequest>) -> Answer<PingResponse> {
        Ok(Response::new(PingResponse {}))
    }
}
