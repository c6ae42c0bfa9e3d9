//! A connection of any kind, and the one that all requests share: made when it is first needed, and made anew after it broke.

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{self, BoxFuture},
};
use parking_lot::Mutex;
use redis::{
    Cmd, Pipeline, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
};

use crate::servers::Servers;

/// Attempts to reach a server that refuses connections, and the pause between them: somebody may be starting it.
const DIALS: u32 = 5;
const DIAL_PAUSE: Duration = Duration::from_millis(100);

/// To one server, or to all of a cluster.
#[derive(Clone)]
pub enum Connection {
    /// Ends with the server.
    Single(MultiplexedConnection),
    /// Finds the server of each key, and mends itself.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Everybody who waits for the same attempt gets its outcome.
type Attempt = future::Shared<BoxFuture<'static, RedisResult<Connection>>>;

/// The connection that all requests share, made anew when it is lost, or when another server is in charge.
pub struct Shared {
    servers: Arc<Servers>,
    current: Mutex<Current>,
}

struct Current {
    /// Counted, so that nobody who was late to notice a failure breaks the next one.
    number: u64,
    /// See [`Servers::changes`], when it was made.
    changes: u64,
    attempt: Attempt,
}

impl Shared {
    pub fn new(servers: Arc<Servers>) -> Self {
        let current = Current {
            number: 0,
            changes: servers.changes(),
            attempt: attempt(Arc::clone(&servers)),
        };
        Self {
            servers,
            current: Mutex::new(current),
        }
    }

    /// The connection and its number.
    pub async fn connection(&self) -> RedisResult<(u64, Connection)> {
        let (number, attempt) = {
            let mut current = self.current.lock();
            if current.changes != self.servers.changes() {
                self.renew(&mut current);
            }
            (current.number, current.attempt.clone())
        };
        let outcome = attempt.await;
        if outcome.is_err() {
            self.forget(number);
        }
        outcome.map(|connection| (number, connection))
    }

    /// The next request gets another connection than this one.
    pub fn forget(&self, number: u64) {
        let mut current = self.current.lock();
        if current.number == number {
            self.renew(&mut current);
        }
    }

    fn renew(&self, current: &mut Current) {
        *current = Current {
            number: current.number + 1,
            changes: self.servers.changes(),
            attempt: attempt(Arc::clone(&self.servers)),
        };
    }
}

fn attempt(servers: Arc<Servers>) -> Attempt {
    let dial = async move {
        let patience = servers.settings().read_timeout;
        for _ in 1..DIALS {
            match servers.connect(patience).await {
                Err(error) if error.is_connection_dropped() => {}
                outcome => return outcome,
            }
            tokio::time::sleep(DIAL_PAUSE).await;
        }
        servers.connect(patience).await
    };
    dial.boxed().shared()
}
