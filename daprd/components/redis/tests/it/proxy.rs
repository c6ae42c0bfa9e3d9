//! What stands between a sidecar and a server in many clouds: a name that leads to another server one day, and a network
//! that loses connections without a word.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use component_conformance::ports;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Ends with the test.
pub struct Proxy {
    /// `127.0.0.1:port`.
    pub address: String,
    target: watch::Sender<String>,
    silences: watch::Sender<u32>,
    attempts: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Leads to a server.
    pub async fn start(server: &str) -> Self {
        let address = format!("127.0.0.1:{}", ports::reserve().release());
        let listener = TcpListener::bind(&address).await.expect("a listener");
        let target = watch::Sender::new(server.to_owned());
        let silences = watch::Sender::new(0);
        let attempts = Arc::new(AtomicU32::new(0));
        let mut task = JoinSet::new();
        let (to, silenced) = (target.subscribe(), silences.subscribe());
        task.spawn(accept(listener, to, silenced, Arc::clone(&attempts)));
        Self {
            address,
            target,
            silences,
            attempts,
            _task: task,
        }
    }

    /// Leads to another server from now on; what is open stays as it is.
    pub fn lead_to(&self, server: &str) {
        self.target.send_replace(server.to_owned());
    }

    /// Connections that were asked for.
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
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
    attempts: Arc<AtomicU32>,
) {
    let mut open = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        attempts.fetch_add(1, Ordering::Relaxed);
        let server = target.borrow().clone();
        let mut silences = silences.clone();
        silences.mark_unchanged();
        open.spawn(async move {
            let mut client = client;
            let mut server = TcpStream::connect(server).await?;
            tokio::select! {
                end = tokio::io::copy_bidirectional(&mut client, &mut server) => end,
                // Both ends are still held here.
                _ = silences.changed() => std::future::pending().await,
            }
        });
    }
}
