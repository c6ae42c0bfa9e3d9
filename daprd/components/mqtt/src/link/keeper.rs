//! The task behind a link: connects, serves the connection to its end, and waits before the next.

use std::{sync::Arc, time::Duration};

use component::ErrorKind;
use futures::FutureExt;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Packet};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use values::Pauses;

use super::{Listener, Options, State, Surrender};
use crate::failure::{Failure, is_unreadable};

/// Pauses before further connections, doubled each time, and how long one has to last to begin with the first again: two
/// clients with the same id throw each other out for as long as they come back.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
const STEADY: Duration = Duration::from_secs(10);

/// What is added where a connection was short.
const RIVAL: &str = "; if this goes on, another client may be using the same id: replicas need a consumerID each, such as {uuid} or {podName}";

/// How long what was asked for may take to be written when the component closes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connections in a row that may end with a packet that cannot be read: the server sends it again each time.
const MOST_UNREADABLE: u32 = 2;

/// Owns the connection.
pub struct Keeper<L> {
    /// The component's.
    pub name: String,
    pub options: Options,
    pub listener: Arc<L>,
    pub state: watch::Sender<State>,
    /// Somebody needs a connection.
    pub wanted: Arc<Notify>,
    /// The next attempt is made at once.
    pub hurried: Arc<Notify>,
    pub surrender: watch::Sender<Surrender>,
    pub closing: CancellationToken,
}

/// How a connection ended.
enum End {
    Lost(ConnectionError),
    Closed,
}

impl<L: Listener> Keeper<L> {
    /// Until it is closed.
    pub async fn run(self) {
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        let mut unreadable = 0;
        if !self.is_wanted().await {
            return;
        }
        loop {
            let since = Instant::now();
            let (client, mut events) = self.options.connect();
            let end = self.serve(&client, &mut events).await;
            self.listener.lost();
            let End::Lost(error) = end else {
                return self.leave();
            };
            let failure = Failure::of_connection(&self.options.address, &error);
            let was_up = matches!(*self.state.borrow(), State::Up(_));
            let is_short = was_up && since.elapsed() < STEADY;
            tracing::warn!(
                target: "dapr.contrib",
                "{}: {} (client {}){}",
                self.name,
                failure.text(),
                self.options.mqtt.client_id(),
                if is_short { RIVAL } else { "" }
            );
            // Who wanted this one has had it. Who finds from now on that it is gone wants the next.
            let _ = self.wanted.notified().now_or_never();
            // Before the event loop is dropped, whereupon those who wait for an acknowledgement ask for the next client.
            self.state.send_replace(State::Down(failure.clone()));
            drop(events);
            if since.elapsed() > STEADY {
                pauses.reset();
                unreadable = 0;
            }
            unreadable += u32::from(is_unreadable(&error));
            if unreadable >= MOST_UNREADABLE {
                // What was wanted until now has failed.
                let _ = self.wanted.notified().now_or_never();
                self.surrender.send_modify(|surrender| {
                    surrender.times += 1;
                    surrender.reason = Some(failure.clone());
                });
                self.state.send_replace(State::GivenUp(failure.clone()));
                self.listener.given_up(&failure);
                unreadable = 0;
                if !self.is_wanted().await {
                    return self.leave();
                }
                self.state.send_replace(State::New);
            } else if was_up && !self.listener.is_needed() && !self.is_wanted().await {
                return self.leave();
            }
            // Clients that one server has lost together do not come back together.
            let pause = pauses.pause();
            let jitter = pause.mul_f64(fastrand::f64() / 2.0);
            let paused = timeout(pause - jitter, self.hurried.notified());
            if self.closing.run_until_cancelled(paused).await.is_none() {
                return self.leave();
            }
        }
    }

    fn leave(&self) {
        let failure = Failure::new(ErrorKind::Unavailable, "mqtt: the component is closed");
        self.state.send_replace(State::Down(failure));
    }

    async fn is_wanted(&self) -> bool {
        let wanted = self.wanted.notified();
        self.closing.run_until_cancelled(wanted).await.is_some()
    }

    /// One connection to its end.
    async fn serve(&self, client: &AsyncClient, events: &mut EventLoop) -> End {
        let conversation = async {
            loop {
                self.closing.run_until_cancelled(self.listener.room()).await;
                // Never dropped halfway: it would forget what it was about to write.
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                        self.listener.connected(client, answer.session_present);
                        self.state.send_replace(State::Up(client.clone()));
                    }
                    Ok(event) => self.listener.event(event),
                    Err(error) => return error,
                }
            }
        };
        let farewell = async {
            self.closing.cancelled().await;
            let _ = client.try_disconnect_with_timeout(FAREWELL);
            sleep(FAREWELL).await;
        };
        tokio::select! {
            error = conversation => match self.closing.is_cancelled() {
                true => End::Closed,
                false => End::Lost(error),
            },
            () = farewell => End::Closed,
        }
    }
}
