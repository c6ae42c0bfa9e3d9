//! A connection that is kept up: made anew with growing pauses when it is lost, as soon as somebody needs it. A server that
//! knows two connections of one client throws the older one out; so the one of a component that was replaced yields to its
//! successor's. Each connection has a client of its own, so that nothing that was meant for one is sent on the next.

use std::{future::Future, sync::Arc, time::Duration};

use component::{ErrorKind, Result, Spawn};
use futures::FutureExt;
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Packet,
    TlsConfiguration, Transport,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use values::Pauses;

use crate::{
    failure::{Failure, is_unreadable},
    metadata::Settings,
    session::MOST_HELD,
};

/// Longest wait for the server: for a connection, an acknowledgement, a subscription.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Largest packet both ways. The library's own limit is 10 KiB.
pub const MOST_PACKET: usize = 64 << 20;

/// The server hears of us at least this often, and takes us for dead after one and a half times that.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Requests that wait to be written: each message that is held is acknowledged once, and there are subscriptions.
const MOST_REQUESTS: usize = 2 * MOST_HELD;

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

/// What hears of a connection. Nothing here may wait, apart from `room`.
pub trait Listener: Send + Sync + 'static {
    /// Until more may be read.
    fn room(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Whether a connection that was lost is made anew before somebody wants it.
    fn is_needed(&self) -> bool {
        false
    }

    /// A connection is there, and with it the session of the one before or not.
    fn connected(&self, _client: &AsyncClient, _session_present: bool) {}

    /// Something was read or written.
    fn event(&self, _event: Event) {}

    /// The connection is gone.
    fn lost(&self) {}

    /// There will be no other connection until somebody wants one.
    fn given_up(&self, _failure: &Failure) {}
}

/// For a connection that only publishes.
pub struct Nobody;

impl Listener for Nobody {}

/// A connection, as those who use it see it.
pub struct Link {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    surrender: watch::Receiver<Surrender>,
    closing: CancellationToken,
    ended: CancellationToken,
}

#[derive(Clone)]
enum State {
    /// Not tried yet.
    New,
    Up(AsyncClient),
    Down(Failure),
    /// Down, and not tried again before somebody wants it.
    GivenUp(Failure),
}

/// How often connecting was given up, and why the last time.
#[derive(Clone, Default)]
struct Surrender {
    times: u64,
    reason: Option<Failure>,
}

/// How a connection ended.
enum End {
    Lost(ConnectionError),
    Closed,
}

impl Link {
    /// Keeps a connection up from the first time that one is wanted.
    pub fn start(
        name: &str,
        options: Options,
        listener: Arc<impl Listener>,
        tasks: &Arc<dyn Spawn>,
    ) -> Self {
        let (state, receiver) = watch::channel(State::New);
        let (surrender, surrendered) = watch::channel(Surrender::default());
        let link = Self {
            state: receiver,
            wanted: Arc::default(),
            surrender: surrendered,
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let keeper = Keeper {
            name: name.to_owned(),
            options,
            listener,
            state,
            wanted: Arc::clone(&link.wanted),
            surrender,
            closing: link.closing.clone(),
        };
        let ended = link.ended.clone().drop_guard();
        tasks.spawn(
            name,
            Box::pin(async move {
                keeper.run().await;
                drop(ended);
            }),
        );
        link
    }

    /// The connection, as soon as there is one.
    ///
    /// # Errors
    /// The last failure, where it takes longer than [`PATIENCE`] or is given up.
    pub async fn client(&self) -> Result<AsyncClient> {
        let mut state = self.state.clone();
        self.want();
        let up = async {
            // What was given up before is begun anew.
            let begun = state.wait_for(|state| !matches!(state, State::GivenUp(_)));
            let _ = begun.await;
            let known = state.wait_for(|state| matches!(state, State::Up(_) | State::GivenUp(_)));
            known.await.ok().map(|state| state.clone())
        };
        if let Ok(Some(State::Up(client))) = timeout(PATIENCE, up).await {
            return Ok(client);
        }
        Err(self.failure().error())
    }

    /// Has a connection made if there is none.
    pub fn want(&self) {
        self.wanted.notify_one();
    }

    /// How often connecting was given up.
    pub fn surrenders(&self) -> u64 {
        self.surrender.borrow().times
    }

    /// Whether it was not given up any more often than that.
    ///
    /// # Errors
    /// Why it was.
    pub fn check_since(&self, surrenders: u64) -> Result<()> {
        let surrender = self.surrender.borrow();
        match &surrender.reason {
            Some(failure) if surrender.times != surrenders => Err(failure.error()),
            _ => Ok(()),
        }
    }

    /// The outcome of the first attempt.
    ///
    /// # Errors
    /// Where it failed.
    pub async fn first(&self) -> Result<()> {
        self.want();
        let mut state = self.state.clone();
        let tried = state.wait_for(|state| !matches!(state, State::New));
        // The attempt has a limit of its own.
        let _ = tried.await;
        self.check()
    }

    /// Whether the connection is there now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self) -> Result<()> {
        let is_up = matches!(*self.state.borrow(), State::Up(_));
        match is_up {
            true => Ok(()),
            false => Err(self.failure().error()),
        }
    }

    fn failure(&self) -> Failure {
        match &*self.state.borrow() {
            State::Down(failure) | State::GivenUp(failure) => failure.clone(),
            _ => Failure::new(ErrorKind::Unavailable, "mqtt: there is no connection"),
        }
    }

    /// Writes what was asked for, and leaves.
    pub async fn close(&self) {
        self.closing.cancel();
        self.ended.cancelled().await;
    }

    /// Whether it is about to leave.
    pub fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// What to connect with.
#[derive(Clone)]
pub struct Options {
    address: String,
    mqtt: MqttOptions,
}

impl Options {
    /// For a client of this id.
    pub fn new(settings: &Settings, client_id: &str, clean_session: bool) -> Self {
        let broker = (settings.host.clone(), settings.port);
        let mut mqtt = MqttOptions::new(client_id, broker);
        mqtt.set_keep_alive(u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX))
            .set_max_packet_size(MOST_PACKET, MOST_PACKET)
            .set_ack_mode(AckMode::Manual)
            .set_clean_session(clean_session);
        if let Some((user, password)) = &settings.login {
            match password.as_str() {
                "" => mqtt.set_username(user),
                password => mqtt.set_credentials(user, password.to_owned()),
            };
        }
        if let Some(tls) = &settings.tls {
            let tls = TlsConfiguration::Rustls(Arc::clone(tls));
            mqtt.set_transport(Transport::tls_with_config(tls));
        }
        Self {
            address: settings.address(),
            mqtt,
        }
    }

    fn connect(&self) -> (AsyncClient, EventLoop) {
        let (client, mut events) = AsyncClient::builder(self.mqtt.clone())
            .capacity(MOST_REQUESTS)
            .build();
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(PATIENCE.as_secs());
        events.set_network_options(network);
        (client, events)
    }
}

/// Owns the connection.
struct Keeper<L> {
    /// The component's.
    name: String,
    options: Options,
    listener: Arc<L>,
    state: watch::Sender<State>,
    wanted: Arc<Notify>,
    surrender: watch::Sender<Surrender>,
    closing: CancellationToken,
}

impl<L: Listener> Keeper<L> {
    async fn run(self) {
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
            if self
                .closing
                .run_until_cancelled(sleep(pause - jitter))
                .await
                .is_none()
            {
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
