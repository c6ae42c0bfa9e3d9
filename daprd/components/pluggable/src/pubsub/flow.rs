//! Pausing a broker as a whole, which is all that the protocol knows: once all subscriptions of a component are paused, it is
//! told, and told again once one of them goes on or all have ended.

use std::{sync::Arc, time::Duration};

use proto::components::v1::{self as pb, pub_sub_client::PubSubClient};
use tokio::{sync::Mutex, time::timeout};
use tonic::{Code, Status};

use crate::{handle::Handle, socket::Caller};

/// Longest that a component may take to pause: it is not asked for more than a favour.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The subscriptions of one component.
pub struct Flow {
    handle: Arc<Handle<PubSubClient<Caller>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: usize,
    paused: usize,
    /// The component was told to pause, and not to go on.
    told: bool,
}

impl Flow {
    pub fn new(handle: Arc<Handle<PubSubClient<Caller>>>) -> Self {
        Self {
            handle,
            state: Mutex::default(),
        }
    }

    async fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().await;
        change(&mut state);
        let pause = state.open > 0 && state.open == state.paused;
        if pause == state.told {
            return;
        }
        // A call that is given up may have been heard.
        state.told = true;
        let answer = timeout(ANSWER_LIMIT, self.call(pause)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        state.told = pause && answer.is_ok();
        match answer {
            Err(status) if status.code() != Code::Unimplemented => {
                let what = if pause { "pause" } else { "go on" };
                let problem = status.message();
                tracing::warn!(target: "dapr.contrib", "a pluggable broker does not {what}: {problem}");
            }
            _ => {}
        }
    }

    async fn call(&self, pause: bool) -> Result<(), Status> {
        let mut client = PubSubClient::new(self.handle.unchecked());
        match pause {
            true => client.pause(pb::PauseRequest {}).await.map(drop),
            false => client.resume(pb::ResumeRequest {}).await.map(drop),
        }
    }
}

/// One subscription among those of its component.
pub struct Place {
    flow: Arc<Flow>,
    paused: bool,
}

impl Place {
    pub async fn take(flow: Arc<Flow>) -> Self {
        flow.change(|state| state.open += 1).await;
        Self {
            flow,
            paused: false,
        }
    }

    pub async fn pause(&mut self, paused: bool) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        let change = |state: &mut State| match paused {
            true => state.paused += 1,
            false => state.paused -= 1,
        };
        self.flow.change(change).await;
    }

    pub async fn leave(self) {
        let paused = usize::from(self.paused);
        let change = |state: &mut State| {
            state.open -= 1;
            state.paused -= paused;
        };
        self.flow.change(change).await;
    }
}
