//! What stands between a sidecar and a server in many clouds: a name that leads to another server one day, and a network
//! that loses connections without a word.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use component_conformance::ports;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::io::InspectReader;

/// Ends with the test.
pub struct Proxy {
    /// `127.0.0.1:port`.
    pub address: String,
    target: watch::Sender<String>,
    silences: watch::Sender<u32>,
    traffic: Arc<Traffic>,
    _task: JoinSet<()>,
}

/// What goes through.
#[derive(Default)]
struct Traffic {
    attempts: AtomicU32,
    /// How often a client has begun to speak, at first or after the server has spoken.
    turns: AtomicU32,
    is_servers_turn: AtomicBool,
}

impl Traffic {
    fn client(&self, bytes: &[u8]) {
        if !bytes.is_empty() && !self.is_servers_turn.swap(true, Ordering::Relaxed) {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn server(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.is_servers_turn.store(false, Ordering::Relaxed);
        }
    }
}

impl Proxy {
    /// Leads to a server.
    pub async fn start(server: &str) -> Self {
        let address = format!("127.0.0.1:{}", ports::reserve().release());
        let listener = TcpListener::bind(&address).await.expect("a listener");
        let target = watch::Sender::new(server.to_owned());
        let silences = watch::Sender::new(0);
        let traffic = Arc::<Traffic>::default();
        let mut task = JoinSet::new();
        let (to, silenced) = (target.subscribe(), silences.subscribe());
        task.spawn(accept(listener, to, silenced, Arc::clone(&traffic)));
        Self {
            address,
            target,
            silences,
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

    /// What is open stays open, and carries nothing over any more.
    pub fn fall_silent(&self) {
        self.silences.send_modify(|count| *count += 1);
    }
}

async fn accept(
    listener: TcpListener,
    target: watch::Receiver<String>,
    silences: watch::Receiver<u32>,
    traffic: Arc<Traffic>,
) {
    let mut open = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        traffic.attempts.fetch_add(1, Ordering::Relaxed);
        let traffic = Arc::clone(&traffic);
        let server = target.borrow().clone();
        let mut silences = silences.clone();
        silences.mark_unchanged();
        open.spawn(async move {
            let server = TcpStream::connect(server).await?;
            let mut client = InspectReader::new(client, |bytes: &[u8]| traffic.client(bytes));
            let mut server = InspectReader::new(server, |bytes: &[u8]| traffic.server(bytes));
            tokio::select! {
                end = tokio::io::copy_bidirectional(&mut client, &mut server) => end,
                // Both ends are still held here.
                _ = silences.changed() => std::future::pending().await,
            }
        });
    }
}
