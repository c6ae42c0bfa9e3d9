//! Notifications of the key space: which keys have changed, from every server that has keys. What has changed is read when
//! whoever follows has room for it, so of many changes of a key the last one is told, and what waits is a set of keys.

use std::{collections::BTreeSet, time::Duration};

use component::configuration::{Item, Items, UpdateSender};
use futures::{StreamExt, stream::SelectAll};
use redis::{
    RedisResult, Value,
    aio::{PubSubSink, PubSubStream},
};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use values::Pauses;

use super::read;
use crate::{
    client::{Client, Request},
    listing,
    metadata::{Address, Topology},
    servers,
};

/// What a server has to tell of: the key space (`K`), generic commands (`g`), texts (`$`), expiry (`x`), eviction (`e`).
const EVENTS: &str = "Kg$xe";

/// Most changed keys that wait to be read. Beyond that, changes are lost, with a warning.
const MOST_CHANGED: usize = 10_000;

/// Most keys that are remembered for whoever follows all. That another one has been deleted during a gap is not told.
const MOST_KNOWN: usize = 100_000;

/// How often a server is asked whether the connection is alive: one that only listens does not notice.
const PROBE: Duration = Duration::from_secs(15);

/// Longest wait for its answer.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Pauses after failures, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Connections to all servers that have keys, and how often another server had been put in charge when they were made.
pub struct Listening {
    sinks: Vec<PubSubSink>,
    messages: SelectAll<PubSubStream>,
    servers: usize,
    changes: u64,
}

/// Follows keys until nobody is told any more.
pub struct Follower {
    client: Client,
    /// None for all.
    keys: Vec<String>,
    prefix: String,
    sender: UpdateSender,
    changed: BTreeSet<String>,
    /// Of all keys, those that have been told with a value, so that after a gap they can be told to be gone.
    known: BTreeSet<String>,
}

impl Follower {
    pub fn new(client: Client, keys: Vec<String>, sender: UpdateSender) -> Self {
        Self {
            prefix: format!("__keyspace@{}__:", client.settings().database),
            client,
            keys,
            sender,
            changed: BTreeSet::new(),
            known: BTreeSet::new(),
        }
    }

    /// Listens to every server that has keys.
    ///
    /// # Errors
    /// Where one of them cannot be reached.
    pub async fn listen(&self) -> RedisResult<Listening> {
        let changes = self.client.changes();
        let settings = self.client.settings();
        let addresses = match settings.topology {
            Topology::Node => vec![settings.addresses[0].clone()],
            Topology::Sentinel => vec![self.client.in_charge().await?],
            Topology::Cluster => self.members().await?,
        };
        let mut listening = Listening {
            sinks: Vec::with_capacity(addresses.len()),
            messages: SelectAll::new(),
            servers: addresses.len(),
            changes,
        };
        self.switch_on().await;
        for address in &addresses {
            let (mut sink, messages) = servers::subscriber(address, settings).await?.split();
            if self.keys.is_empty() {
                sink.psubscribe(format!("{}*", self.prefix)).await?;
            } else {
                let channels = self.keys.iter().map(|key| format!("{}{key}", self.prefix));
                sink.subscribe(channels.collect::<Vec<_>>()).await?;
            }
            listening.sinks.push(sink);
            listening.messages.push(messages);
        }
        Ok(listening)
    }

    /// Every server of a cluster that has keys.
    async fn members(&self) -> RedisResult<Vec<Address>> {
        let ping = redis::cmd("PING");
        let answers: Vec<(String, Value)> = self.client.query(Request::Everywhere(&ping)).await?;
        let addresses = answers.iter().map(|(server, _)| Address::of_server(server));
        let addresses: component::Result<Vec<_>> = addresses.collect();
        addresses.map_err(|error| {
            (
                redis::ErrorKind::UnexpectedReturnType,
                "a server",
                error.to_string(),
            )
                .into()
        })
    }

