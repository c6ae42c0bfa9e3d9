//! Serves a router on a loopback port over HTTP/1.1 and HTTP/2, both without TLS: the apps of the suites.
//! It uses nothing of the product, so that a fault there cannot hide itself.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{ports, wait};

/// A running server; dropping it closes the port and every connection.
pub struct Served {
    port: u16,
    _stop: DropGuard,
}

impl Served {
    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Serves `router` on a port of its own.
pub async fn serve(router: Router) -> Served {
    serve_at(ports::reserve().release(), router).await
}

/// Listens on a port that was reserved and released. A program that another test starts at that moment has the reservation,
/// too, until it has begun: the port is free soon, not at once.
pub(crate) async fn listen(port: u16) -> TcpListener {
    wait::until("a port that was reserved", wait::DEADLINE, || async {
        TcpListener::bind(("127.0.0.1", port)).await.ok()
    })
    .await
}

/// Serves `router` on a given port of the loopback address.
pub async fn serve_at(port: u16, router: Router) -> Served {
    let listener = listen(port).await;
    let stop = CancellationToken::new();
    TaskTracker::new().spawn(accept(listener, router, stop.clone()));
    Served {
        port,
        _stop: stop.drop_guard(),
    }
}

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new(); // aborts them all when it goes
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        stream.set_nodelay(true).ok();
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            // A client that goes away is its own affair.
            server
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}
