//! Bindings in a process of their own. The two directions are two services, which one process may serve both.

mod reading;

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Component, InputBinding, Open, OutputBinding, Result, Spawn,
    bindings::{Events, InvokeRequest, InvokeResponse},
};
use proto::components::v1::{
    self as pb, input_binding_client::InputBindingClient,
    output_binding_client::OutputBindingClient,
};

use crate::{
    failure,
    handle::Handle,
    socket::{Caller, Socket},
};

/// An output binding behind one component resource.
pub struct Output {
    handle: Handle<OutputBindingClient<Caller>>,
    operations: Vec<String>,
}

impl Output {
    /// Hands the metadata over and asks which operations there are.
    ///
    /// # Errors
    /// The binding's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        let handle: Handle<OutputBindingClient<Caller>> = Handle::open(socket, &open).await?;
        let mut client = handle.client().await?;
        let answer = client.list_operations(pb::ListOperationsRequest {}).await;
        Ok(Self {
            operations: answer.map_err(failure::plain)?.into_inner().operations,
            handle,
        })
    }
}

#[async_trait]
impl Component for Output {
    async fn ping(&self) -> Result<()> {
        self.handle.ping().await
    }

    async fn close(&self) {
        self.handle.close().await;
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
        let answer = self.handle.client().await?.invoke(request).await;
        let answer = answer.map_err(failure::plain)?.into_inner();
        Ok(InvokeResponse {
            data: Some(answer.data).filter(|data| !data.is_empty()),
            metadata: answer.metadata,
        })
    }
}

/// An input binding behind one component resource.
pub struct Input {
    handle: Arc<Handle<InputBindingClient<Caller>>>,
    name: String,
    tasks: Arc<dyn Spawn>,
}

impl Input {
    /// Hands the metadata over.
    ///
    /// # Errors
    /// The binding's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        Ok(Self {
            handle: Arc::new(Handle::open(socket, &open).await?),
            name: open.name,
            tasks: open.tasks,
        })
    }
}

#[async_trait]
impl Component for Input {
    async fn ping(&self) -> Result<()> {
        self.handle.ping().await
    }

    async fn close(&self) {
        self.handle.close().await;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.handle.end();
    }
}

#[async_trait]
impl InputBinding for Input {
    async fn read(&self) -> Result<Events> {
        let (events, run) = reading::open(&self.handle, &self.name).await?;
        let run = self.handle.hold(run);
        self.tasks.spawn(&self.name, Box::pin(run));
        Ok(events)
    }
}