    /// Has the servers notify, beside what they are configured to notify of already: Q-redis-notify. Users who may not
    /// configure a server have to do it themselves.
    async fn switch_on(&self) {
        const FIELD: &str = "notify-keyspace-events";
        let mut ask = redis::cmd("CONFIG");
        ask.arg("GET").arg(FIELD);
        let cluster = self.client.settings().topology == Topology::Cluster;
        let known: RedisResult<Vec<String>> = match cluster {
            // Each server may differ; what is asked for here is what they need.
            true => Ok(Vec::new()),
            false => self.client.query(&ask).await,
        };
        let mut events = known.unwrap_or_default().pop().unwrap_or_default();
        events.extend(
            EVENTS
                .chars()
                .filter(|it| !events.contains(*it))
                .collect::<Vec<_>>(),
        );
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg(FIELD).arg(&events);
        let answer: RedisResult<Value> = match cluster {
            true => self.client.query(Request::Everywhere(&set)).await,
            false => self.client.query(&set).await,
        };
        if let Err(error) = answer {
            tracing::warn!(
                target: "dapr.contrib",
                "redis: {FIELD} has to contain {EVENTS} for keys to be followed, and could not be set: {error}"
            );
        }
    }

    /// Tells of changes for as long as somebody follows. After a broken connection the followed keys are told again, for
    /// they may have changed meanwhile; of all keys those that there are, and those told before that are gone.
    pub async fn run(mut self, first: Listening) {
        let mut listening = Some(first);
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let sender = self.sender.clone();
            let broken = match listening.take() {
                Some(open) => tokio::select! {
                    () = sender.closed() => return,
                    problem = self.follow(open) => problem,
                },
                None => match self.catch_up().await {
                    Ok(open) => {
                        pauses.reset();
                        listening = Some(open);
                        continue;
                    }
                    Err(problem) => problem,
                },
            };
            tracing::warn!(target: "dapr.contrib", "redis: changed keys are not heard of: {broken}");
            tokio::select! {
                () = sender.closed() => return,
                () = sleep(pauses.pause()) => {}
            }
        }
    }

    /// Listens again, then has told what may have changed since.
    async fn catch_up(&mut self) -> Result<Listening, String> {
        let listening = self.listen().await.map_err(|error| error.to_string())?;
        if self.keys.is_empty() {
            let all = listing::keys(&self.client, "*").await;
            let all = all.map_err(|error| component::error::chain(&error))?;
            let known = self.known.iter().cloned();
            self.changed.extend(all.into_iter().chain(known));
        } else {
            self.changed.extend(self.keys.iter().cloned());
        }
        Ok(listening)
    }

    /// Follows until a connection breaks; answers why.
    async fn follow(&mut self, mut listening: Listening) -> String {
        let mut probe = interval(PROBE);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        probe.reset();
        let sender = self.sender.clone();
        loop {
            tokio::select! {
                biased;
                message = listening.messages.next() => match message {
                    Some(message) => self.note(message.get_channel_name()),
                    None => return "the connection has ended".to_owned(),
                },
                Some(room) = sender.ready(), if !self.changed.is_empty() => {
                    let Some(key) = self.changed.pop_first() else { continue };
                    match read(&self.client, std::slice::from_ref(&key)).await {
                        Ok(items) => {
                            self.remember(&key, &items);
                            room.send(told(key, items));
                        }
                        Err(error) => {
                            self.changed.insert(key);
                            return component::error::chain(&error);
                        }
                    }
                }
                _ = probe.tick() => {
                    if self.client.changes() != listening.changes {
                        return "another server is in charge".to_owned();
                    }
                    if let Some(problem) = listening.probe().await {
                        return problem;
                    }
                }
            }
            if listening.messages.len() < listening.servers {
                return "a connection has ended".to_owned();
            }
        }
    }

    fn remember(&mut self, key: &str, items: &Items) {
        if items.is_empty() {
            self.known.remove(key);
        } else if self.keys.is_empty() && self.known.len() < MOST_KNOWN {
            self.known.insert(key.to_owned());
        }
    }

    fn note(&mut self, channel: &str) {
        let Some(key) = channel.strip_prefix(&self.prefix) else {
            return;
        };
        if self.changed.len() < MOST_CHANGED {
            self.changed.insert(key.to_owned());
        } else if !self.changed.contains(key) {
            tracing::warn!(
                target: "dapr.contrib",
                "redis: the change of a key is not told, for {MOST_CHANGED} others wait"
            );
        }
    }
}

impl Listening {
    /// Why a connection is dead, if one is.
    async fn probe(&mut self) -> Option<String> {
        for sink in &mut self.sinks {
            match timeout(PROBE_LIMIT, sink.ping::<Value>()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Some(error.to_string()),
                Err(_) => return Some("the server does not answer".to_owned()),
            }
        }
        None
    }
}

/// A key that is gone is told as one without a value.
fn told(key: String, items: Items) -> Items {
    match items.is_empty() {
        true => Items::from([(key, Item::default())]),
        false => items,
    }
}
