//! Replicas: how many a server has, and writes that wait for them.

use std::{pin::Pin, time::Duration};

use component::Result;
use tokio::{sync::Mutex, time::Instant};

use crate::client::{Client, failure};

/// How long a number of replicas is believed.
const COUNT_AGAIN: Duration = Duration::from_secs(5);

/// Longest wait for replicas, in milliseconds.
const REPLICA_WAIT: u32 = 1000;

/// Writes that replicas have on return. They have a connection of their own, and where there are replicas it has one of
/// them at a time: a server answers nothing else on a connection that waits.
pub struct Replicated {
    client: Client,
    replicas: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    replicas: u32,
    at: Option<Instant>,
}

impl Replicated {
    /// Over a client that nobody else uses.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            replicas: Mutex::default(),
        }
    }

    /// Writes, and waits for the replicas that there are now, or until [`REPLICA_WAIT`]; what they have by then is not told.
    ///
    /// # Errors
    /// That of the write; of the wait, where the connection failed.
    pub async fn write<T>(&self, write: Pin<&mut impl Future<Output = T>>) -> Result<T> {
        let mut count = self.replicas.lock().await;
        if count.at.is_none_or(|at| at.elapsed() >= COUNT_AGAIN) {
            count.replicas = replicas(&self.client).await;
            count.at = Some(Instant::now());
        }
        if count.replicas == 0 {
            drop(count);
            return Ok(write.await);
        }
        let written = write.await;
        let mut wait = redis::cmd("WAIT");
        wait.arg(count.replicas).arg(REPLICA_WAIT);
        let waited: redis::RedisResult<u32> = self.client.query(&wait).await;
        let reached = waited.map_err(|error| failure("failed to wait for the replicas", error))?;
        if reached < count.replicas {
            // One of them may be gone for good: the next write does not wait for it.
            count.at = None;
        }
        Ok(written)
    }
}

/// None in a cluster, where the answer is a map of servers, and none where the server does not say.
pub async fn replicas(client: &Client) -> u32 {
    let info: redis::RedisResult<String> =
        client.query(redis::cmd("INFO").arg("replication")).await;
    info.ok().as_deref().map_or(0, connected)
}

fn connected(info: &str) -> u32 {
    info.lines()
        .find_map(|line| line.trim().strip_prefix("connected_slaves:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::connected;

    #[test]
    fn replicas_are_counted() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=::1\r\n";
        assert_eq!(connected(info), 2);
        assert_eq!(connected("role:slave\r\n"), 0);
    }
}
