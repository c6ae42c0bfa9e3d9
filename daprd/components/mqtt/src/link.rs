//! A connection that is kept up: made anew with growing pauses when it is lost, as soon as somebody needs it. A server that
//! knows two connections of one client throws the older one out; so the one of a component that was replaced yields to its
//! successor's. Each connection has a client of its own, so that nothing that was meant for one is sent on the next.

mod keeper;

use std::{future::Future, sync::Arc, time::Duration};

use component::{ErrorKind, Result, Spawn};
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, TlsConfiguration,
    Transport,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, metadata::Settings, session::MOST_HELD};
use keeper::Keeper;

/// Longest wait for the server: for a connection, an acknowledgement, a subscription.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Largest packet both ways. The library's own limit is 10 KiB.
pub const MOST_PACKET: usize = 64 << 20;

/// The server hears of us at least this often, and takes us for dead after one and a half times that.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Requests that wait to be written: each message that is held is acknowledged once, and there are subscriptions.
const MOST_REQUESTS: usize = 2 * MOST_HELD;

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

/// A connection, as those who use it see it.
pub struct Link {
    state: watch::Receiver<State>,
    wanted: Arc<Notify>,
    hurried: Arc<Notify>,
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
            hurried: Arc::default(),
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
            hurried: Arc::clone(&link.hurried),
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

    /// Has the pause before the next attempt ended: the server is there again.
    pub fn hurry(&self) {
        self.hurried.notify_one();
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

    /// Ends with the link.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
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
