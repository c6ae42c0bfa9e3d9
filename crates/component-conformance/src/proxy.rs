//! What stands between a program and a server in many clouds: a name that leads to another server one day, and a network that
//! breaks connections, resets them, closes them in one direction, slows them down, holds them up, loses them without a word, or
//! loses what a server answers once it has done what it was asked.

use std::{
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use crate::ports;

/// Bytes that are passed on at once.
const BUFFER: usize = 16 << 10;

/// Leads to a server; ends when it is dropped, with all of its connections.
pub struct Proxy {
    /// `127.0.0.1:port`.
    pub address: String,
    /// The port of that.
    pub port: u16,
    target: watch::Sender<String>,
    network: watch::Sender<Network>,
    traffic: Arc<Traffic>,
    _task: JoinSet<()>,
}

/// What becomes of connections.
#[derive(Clone, Copy, Default)]
struct Network {
    /// Nothing goes through for now.
    is_held: bool,
    /// Connections from before it grew are silent for ever.
    silences: u32,
    /// Connections from before it grew are broken.
    cuts: u32,
    /// Connections from before it grew are reset, with whatever is on its way in them.
    resets: u32,
    /// Connections from before it grew are closed, in each direction, and go on to be read.
    half_closes: u32,
    /// How long each piece of what comes waits.
    delay: Duration,
}

/// What goes through.
#[derive(Default)]
struct Traffic {
    attempts: AtomicU32,
    /// How often a client has begun to speak, at first or after the server has spoken.
    turns: AtomicU32,
    is_servers_turn: AtomicBool,
    losses: Mutex<Losses>,
}

/// Answers that are lost.
#[derive(Default)]
struct Losses {
    left: u32,
    /// To what they are answers.
    asked: Vec<u8>,
}

/// Who speaks.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

impl Traffic {
    fn spoken(&self, side: Side) {
        match side {
            Side::Server => self.is_servers_turn.store(false, Ordering::Relaxed),
            Side::Client if !self.is_servers_turn.swap(true, Ordering::Relaxed) => {
                self.turns.fetch_add(1, Ordering::Relaxed);
            }
            Side::Client => {}
        }
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what a client says is something whose answer is lost.
    fn is_unheard(&self, said: &[u8]) -> bool {
        let losses = self.losses();
        let asked = &losses.asked;
        losses.left > 0 && said.windows(asked.len().max(1)).any(|part| part == asked)
    }

    /// Whether an answer is lost, which is then counted.
    fn loses(&self) -> bool {
        let mut losses = self.losses();
        let loses = losses.left > 0;
        losses.left = losses.left.saturating_sub(1);
        loses
    }
}

impl Proxy {
    /// Leads to a server, `host:port`.
    ///
    /// # Panics
    /// Where the port cannot be listened on.
    pub async fn start(server: &str) -> Self {
        let reserved = ports::reserve();
        let port = reserved.port();
        let address = format!("127.0.0.1:{port}");
        let listener = TcpListener::from_std(reserved.listener()).expect("it listens");
        let target = watch::Sender::new(server.to_owned());
        let network = watch::Sender::default();
        let traffic = Arc::<Traffic>::default();
        let mut task = JoinSet::new();
        let (to, through) = (target.subscribe(), network.subscribe());
        task.spawn(accept(listener, to, through, Arc::clone(&traffic)));
        Self {
            address,
            port,
            target,
            network,
            traffic,
            _task: task,
        }
    }

    /// Leads to another server from now on; what is open stays as it is.
    pub fn lead_to(&self, server: &str) {
        self.target.send_replace(server.to_owned());
    }

    /// Connections that were asked for.
    pub fn attempts(&self) -> u32 {
        self.traffic.attempts.load(Ordering::Relaxed)
    }

    /// Round trips that clients have made, as long as there is one connection at a time.
    pub fn turns(&self) -> u32 {
        self.traffic.turns.load(Ordering::Relaxed)
    }

    /// Holds back all that comes, ends of connections and new ones included, or lets it go on.
    pub fn hold(&self, holds: bool) {
        self.network.send_modify(|network| network.is_held = holds);
    }

    /// What is open stays open, and carries nothing over any more.
    pub fn fall_silent(&self) {
        self.network.send_modify(|network| network.silences += 1);
    }

    /// Lets each piece of what comes wait for so long.
    pub fn delay(&self, delay: Duration) {
        self.network.send_modify(|network| network.delay = delay);
    }

    /// Resets what is open.
    pub fn reset(&self) {
        self.network.send_modify(|network| network.resets += 1);
    }

    /// Tells both ends of all that is open that nothing more comes from the other, and goes on to listen to them.
    pub fn half_close(&self) {
        self.network.send_modify(|network| network.half_closes += 1);
    }

    /// The server does the next so many requests that have these bytes in them, and its answers are lost, each with its connection.
    pub fn lose_answers(&self, count: u32, asked: &[u8]) {
        *self.traffic.losses() = Losses {
            left: count,
            asked: asked.to_vec(),
        };
    }

    /// Answers that are still to be lost.
    pub fn answers_to_lose(&self) -> u32 {
        self.traffic.losses().left
    }

    /// Breaks what is open.
    pub fn cut(&self) {
        self.network.send_modify(|network| network.cuts += 1);
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<String>,
    network: watch::Receiver<Network>,
    traffic: Arc<Traffic>,
) {
    let mut open = JoinSet::new(); // ends them all when it goes
    loop {
        let client = tokio::select! {
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                Err(_) => continue,
            },
        };
        traffic.attempts.fetch_add(1, Ordering::Relaxed);
        let (target, network) = (target.clone(), network.clone());
        let (begun, mut ended) = (*network.borrow(), network.clone());
        let traffic = Arc::clone(&traffic);
        open.spawn(async move {
            let carry = carry(client, target, network, begun, &traffic);
            tokio::select! {
                () = carry => {}
                _ = ended.wait_for(|now| now.cuts != begun.cuts) => {}
            }
        });
    }
}

async fn carry(
    client: TcpStream,
    target: watch::Receiver<String>,
    mut network: watch::Receiver<Network>,
    begun: Network,
    traffic: &Traffic,
) {
    passes(&mut network, begun).await;
    let server = target.borrow().clone();
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok();
    }
    let ((from, to), (other_from, other_to)) = (client.into_split(), server.into_split());
    let is_unheard = AtomicBool::new(false);
    let there = pipe(from, other_to, network.clone(), begun, |said| {
        traffic.spoken(Side::Client);
        is_unheard.fetch_or(traffic.is_unheard(said), Ordering::Relaxed);
        true
    });
    let back = pipe(other_from, to, network, begun, |_| {
        traffic.spoken(Side::Server);
        !(is_unheard.swap(false, Ordering::Relaxed) && traffic.loses())
    });
    tokio::join!(there, back);
}

async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    begun: Network,
    spoken: impl Fn(&[u8]) -> bool,
) {
    let (mut reset, mut closed) = (network.clone(), network.clone());
    let mut is_closed = false;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(length @ 1..) => length,
                _ => break,
            },
            () = until(&mut reset, |now| now.resets != begun.resets) => {
                // What is closed with this is reset.
                to.as_ref().set_zero_linger().ok();
                return;
            }
            () = until(&mut closed, |now| now.half_closes != begun.half_closes), if !is_closed => {
                is_closed = true;
                to.shutdown().await.ok();
                continue;
            }
        };
        passes(&mut network, begun).await;
        if !spoken(&buffer[..length]) {
            return;
        }
        let delay = network.borrow().delay;
        sleep(delay).await;
        if !is_closed && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    passes(&mut network, begun).await;
    to.shutdown().await.ok();
}

/// Until something has come; for ever where it cannot any more.
async fn until(network: &mut watch::Receiver<Network>, has_come: impl Fn(&Network) -> bool) {
    if network.wait_for(has_come).await.is_err() {
        pending::<()>().await;
    }
}

/// Until something goes through a connection that was begun then.
async fn passes(network: &mut watch::Receiver<Network>, begun: Network) {
    let decided = network.wait_for(|now| !now.is_held || now.silences != begun.silences);
    let is_silent = decided
        .await
        .map_or(true, |now| now.silences != begun.silences);
    if is_silent {
        pending::<()>().await;
    }
}
