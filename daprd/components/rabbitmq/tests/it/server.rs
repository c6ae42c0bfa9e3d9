//! A RabbitMQ server for all tests of this binary, for it takes seconds to start; also with TLS, and a limit of deliveries.

use std::{path::Path, time::Duration};

use component_conformance::{ports, servers::RabbitMq};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::authority::Authority;

/// Longest wait for a condition.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server.
pub struct Server {
    program: RabbitMq,
    /// Where it listens with TLS.
    pub tls_port: u16,
    /// Who its certificate comes from.
    pub authority: Authority,
    /// Tests that restart it are alone.
    turns: RwLock<()>,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// The server, for as long as nobody restarts it.
pub async fn server() -> (&'static Server, RwLockReadGuard<'static, ()>) {
    let server = SERVER.get_or_init(Server::start).await;
    (server, server.turns.read().await)
}

/// The server, for a test that restarts it.
pub async fn server_alone() -> (&'static Server, RwLockWriteGuard<'static, ()>) {
    let server = SERVER.get_or_init(Server::start).await;
    (server, server.turns.write().await)
}

impl std::ops::Deref for Server {
    type Target = RabbitMq;

    fn deref(&self) -> &RabbitMq {
        &self.program
    }
}

impl Server {
    async fn start() -> Self {
        let tls_port = ports::reserve().release();
        let mut authority = None;
        let program = RabbitMq::start(|folder| {
            authority = Some(Authority::new(folder));
            tls(folder, tls_port) + &limits(folder)
        });
        Self {
            program: program.await,
            tls_port,
            authority: authority.expect("the server has its configuration"),
            turns: RwLock::new(()),
        }
    }

    /// A channel beside the component, with the connection it needs.
    pub async fn channel(&self) -> (Connection, Channel) {
        let url = format!("amqp://127.0.0.1:{}/%2f", self.port);
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = connection.await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }
}

/// How often a message may come back to a quorum queue whose name begins so, as newer servers have it of all.
pub const LIMITED: &str = "limited";
pub const LIMIT: u32 = 3;

fn limits(folder: &Path) -> String {
    let definitions = serde_json::json!({
        "vhosts": [{"name": "/"}],
        "users": [{"name": "guest", "password": "guest", "tags": "administrator"}],
        "permissions": [
            {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        ],
        "policies": [{
            "vhost": "/",
            "name": "limit",
            "pattern": format!("^conformance-{LIMITED}"),
            "apply-to": "queues",
            "definition": {"delivery-limit": LIMIT}
        }]
    });
    let file = folder.join("definitions.json");
    std::fs::write(&file, definitions.to_string()).expect("a file");
    format!("load_definitions = {}\n", file.display())
}

fn tls(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "listeners.ssl.1 = 127.0.0.1:{port}\n\
         ssl_options.cacertfile = {folder}/ca.pem\n\
         ssl_options.certfile = {folder}/server.pem\n\
         ssl_options.keyfile = {folder}/server.key\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = false\n\
         ssl_cert_login_from = common_name\n\
         auth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = EXTERNAL\n"
    )
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
