//! Sentinels: which of the servers they watch is in charge, and when that changes.
//!
//! They are asked by one command that every user of a sentinel may run, and the answer is checked where the server lets the
//! user see its role. What the client library has for this needs more permissions, and waits as long as it likes. A change
//! has to be heard of, for a server that another one has relieved goes on taking writes for a while, and loses them.

use std::{convert::Infallible, time::Duration};

use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use parking_lot::Mutex;
use redis::{
    ErrorKind, RedisError, RedisResult, ServerErrorKind, Value, aio::MultiplexedConnection,
};

use crate::{
    metadata::{Address, Settings},
    servers,
};

/// Where a sentinel tells what has changed: the name, the old address and the new one, in words.
const CHANGES: &str = "+switch-master";

/// A sentinel that has told nothing for so long is asked, for the connection may be dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Pause before a sentinel that is not there is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// What the sentinels have said.
#[derive(Default)]
pub struct Sentinels {
    /// The server in charge: what the first connection was made to, and then what any of them tells.
    named: Mutex<Option<Address>>,
}

impl Sentinels {
    /// A connection to the server in charge.
    pub async fn master(
        &self,
        settings: &Settings,
        patience: Option<Duration>,
    ) -> RedisResult<MultiplexedConnection> {
        let (_, connection) = self.find(settings, patience).await?;
        Ok(connection)
    }

    /// The server in charge.
    pub async fn in_charge(&self, settings: &Settings) -> RedisResult<Address> {
        let (address, _) = self.find(settings, settings.read_timeout).await?;
        Ok(address)
    }

    /// The server in charge, found through whichever sentinel is the first to name it.
    async fn find(
        &self,
        settings: &Settings,
        patience: Option<Duration>,
    ) -> RedisResult<(Address, MultiplexedConnection)> {
        let mut ways: FuturesUnordered<_> = settings
            .addresses
            .iter()
            .map(|sentinel| through(sentinel, settings, patience))
            .collect();
        let mut failure = None;
        while let Some(outcome) = ways.next().await {
            match outcome {
                Ok((address, connection)) => {
                    self.named.lock().get_or_insert_with(|| address.clone());
                    return Ok((address, connection));
                }
                // That one sentinel is not there says less than what another one answers.
                Err(error) => {
                    let better = |known: &RedisError| known.is_io_error() && !error.is_io_error();
                    if failure.as_ref().is_none_or(better) {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure
            .unwrap_or_else(|| (ErrorKind::EmptySentinelList, "no sentinel is known").into()))
    }

    /// Calls `changed` whenever another server than the one in use is in charge. Does not end.
    pub async fn watch(&self, settings: &Settings, changed: impl Fn()) {
        let watches = settings.addresses.iter().map(async |sentinel| {
            loop {
                let Err(error) = self.listen(sentinel, settings, &changed).await;
                let Address { host, port } = sentinel;
                // Another sentinel may do as well, but not if none of them may be listened to.
                let pause = match error.is_io_error() {
                    true => {
                        tracing::debug!(target: "dapr.contrib", "redis sentinel {host}:{port} is not there: {error}");
                        PAUSE
                    }
                    false => {
                        tracing::warn!(
                            target: "dapr.contrib",
                            "redis sentinel {host}:{port} does not tell of changes, which will be noticed late: {error}"
                        );
                        SILENCE
                    }
                };
                tokio::time::sleep(pause).await;
            }
        });
        join_all(watches).await;
    }

    async fn listen(
        &self,
        sentinel: &Address,
        settings: &Settings,
        changed: &impl Fn(),
    ) -> RedisResult<Infallible> {
        let mut changes = servers::listen(sentinel, settings, CHANGES).await?;
        let mut connection = servers::sentinel(sentinel, settings).await?;
        loop {
            // Also at first: it may have changed before anybody listened.
            self.compare(ask(&mut connection, settings).await?, changed);
            let Ok(message) = tokio::time::timeout(SILENCE, changes.next()).await else {
                continue;
            };
            let words: String = match message {
                Some(message) => message.get_payload()?,
                None => return Err((ErrorKind::Io, "the connection has ended").into()),
            };
            if let Some((name, new)) = change(&words)
                && name == settings.master_name
            {
                self.compare(new, changed);
            }
        }
    }

    fn compare(&self, address: Address, changed: &impl Fn()) {
        let known = self.named.lock().replace(address.clone());
        if known.is_some_and(|known| known != address) {
            changed();
        }
    }
}

/// The name, and the address that is in charge of it now.
fn change(words: &str) -> Option<(&str, Address)> {
    let mut words = words.split(' ');
    let name = words.next()?;
    let (host, port) = (words.nth(2)?, words.next()?);
    let (host, port) = (host.to_owned(), port.parse().ok()?);
    Some((name, Address { host, port }))
}

async fn through(
    sentinel: &Address,
    settings: &Settings,
    patience: Option<Duration>,
) -> RedisResult<(Address, MultiplexedConnection)> {
    let mut connection = servers::sentinel(sentinel, settings).await?;
    let address = ask(&mut connection, settings).await?;
    let mut master = servers::single(&address, settings, patience).await?;
    match is_in_charge(&mut master).await? {
        true => Ok((address, master)),
        false => {
            let what = "the server that the sentinel names is not in charge yet";
            let kind = ErrorKind::Server(ServerErrorKind::MasterDown);
            Err((kind, what, format!("{}:{}", address.host, address.port)).into())
        }
    }
}

async fn ask(sentinel: &mut MultiplexedConnection, settings: &Settings) -> RedisResult<Address> {
    let name = &settings.master_name;
    let answer: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(name)
        .query_async(sentinel)
        .await?;
    let what = "the sentinel knows no server of this name";
    let kind = ErrorKind::MasterNameNotFoundBySentinel;
    answer
        .map(|(host, port)| Address { host, port })
        .ok_or_else(|| (kind, what, name.to_owned()).into())
}

/// Users who must not ask take the sentinel's word for it, and learn it from their first write.
async fn is_in_charge(server: &mut MultiplexedConnection) -> RedisResult<bool> {
    match redis::cmd("ROLE").query_async::<Vec<Value>>(server).await {
        Ok(answer) => {
            let role = answer.into_iter().next().unwrap_or(Value::Nil);
            Ok(redis::from_redis_value::<String>(role)? == "master")
        }
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_name_the_new_server_last() {
        let (name, address) = change("main 10.0.0.1 6379 10.0.0.2 6380").unwrap();
        assert_eq!(
            (name, &*address.host, address.port),
            ("main", "10.0.0.2", 6380)
        );
        for other in ["", "main", "main a 1 b", "main a 1 b x"] {
            assert!(change(other).is_none(), "{other}");
        }
    }
}
