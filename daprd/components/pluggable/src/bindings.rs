//! Bindings in a process of their own. The two directions are two services, which one process may serve both.

mod reading;

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Component, InputBinding, Open, OutputBinding, Result, Spawn,
    bindings::{Events, InvokeRequest, InvokeResponse},
};
use futures::{FutureExt, future::BoxFuture};
use proto::components::v1::{
    self as pb, input_binding_client::InputBindingClient,
    output_binding_client::OutputBindingClient,
};
use tonic::Status;

use crate::{
    failure,
    line::Line,
    socket::{Caller, MOST_MESSAGE, Socket},
};

/// An output binding behind one component resource.
pub struct Output {
    line: Line,
    operations: Vec<String>,
}

fn init_output(
    caller: Caller,
    metadata: pb::MetadataRequest,
) -> BoxFuture<'static, Result<(), Status>> {
    let metadata = Some(metadata);
    async move {
        let request = pb::OutputBindingInitRequest { metadata };
        OutputBindingClient::new(caller)
            .init(request)
            .await
            .map(drop)
    }
    .boxed()
}

impl Output {
    /// Hands the metadata over and asks which operations there are.
    ///
    /// # Errors
    /// The binding's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        let mut output = Self {
            line: Line::open(socket, &open, init_output).await?,
            operations: Vec::new(),
        };
        let mut client = output.client().await?;
        let answer = client.list_operations(pb::ListOperationsRequest {}).await;
        output.operations = answer.map_err(failure::plain)?.into_inner().operations;
        Ok(output)
    }

    async fn client(&self) -> Result<OutputBindingClient<Caller>> {
        let client = OutputBindingClient::new(self.line.caller().await?);
        Ok(client.max_decoding_message_size(MOST_MESSAGE))
    }
}

#[async_trait]
impl Component for Output {
    async fn ping(&self) -> Result<()> {
        let answer = self.client().await?.ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(failure::plain)
    }

    async fn close(&self) {
        self.line.close().await;
    }
}

#[async_trait]
impl OutputBinding for Output {
    fn operations(&self) -> Vec<String> {
        self.operations.clone()
    }

    async fn invoke(&self, request: &InvokeRequest) -> Result<InvokeResponse> {
        let request = pb::InvokeRequest {
            data: request.data.clone(),
            metadata: request.metadata.clone(),
            operation: request.operation.clone(),
        };
        let answer = self.client().await?.invoke(request).await;
        let answer = answer.map_err(failure::plain)?.into_inner();
        Ok(InvokeResponse {
            data: Some(answer.data).filter(|data| !data.is_empty()),
            metadata: answer.metadata,
        })
    }
}

/// An input binding behind one component resource.
pub struct Input {
    line: Arc<Line>,
    name: String,
    tasks: Arc<dyn Spawn>,
}

fn init_input(
    caller: Caller,
    metadata: pb::MetadataRequest,
) -> BoxFuture<'static, Result<(), Status>> {
    let metadata = Some(metadata);
    async move {
        let request = pb::InputBindingInitRequest { metadata };
        InputBindingClient::new(caller)
            .init(request)
            .await
            .map(drop)
    }
    .boxed()
}

impl Input {
    /// Hands the metadata over.
    ///
    /// # Errors
    /// The binding's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        Ok(Self {
            line: Arc::new(Line::open(socket, &open, init_input).await?),
            name: open.name,
            tasks: open.tasks,
        })
    }
}

#[async_trait]
impl Component for Input {
    async fn ping(&self) -> Result<()> {
        let mut client = InputBindingClient::new(self.line.caller().await?);
        let answer = client.ping(pb::PingRequest {}).await;
        answer.map(drop).map_err(failure::plain)
    }

    async fn close(&self) {
        self.line.close().await;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.line.end();
    }
}

#[async_trait]
impl InputBinding for Input {
    async fn read(&self) -> Result<Events> {
        let (events, run) = reading::open(&self.line, &self.name).await?;
        let run = self.line.hold(run);
        self.tasks.spawn(&self.name, Box::pin(run));
        Ok(events)
    }
}
