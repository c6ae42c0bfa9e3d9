//! A TCP proxy that can turn into a black hole: connections stay open, and nothing goes through them any more.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::ports;
use crate::serve::listen;

/// A running proxy; dropping it closes its connections.
pub struct Proxy {
    port: u16,
    holds: Arc<watch::Sender<bool>>,
    _stop: DropGuard,
}

impl Proxy {
    /// Passes connections on to a port of this machine.
    pub async fn start(target: u16) -> Self {
        let port = ports::reserve().release();
        let listener = listen(port).await;
        let (holds, held) = watch::channel(false);
        let stop = CancellationToken::new();
        let accepting = accept(listener, target, held);
        TaskTracker::new().spawn(stop.clone().run_until_cancelled_owned(accepting));
        Self {
            port,
            holds: Arc::new(holds),
            _stop: stop.drop_guard(),
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Holds back all that comes, or lets it go on.
    pub fn hold(&self, holds: bool) {
        self.holds.send_replace(holds);
    }
}

async fn accept(listener: TcpListener, target: u16, held: watch::Receiver<bool>) {
    let mut pipes = JoinSet::new(); // aborts them all when it goes
    loop {
        let stream = tokio::select! {
            Some(_) = pipes.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        let mut held = held.clone();
        pipes.spawn(async move {
            let open = held.wait_for(|holds| !holds).await.is_ok();
            let Ok(other) = TcpStream::connect(("127.0.0.1", target)).await else {
                return;
            };
            for stream in [&stream, &other] {
                stream.set_nodelay(true).ok();
            }
            let ((from, to), (other_from, other_to)) = (stream.into_split(), other.into_split());
            let (there, back) = (
                pipe(from, other_to, held.clone()),
                pipe(other_from, to, held),
            );
            if open {
                tokio::select! {
                    () = there => {}
                    () = back => {}
                }
            }
        });
    }
}

async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if held.wait_for(|holds| !holds).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // An end, too, is held back.
    held.wait_for(|holds| !holds).await.ok();
}
