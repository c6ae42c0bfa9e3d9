//! Requests on a connection that carries the answers of all: who waits for which.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Json,
    rpc::{self, Message},
};
use crate::Error;

/// Those who wait. Clones share them.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    waiting: HashMap<u64, oneshot::Sender<Result<Json, Error>>>,
    /// Why there are no answers any more.
    closed: Option<String>,
}

/// Somebody who waits; dropped, he does not any more.
pub struct Ticket {
    all: Waiting,
    id: u64,
    answer: oneshot::Receiver<Result<Json, Error>>,
}

impl Waiting {
    /// To be called before the request is sent.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn enter(&self, id: u64) -> Result<Ticket, Error> {
        let (sender, answer) = oneshot::channel();
        let mut table = self.0.lock();
        if let Some(reason) = &table.closed {
            return Err(Error::closed(reason.clone()));
        }
        if table.waiting.len() >= MOST_WAITING {
            return Err(Error::unusable(format!(
                "{MOST_WAITING} requests are under way"
            )));
        }
        table.waiting.insert(id, sender);
        drop(table);
        let all = self.clone();
        Ok(Ticket { all, id, answer })
    }

    /// Takes what the server has sent: what it is to be answered.
    pub fn take(&self, bytes: &[u8]) -> Vec<Bytes> {
        let messages = rpc::read(bytes).unwrap_or_else(|error| {
            tracing::debug!("an MCP server sent {error}");
            Vec::new()
        });
        let mut answers = Vec::new();
        for message in messages {
            match message {
                Message::Answer(id, outcome) => {
                    if let Some(waiter) = self.0.lock().waiting.remove(&id) {
                        // Whoever has waited may be gone.
                        let _ = waiter.send(outcome);
                    }
                }
                Message::Question(answer) => answers.push(answer),
                Message::Other => {}
            }
        }
        answers
    }

    /// There are no answers any more.
    pub fn close(&self, reason: &str) {
        let mut table = self.0.lock();
        table.closed.get_or_insert_with(|| reason.to_owned());
        for (_, waiter) in table.waiting.drain() {
            let _ = waiter.send(Err(Error::broken_off(reason)));
        }
    }
}

impl Ticket {
    pub async fn answer(mut self) -> Result<Json, Error> {
        let answer = (&mut self.answer).await;
        answer.unwrap_or_else(|_| Err(Error::broken_off("nobody answers any more")))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.all.0.lock().waiting.remove(&self.id);
    }
}

/// Most requests at a time.
const MOST_WAITING: usize = 10_000;
