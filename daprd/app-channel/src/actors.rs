//! Actors that an HTTP app hosts: what it says of them, and the calls that it gets (contract 2.4, 11.1).

use ::http::{HeaderMap, HeaderValue, Method, Response, header};
use bytes::Bytes;
use serde::Deserialize;

use crate::{AppChannel, Error};

/// What `/dapr/config` says (contract 2.5). Durations are Go's, and read by whoever needs them.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct ActorConfig {
    pub entities: Vec<String>,
    pub actor_idle_timeout: String,
    pub drain_ongoing_call_timeout: String,
    pub drain_rebalanced_actors: Option<bool>,
    pub reentrancy: Reentrancy,
    pub entities_config: Vec<EntityConfig>,
}

/// What holds for some types only.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct EntityConfig {
    pub entities: Vec<String>,
    pub actor_idle_timeout: String,
    pub drain_ongoing_call_timeout: String,
    pub drain_rebalanced_actors: Option<bool>,
    pub reentrancy: Reentrancy,
}

/// Whether a chain of calls may come back to an actor that it is at.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct Reentrancy {
    pub enabled: bool,
    pub max_stack_depth: Option<i32>,
}

impl AppChannel {
    /// Asks an HTTP app for its configuration (contract 2.5); one without has the default.
    ///
    /// # Errors
    /// As [`AppChannel::exchange`].
    pub async fn actor_config(&self) -> Result<ActorConfig, Error> {
        if !self.is_configured() || self.protocol().is_grpc() {
            return Ok(ActorConfig::default());
        }
        let headers = self.app_id_header();
        let answer = self
            .exchange(Method::GET, "/dapr/config", headers, Bytes::new())
            .await?;
        if answer.status() != ::http::StatusCode::OK || answer.body().is_empty() {
            return Ok(ActorConfig::default());
        }
        let malformed = |problem: String| Error::Malformed {
            what: "configuration of the app",
            problem,
        };
        let text =
            std::str::from_utf8(answer.body()).map_err(|error| malformed(error.to_string()))?;
        values::json::read_first(text).map_err(|error| malformed(error.to_string()))
    }

    /// Calls a method of an actor, or fires what `method` names: `remind/<name>`, `timer/<name>`.
    ///
    /// # Errors
    /// As [`AppChannel::exchange`].
    pub async fn call_actor(
        &self,
        kind: &str,
        id: &str,
        method: &str,
        query: &str,
        headers: HeaderMap,
        data: Bytes,
    ) -> Result<Response<Bytes>, Error> {
        let mut path = format!(
            "/actors/{}/{}/method/{}",
            escaped(kind),
            escaped(id),
            escaped(method)
        );
        if !query.is_empty() {
            path.push('?');
            path.push_str(query);
        }
        self.exchange(Method::PUT, &path, headers, data).await
    }

    /// Says that an actor is hosted here no more.
    ///
    /// # Errors
    /// As [`AppChannel::exchange`].
    pub async fn deactivate_actor(&self, kind: &str, id: &str) -> Result<Response<Bytes>, Error> {
        let path = format!("/actors/{}/{}", escaped(kind), escaped(id));
        let mut headers = HeaderMap::new();
        let proto = HeaderValue::from_static("application/x-protobuf");
        headers.insert(header::CONTENT_TYPE, proto);
        self.exchange(Method::DELETE, &path, headers, Bytes::new())
            .await
    }
}

/// A part of a path. What may stand there stays as it is; a slash only comes with methods, which are normalised.
fn escaped(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~$&+,/:;=@!'()*[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_their_part_of_the_path() {
        assert_eq!(escaped("a-b_c.d~1:2"), "a-b_c.d~1:2");
        assert_eq!(escaped("a b?c#d%é"), "a%20b%3Fc%23d%25%C3%A9");
    }

    #[test]
    fn the_configuration_is_read_as_go_reads_it() {
        let text = r#"{"Entities":["a"],"actoridletimeout":"1h","entitiesConfig":[{"entities":["a"],
            "reentrancy":{"enabled":true,"maxStackDepth":3}}],"remindersStoragePartitions":7}"#;
        let config: ActorConfig = values::json::read_first(text).unwrap();
        assert_eq!(config.entities, ["a"]);
        assert_eq!(config.actor_idle_timeout, "1h");
        let own = &config.entities_config[0];
        assert_eq!(own.reentrancy.max_stack_depth, Some(3));
    }
}
