//! A process of a pluggable component, as far as the other side of its socket can tell: it serves, is killed and comes back.

use std::{
    net::Shutdown,
    os::unix::net::UnixStream as StdStream,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use component::Catalog;
use futures::StreamExt;
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Response, Status, service::Routes};

pub type Answer<T> = Result<Response<T>, Status>;

/// The name of the socket, and so of the types behind it.
pub const NAME: &str = "memory";

/// A running server, and what it shares with the test. Dropping it ends it.
pub struct Served<S> {
    pub folder: TempDir,
    pub shared: Arc<S>,
    routes: Routes,
    connections: Arc<Mutex<Vec<StdStream>>>,
    running: JoinHandle<()>,
}

impl<S> Served<S> {
    /// Serves on the socket `memory.sock`; reflection names the services.
    pub fn start(shared: Arc<S>, routes: Routes, services: &[&str]) -> Self {
        let mut reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET);
        for service in services {
            reflection =
                reflection.with_service_name(format!("dapr.proto.components.v1.{service}"));
        }
        let routes = routes.add_service(reflection.build_v1alpha().expect("descriptors"));
        let folder = tempfile::tempdir().expect("a folder");
        let connections = Arc::default();
        let path = folder.path().join(NAME).with_extension("sock");
        let running = run(path, routes.clone(), Arc::clone(&connections));
        Self {
            folder,
            shared,
            routes,
            connections,
            running,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join(NAME).with_extension("sock")
    }

    /// As if the process were killed: every connection breaks, and nobody listens.
    pub fn kill(&mut self) {
        self.running.abort();
        let _ = std::fs::remove_file(self.path());
        let mut connections = self.connections.lock().expect("no test panics in between");
        for connection in connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// As if another process took the place of one that was killed.
    pub fn come_back(&mut self) {
        let connections = Arc::clone(&self.connections);
        self.running = run(self.path(), self.routes.clone(), connections);
    }

    /// The types that are found behind the socket.
    pub async fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        component_pluggable::discover(self.folder.path(), &mut catalog).await;
        catalog
    }
}

impl<S> Drop for Served<S> {
    fn drop(&mut self) {
        self.kill();
    }
}

#[allow(clippy::disallowed_methods, reason = "the handle owns the task")]
fn run(path: PathBuf, routes: Routes, connections: Arc<Mutex<Vec<StdStream>>>) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    let incoming = UnixListenerStream::new(listener).map(move |stream| {
        let stream = stream?.into_std()?;
        let mut connections = connections.lock().expect("no test panics in between");
        connections.push(stream.try_clone()?);
        UnixStream::from_std(stream)
    });
    let serving = tonic::transport::Server::builder()
        .add_routes(routes)
        .serve_with_incoming(incoming);
    tokio::spawn(async move { serving.await.expect("it serves") })
}
