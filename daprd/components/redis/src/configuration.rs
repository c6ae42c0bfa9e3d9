//! `configuration.redis`: plain values, `value||version`, as upstream keeps them. Changes are heard of through the server's
//! notifications of its key space.

mod notices;

use async_trait::async_trait;
use component::{
    Component, Configuration, Open, Result, Scope,
    configuration::{Item, Items, Request, Updates, updates},
    fields::Fields,
};
use redis::{RedisError, ServerErrorKind};

use crate::{
    client::{Client, failure},
    listing,
    metadata::{Declared, Plain, Settings},
};
use notices::Follower;

/// Between a value and its version.
const SEPARATOR: &str = "||";

/// Updates that wait for whoever follows; what changes meanwhile is read once there is room.
const QUEUED: usize = 16;

/// All fields of the configuration store.
pub fn fields() -> Fields {
    Declared::fields().and(Plain::fields())
}

/// Configuration on a Redis server.
pub struct Redis {
    client: Client,
    scope: Scope,
}

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// Wrong metadata, or a server that cannot be reached.
    pub async fn open(open: Open) -> Result<Self> {
        let settings = Settings::plain(&open.metadata)?;
        let client = Client::open(settings, &open.name, &open.tasks).await?;
        Ok(Self {
            client,
            scope: open.scope,
        })
    }
}

/// The items of these keys. Keys that are absent, empty or no texts are left out.
async fn read(client: &Client, keys: &[String]) -> Result<Items> {
    let mut items = Items::new();
    for key in keys {
        let value: redis::RedisResult<Option<Vec<u8>>> =
            client.query(redis::cmd("GET").arg(key)).await;
        match value {
            Ok(value) => {
                let item = value.map(|value| item(&String::from_utf8_lossy(&value)));
                if let Some(item) = item.filter(|item| !item.value.is_empty()) {
                    items.insert(key.clone(), item);
                }
            }
            Err(error) if is_wrong_type(&error) => {
                tracing::warn!(target: "dapr.contrib", "redis key {key} holds no text, and is left out");
            }
            Err(error) => {
                let what = format!("fail to get configuration for redis key={key}");
                return Err(failure(&what, error));
            }
        }
    }
    Ok(items)
}

/// `value||version`; what follows a second separator is nothing.
fn item(text: &str) -> Item {
    let mut parts = text.split(SEPARATOR).map(str::to_owned);
    Item {
        value: parts.next().unwrap_or_default(),
        version: parts.next().unwrap_or_default(),
        metadata: Default::default(),
    }
}

fn is_wrong_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
        || error.kind() == redis::ErrorKind::Server(ServerErrorKind::ResponseError)
            && error
                .detail()
                .is_some_and(|detail| detail.contains("WRONGTYPE"))
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.scope.end();
        self.client.close();
    }
}

#[async_trait]
impl Configuration for Redis {
    async fn get(&self, request: &Request) -> Result<Items> {
        if !request.keys.is_empty() {
            return read(&self.client, &request.keys).await;
        }
        let mut all = listing::keys(&self.client, "*").await?;
        all.sort_unstable();
        // A scan may name a key twice.
        all.dedup();
        read(&self.client, &all).await
    }

    async fn subscribe(&self, request: &Request) -> Result<Updates> {
        let (sender, updates) = updates(QUEUED);
        let follower = Follower::new(self.client.clone(), request.keys.clone(), sender);
        let first = follower.listen().await;
        let first = first.map_err(|error| failure("failed to follow keys", error))?;
        self.scope.spawn(follower.run(first));
        Ok(updates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_have_a_version() {
        let parts = |text| {
            let item = item(text);
            (item.value, item.version)
        };
        let pair = |value: &str, version: &str| (value.to_owned(), version.to_owned());
        assert_eq!(parts("v"), pair("v", ""));
        assert_eq!(parts("v||2"), pair("v", "2"));
        assert_eq!(parts("v||2||x"), pair("v", "2"));
        assert_eq!(parts("||2"), pair("", "2"));
    }
}
