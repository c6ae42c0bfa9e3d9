//! `bindings.redis`: keys that are written, read, deleted and counted up.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Component, Error, Open, OutputBinding, Result,
    bindings::{InvokeRequest, InvokeResponse},
    fields::Fields,
};
use redis::Value;
use values::GoDuration;

use crate::{
    client::{Client, Request, failure},
    metadata::{Declared, Plain, Settings},
};

/// All fields of the binding.
pub fn fields() -> Fields {
    Declared::fields().and(Plain::fields())
}

/// A binding to a Redis server.
pub struct Redis {
    client: Client,
}

impl Redis {
    /// Connects.
    ///
    /// # Errors
    /// Wrong metadata, or a server that cannot be reached.
    pub async fn open(open: Open) -> Result<Self> {
        let settings = Settings::plain(&open.metadata)?;
        let client = Client::open(settings, &open.name, &open.tasks).await?;
        Ok(Self { client })
    }

    async fn run<'a, T: redis::FromRedisValue>(
        &self,
        operation: &str,
        request: impl Into<Request<'a>>,
    ) -> Result<T> {
        let answer = self.client.query(request).await;
        answer.map_err(|error| failure(&format!("redis binding: failed to {operation}"), error))
    }

    /// Writes a key and how long it lives, as one.
    async fn create(&self, key: &str, request: &InvokeRequest) -> Result<()> {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(&request.data[..]);
        if let Some(ttl) = ttl(request)? {
            set.arg("EX").arg(seconds(ttl));
        }
        self.run::<Value>("create", &set).await.map(drop)
    }

    async fn increment(&self, key: &str, request: &InvokeRequest) -> Result<()> {
        let Some(ttl) = ttl(request)? else {
            let increment = redis::cmd("INCR").arg(key).clone();
            return self.run::<Value>("increment", &increment).await.map(drop);
        };
        let mut both = redis::pipe();
        both.atomic().cmd("INCR").arg(key);
        both.cmd("EXPIRE").arg(key).arg(seconds(ttl));
        let request = Request::Pipeline(&both);
        self.run::<Value>("increment", request).await.map(drop)
    }

    async fn get(&self, key: &str, request: &InvokeRequest) -> Result<InvokeResponse> {
        let delete = request
            .metadata
            .get("delete")
            .is_some_and(|it| it == "true");
        let get = redis::cmd(if delete { "GETDEL" } else { "GET" })
            .arg(key)
            .clone();
        let data: Option<Vec<u8>> = self.run("get", &get).await?;
        Ok(InvokeResponse {
            data: Some(Bytes::from(data.unwrap_or_default())),
            ..InvokeResponse::default()
        })
    }
}

/// Whole seconds; what lives for less than one is gone at the next.
fn seconds(ttl: Duration) -> u64 {
    ttl.as_secs().max(1)
}

/// How long a key lives, from the request: a duration, or whole seconds.
fn ttl(request: &InvokeRequest) -> Result<Option<Duration>> {
    const NAMES: [&str; 2] = ["ttl", "ttlInSeconds"];
    let named =
        |(name, _): &(&String, &String)| NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
    let found = request.metadata.iter().find(named);
    let Some((_, text)) = found.filter(|(_, text)| !text.is_empty()) else {
        return Ok(None);
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(Error::invalid_request(format!(
                "ttl value must be higher than zero: actual is '{seconds}'"
            ))),
        };
    }
    match text.parse::<GoDuration>() {
        Ok(duration) => Ok(Some(duration.to_std().unwrap_or_default())),
        Err(_) => Err(Error::invalid_request(format!(
            "ttl value must be a valid integer: actual is '{text}'"
        ))),
    }
}

#[async_trait]
impl Component for Redis {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn close(&self) {
        self.client.close();
    }
}

#[async_trait]
impl OutputBinding for Redis {
    fn operations(&self) -> Vec<String> {
        ["create", "delete", "get", "increment"]
            .map(str::to_owned)
            .into()
    }

    async fn invoke(&self, request: &InvokeRequest) -> Result<InvokeResponse> {
        let key = request.metadata.get("key").filter(|key| !key.is_empty());
        let Some(key) = key else {
            let problem = "redis binding: missing key in request metadata";
            return Err(Error::invalid_request(problem));
        };
        match request.operation.as_str() {
            "get" => return self.get(key, request).await,
            "create" => self.create(key, request).await?,
            "increment" => self.increment(key, request).await?,
            "delete" => {
                let delete = redis::cmd("DEL").arg(key).clone();
                self.run::<Value>("delete", &delete).await?;
            }
            other => {
                let problem = format!("invalid operation type: {other}");
                return Err(Error::invalid_request(problem));
            }
        }
        Ok(InvokeResponse::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_durations_or_whole_seconds() {
        let of = |name: &str, text: &str| {
            ttl(&InvokeRequest {
                metadata: [(name.to_owned(), text.to_owned())].into(),
                ..InvokeRequest::default()
            })
        };
        assert_eq!(
            of("ttlInSeconds", "5").unwrap(),
            Some(Duration::from_secs(5))
        );
        assert_eq!(of("TTL", "2m").unwrap(), Some(Duration::from_secs(120)));
        assert_eq!(of("ttl", "").unwrap(), None);
        assert_eq!(of("other", "5").unwrap(), None);
        for wrong in ["0", "-1", "soon"] {
            assert!(of("ttlInSeconds", wrong).is_err(), "{wrong}");
        }
    }
}
