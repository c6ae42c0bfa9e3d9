//! One input that is read: takes what the component sends, hands it over as there is room, and answers with what the app said.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Error, Result,
    bindings::{Event, EventSender, Events, Settle, events},
};
use futures::FutureExt;
use proto::components::v1::{
    AckResponseError, ReadRequest, ReadResponse, input_binding_client::InputBindingClient,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    exchange::{Exchange, Settling},
    handle::Handle,
    socket::{Caller, MOST_MESSAGE},
};

/// Events under way: taken from the component and not answered.
const MOST_EVENTS: usize = 256;
/// Bytes of these events. An event that is larger goes alone.
const MOST_BYTES: u32 = 64 << 20;
/// Events that wait until the runtime takes them.
const MOST_WAITING: usize = 1;
/// How long a component that does not yet know that nobody reads it any more is answered.
const LINGER: Duration = Duration::from_millis(500);
/// What it is answered.
const CLOSED: &str = "input binding is closed";

/// Begins to read; the future takes events until it is over.
///
/// # Errors
/// The component's.
pub async fn open(
    handle: &Arc<Handle<InputBindingClient<Caller>>>,
    name: &str,
) -> Result<(Events, impl Future<Output = ()> + Send + 'static)> {
    let caller = handle.caller().await?;
    let exchange = Exchange::open(None, MOST_EVENTS, |requests| {
        async move {
            let client = InputBindingClient::new(caller);
            let mut client = client.max_decoding_message_size(MOST_MESSAGE);
            client.read(requests).await
        }
        .boxed()
    });
    let (sender, events) = events(MOST_WAITING);
    let reading = Reading {
        exchange: exchange.await?,
        sender,
        messages: Arc::new(Semaphore::new(MOST_EVENTS)),
        bytes: Arc::new(Semaphore::new(MOST_BYTES as usize)),
    };
    Ok((events, run(reading, Arc::clone(handle), name.to_owned())))
}

async fn run(mut reading: Reading, handle: Arc<Handle<InputBindingClient<Caller>>>, name: String) {
    let sender = reading.sender.clone();
    tokio::select! {
        biased;
        () = handle.closed() => {}
        () = sender.closed() => {}
        error = reading.take() => {
            let problem = component::error::chain(&error);
            tracing::warn!(target: "dapr.contrib", "pluggable input binding {name} has ended: {problem}");
            return;
        }
    }
    drop(sender);
    reading.end().await;
}

struct Reading {
    exchange: Exchange<ReadRequest, ReadResponse>,
    sender: EventSender,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

impl Reading {
    /// Until it fails.
    async fn take(&mut self) -> Error {
        let given_back = self.exchange.given_back();
        tokio::pin!(given_back);
        loop {
            let step = async {
                let received = self.exchange.next().await?;
                self.hand_over(received).await;
                Ok::<_, Error>(())
            };
            tokio::select! {
                error = &mut given_back => return error,
                outcome = step => if let Err(error) = outcome {
                    return error;
                },
            }
        }
    }

    async fn hand_over(&mut self, received: ReadResponse) {
        let room = self.room(&received);
        let Some(room) = room.await else {
            return;
        };
        let settle = Answer {
            settling: self.exchange.settling(),
            id: received.message_id,
            _room: room,
        };
        let mut event = Event::new(received.data, received.metadata, settle);
        event.content_type = Some(received.content_type).filter(|text| !text.is_empty());
        // That nobody takes it is noticed elsewhere.
        self.sender.send(event).await;
    }

    async fn room(&mut self, received: &ReadResponse) -> Option<[OwnedSemaphorePermit; 2]> {
        let metadata = received.metadata.iter();
        let metadata: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
        let size = u32::try_from(received.data.len() + metadata).unwrap_or(MOST_BYTES);
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(size.min(MOST_BYTES));
        Some([message, bytes.await.ok()?])
    }

    /// Waits for the answers to what was taken. What still comes is refused, as long as it is sure to be heard.
    ///
    /// Compat: Q-pluggable-input-closed
    async fn end(mut self) {
        drop(self.sender);
        let all = u32::try_from(MOST_EVENTS).unwrap_or(u32::MAX);
        let answered = Arc::clone(&self.messages).acquire_many_owned(all);
        let refusing = async {
            while let Ok(received) = self.exchange.next().await {
                self.exchange.say(ReadRequest {
                    response_data: Bytes::new(),
                    message_id: received.message_id,
                    response_error: Some(AckResponseError {
                        message: CLOSED.to_owned(),
                    }),
                });
            }
        };
        let lingering = async {
            let _answered = answered.await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            () = refusing => {}
            () = lingering => self.exchange.leave().await,
        }
    }
}

/// Answers one event.
struct Answer {
    settling: Settling<ReadRequest>,
    id: String,
    /// Its share of the limits.
    _room: [OwnedSemaphorePermit; 2],
}

#[async_trait]
impl Settle for Answer {
    async fn settle(self: Box<Self>, answer: Result<Bytes, String>) -> Result<()> {
        let (response_data, problem) = match answer {
            Ok(data) => (data, None),
            Err(problem) => (Bytes::new(), Some(problem)),
        };
        let request = ReadRequest {
            response_data,
            message_id: self.id,
            response_error: problem.map(|message| AckResponseError { message }),
        };
        self.settling.tell(request).await
    }

    /// Dropping it says so.
    fn release(self: Box<Self>) {}
}
